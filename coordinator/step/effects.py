"""Effects of the coordinator: orders from the core to the runtime.

Within one step what makes something durable stands before the publishes it protects.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from starling.coordinator.aggregation.strategy import PackedModel
from starling.coordinator.chain.gossip_messages import FrameSubject
from starling.coordinator.chain.node import node
from starling.coordinator.chain.state.task_records import AggregationJob
from starling.coordinator.chain.storage.snapshot import SnapshotManifest
from starling.coordinator.chain.verification.receipt import Receipt
from starling.protocol.chain.light_client import ValidatorSetTransition
from starling.protocol.errors import Reason
from starling.protocol.ids import DeviceId, Digest, TaskId, Version
from starling.protocol.learning.task import ModelDigests
from starling.protocol.wire.envelope import Envelope


@dataclass(frozen=True, slots=True)
class StoreUpload:
    """Persist: an admitted update with its blob."""

    transaction: Digest
    update: Envelope
    blob: bytes


@dataclass(frozen=True)
class StoreModel:
    """Persist: the bytes of a version that we are about to attest."""

    task: TaskId
    version: Version
    model: PackedModel


@dataclass(frozen=True)
class StorePeerBlob:
    """Persist: a whole that another coordinator gave us.

    Attributes:
      digest: `H(content)`.
      content: The whole.
    """

    digest: Digest
    content: bytes


@dataclass(frozen=True)
class StoreDigests:
    """Persist: what a version consists of that we did not compute."""

    task: TaskId
    version: Version
    digests: ModelDigests


@dataclass(frozen=True)
class StoreVersion:
    """Persist: a version became final.

    Attributes:
      task: Which task.
      version: Which version.
      updates: How many updates made it; 0 for version 0.
      staleness_milli: Their mean staleness, in thousandths.
      charge_max: The largest total privacy charge of any board so far, in the units
        of `protocol.privacy.gaussian_dp`.
    """

    task: TaskId
    version: Version
    updates: int
    staleness_milli: int
    charge_max: int


@dataclass(frozen=True)
class StoreMetrics:
    """Persist: what an evaluation gave; of the best version also its proof."""

    task: TaskId
    version: Version
    accuracy: float | None
    loss: float
    proof: Receipt | None = None


@dataclass(frozen=True)
class StoreFailure:
    """Persist: a version could not be tried."""

    task: TaskId
    version: Version


@dataclass(frozen=True)
class KeepEvidence:
    """Persist: two updates of one board for one base version."""

    known: Digest
    other: Envelope


@dataclass(frozen=True)
class DropEvidence:
    """Persist: the chain will never take these two updates as evidence any more."""

    known: Digest
    other: Envelope


@dataclass(frozen=True)
class DropUpload:
    """Persist: the chain will never take this admitted update."""

    transaction: Digest


@dataclass(frozen=True)
class DropUploads:
    """Persist: updates of blocks up to this height were used long ago.

    Attributes:
      bytes_kept: What the vectors of all updates may take together before any goes.
    """

    height: int
    bytes_kept: int = 0


@dataclass(frozen=True)
class AdoptSnapshot:
    """Persist: the chain begins anew from here, and the core with it.

    Attributes:
      manifest: Of the snapshot, checked; `state` are all its entries.
      ends: The changes of the validator set until then.
    """

    manifest: SnapshotManifest
    ends: tuple[ValidatorSetTransition, ...]
    state: Mapping[bytes, bytes]


@dataclass(frozen=True)
class PruneBlocks:
    """Persist: transactions of blocks up to this height are no longer needed."""

    height: int


@dataclass(frozen=True)
class RemoveInboxFile:
    """A transaction stands in a durable block or is refused; its file may go.

    Attributes:
      name: Of the file.
      reason: Why it is refused, with `detail`; None if it is not.
      answer: What is left in its place; empty for nothing.
    """

    name: str
    reason: Reason | None = None
    detail: str = ""
    answer: bytes = b""


@dataclass(frozen=True)
class ComputeVersion:
    """Recompute a job, away from the loop; answered by `VersionComputed`.

    Attributes:
      task: Which task.
      version: Which version.
      job: What it is made of.
      keys: Content keys that our boxes do not give, by id of the update.
    """

    task: TaskId
    version: Version
    job: AggregationJob
    keys: Mapping[Digest, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluateVersion:
    """Try a version on held-out data, away from the loop."""

    task: TaskId
    version: Version
    inference: Digest
    bundle: Digest


@dataclass(frozen=True)
class ScoreVersion:
    """Score a job, at `theta`; answered by `VersionScored` or `ScoringFailed`."""

    task: TaskId
    version: Version
    job: AggregationJob
    theta: Digest
    bundle: Digest
    keys: Mapping[Digest, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class ExamineBundle:
    """Check a bundle as boards do, away from the loop; answered by `BundleExamined`."""

    bundle: Digest


@dataclass(frozen=True)
class FindMissingBlobs:
    """Look which of these blobs the store lacks; answered by `MissingBlobsFound`."""

    task: TaskId
    digests: tuple[Digest, ...]


@dataclass(frozen=True)
class LookUpUpdate:
    """Get an update from the store or the chain; answered by `UpdateLookedUp`."""

    known: Digest
    other: Envelope


@dataclass(frozen=True, slots=True)
class SendFrame:
    """Send a frame to one other coordinator."""

    to: DeviceId
    subject: FrameSubject
    content: bytes


@dataclass(frozen=True, slots=True)
class SendAnswer:
    """Send a coordinator that asked something from the store, if it is there.

    Attributes:
      to: Who asked.
      subject: For what.
      key: For which one.
      pieces: Which pieces of a long answer; none for all of it, or its first piece.
    """

    to: DeviceId
    subject: FrameSubject
    key: bytes
    pieces: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SendContentKey:
    """Pass the content key of an update, with its vector, if the store has that.

    Attributes:
      to: Who asked.
      box_for: X25519 key of who asked.
      content_key: If our own box does not give it.
      pieces: As in `SendAnswer`.
    """

    to: DeviceId
    update: Digest
    box_for: bytes
    content_key: bytes | None
    pieces: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SendMessage:
    """Send a message; `update`, for its trace, is the id of what it proves final."""

    topic: str
    payload: bytes
    retain: bool = False
    update: Digest | None = None


@dataclass(frozen=True, slots=True)
class PublishChunks:
    """Send chunks of a stored whole to one board, as differences if it has a `base`."""

    device: DeviceId
    digest: Digest
    indices: tuple[int, ...]
    base: Digest | None = None


@dataclass(frozen=True, slots=True)
class PublishFinality:
    """Prove to a board once more that its update stands in a block.

    Attributes:
      device: Whom to tell.
      transaction: Id of its update.
      counter: For the envelope that holds the proof.
    """

    device: DeviceId
    transaction: Digest
    counter: int


@dataclass(frozen=True, slots=True)
class RecordAcceptance:
    """Count: an update was taken."""

    device: DeviceId


@dataclass(frozen=True, slots=True)
class RecordRefusal:
    """Count and log: something was refused.

    Attributes:
      device: Whose it was; None for an operator's or a coordinator's.
      reason: Why.
      detail: For the log.
      peer: The coordinator whose it was; None for a board's or an operator's.
    """

    device: DeviceId | None
    reason: Reason
    detail: str
    peer: DeviceId | None = None


@dataclass(frozen=True, slots=True)
class RecordOverLimit:
    """Count, and log now and then: a message beyond a board's allowance was dropped."""

    device: DeviceId


@dataclass(frozen=True)
class LogLine:
    """Log: something that people want to know.

    Attributes:
      text: What.
      grave: Whether nothing goes on here before somebody has mended it.
      warns: Whether somebody should look at it.
    """

    text: str
    grave: bool = False
    warns: bool = False


StorageEffect = (
    StoreUpload
    | node.StoreBlock
    | StoreModel
    | StorePeerBlob
    | StoreDigests
    | StoreVersion
    | StoreMetrics
    | StoreFailure
    | KeepEvidence
    | DropEvidence
    | DropUpload
    | DropUploads
    | PruneBlocks
    | AdoptSnapshot
)
"""For the coordinator's store; votes and forks have files of their own."""

Effect = (
    StorageEffect
    | node.StoreFork
    | node.JournalVote
    | node.SendGossip
    | RemoveInboxFile
    | ComputeVersion
    | EvaluateVersion
    | ScoreVersion
    | ExamineBundle
    | FindMissingBlobs
    | LookUpUpdate
    | SendFrame
    | SendAnswer
    | SendContentKey
    | SendMessage
    | PublishChunks
    | PublishFinality
    | RecordAcceptance
    | RecordRefusal
    | RecordOverLimit
    | LogLine
)
