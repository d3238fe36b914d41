"""Effects of the agent; the runtime carries them out in order before the next event.

An effect that persists stands before every effect that lets others see what it
protects. The runtime carries out each one completely (synced, where it writes) before
it begins the next, and none of the later ones if it cannot.
"""

from dataclasses import dataclass
from typing import Annotated

from starling.agent.training.trainer_messages import TrainingOrder
from starling.protocol.chain.light_client import TrustedState
from starling.protocol.ids import Digest, TaskId, Version
from starling.protocol.schema.msgpack_codec import Byte, Structure, uint
from starling.protocol.wire.envelope import Envelope
from starling.protocol.wire.message_bodies import UPLOAD_BYTES_MAX


class SpoolEntry(Structure, frozen=True):
    """An upload that waits in the spool until a proof lets it go.

    Attributes:
      task: Which task.
      base: Version that it was trained from; with `task` it names the file.
      update: Id of the UPDATE envelope inside.
      digest: H of the packed upload.
      size: Its length in bytes, at least 1.
      staleness_max: The task's; the upload is worthless beyond it.
    """

    task: TaskId
    base: Version
    update: Digest
    digest: Digest
    size: Annotated[int, uint(UPLOAD_BYTES_MAX, 1)]
    staleness_max: Byte


@dataclass(frozen=True)
class PersistTrust:
    """Remember whom we trust and the newest proven manifest.

    Attributes:
      trusted: The light client's state.
      manifest: The packed manifest.
    """

    trusted: TrustedState
    manifest: bytes


@dataclass(frozen=True)
class StoreBlob:
    """Keep a bundle or a model; `digest` is H of `content`."""

    digest: Digest
    content: bytes


@dataclass(frozen=True)
class KeepBlobs:
    """Remove every stored blob but these."""

    digests: frozenset[Digest]


@dataclass(frozen=True)
class AdoptModel:
    """Use this model for inference from now on.

    Attributes:
      version: Its version.
      bundle: Digest of the stored bundle whose `infer.onnx` runs it.
      inference: Digest of its stored parameters, (d,) little-endian float32.
    """

    version: Version
    bundle: Digest
    inference: Digest


@dataclass(frozen=True)
class LoadBundle:
    """Try a stored bundle in a subprocess; `BundleLoaded` or `LoadFailed` follows."""

    bundle: Digest


@dataclass(frozen=True)
class StartTraining:
    """Try a model in a subprocess; `TrainerReady` or `TrainingFailed` follows.

    Attributes:
      order: What to train.
      empty: Whether to train on no record: what was paid for did not come, and noise
        takes its place.
      skipped: Numbers of records at which trainers crashed; they count as none.
      label_losses: How often labels may have been drawn that the journal forgot.
    """

    order: TrainingOrder
    empty: bool = False
    skipped: tuple[int, ...] = ()
    label_losses: int = 0


@dataclass(frozen=True)
class Spend:
    """Append to the privacy ledger's journal and sync it."""

    entry: bytes


@dataclass(frozen=True)
class KeepLabels:
    """Append batches of drawn labels to the label journal and sync it: all or none."""

    batches: tuple[bytes, ...]


@dataclass(frozen=True)
class AdvanceBootCount:
    """Count the agent's starts from here, durably: counters up to it are used."""

    boot: int


@dataclass(frozen=True)
class ResumeTraining:
    """Let the trainer read the data; `TrainingFinished` or a failure follows."""


@dataclass(frozen=True)
class StopTraining:
    """End the trainer; no event follows."""

    why: str


@dataclass(frozen=True)
class SpoolUpload:
    """Write a packed `Upload` to the spool and sync it."""

    entry: SpoolEntry
    content: bytes


@dataclass(frozen=True)
class RenewLease:
    """Put another lease beside a spooled update; `LeaseRenewed` follows."""

    entry: SpoolEntry
    lease: Envelope


@dataclass(frozen=True)
class MarkAccepted:
    """Note that a coordinator has this upload; may be lost."""

    entry: SpoolEntry


@dataclass(frozen=True)
class KeepProof:
    """Keep the packed proof that an upload is final; may be lost."""

    entry: SpoolEntry
    proof: bytes


@dataclass(frozen=True)
class DeleteSpooled:
    """Remove an upload: it is proven final, or proven stale."""

    entry: SpoolEntry
    why: str


@dataclass(frozen=True)
class PublishBestEffort:
    """Publish a message if there is a connection; nothing reports its fate."""

    topic: str
    payload: bytes
    retain: bool = False


@dataclass(frozen=True)
class PublishSpooled:
    """Publish one chunk of a spooled upload; `ChunkDelivered` follows."""

    entry: SpoolEntry
    index: int


@dataclass(frozen=True)
class RunChecks:
    """Run the board's checks without its data; `ChecksFinished` follows."""


@dataclass(frozen=True)
class Note:
    """Tell the operator's log; `warns` if somebody should look at it."""

    text: str
    warns: bool = False


Effect = (
    PersistTrust
    | StoreBlob
    | KeepBlobs
    | AdoptModel
    | LoadBundle
    | StartTraining
    | Spend
    | KeepLabels
    | AdvanceBootCount
    | ResumeTraining
    | StopTraining
    | SpoolUpload
    | RenewLease
    | MarkAccepted
    | KeepProof
    | DeleteSpooled
    | PublishBestEffort
    | PublishSpooled
    | RunChecks
    | Note
)
