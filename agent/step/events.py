"""Events of the agent; the runtime makes them and calls `step`."""

from dataclasses import dataclass
from enum import Enum

from starling.agent.step.effects import SpoolEntry
from starling.protocol.ids import Digest
from starling.protocol.wire.health_messages import HealthRow


class FailureStage(Enum):
    """Stage in which a trainer failed."""

    MODEL = "model"
    """The graphs or parameters cannot be loaded here: the version is refused."""
    DATA = "data"
    """There are no data files: nothing works until there are."""
    TRAINING = "training"
    """Anything else, a crash or a time-out included: tried again later."""


@dataclass(frozen=True)
class BrokerConnected:
    """The broker took us; retained messages follow."""


@dataclass(frozen=True)
class BrokerDisconnected:
    """The broker is away; publishes not yet delivered are void."""


@dataclass(frozen=True)
class ManifestArrived:
    """A packed `protocol.chain.light_client.ModelManifest`, of any task, by anybody."""

    payload: bytes


@dataclass(frozen=True)
class ModelChunkArrived:
    """A packed `protocol.wire.chunks.Chunk` of a bundle or a model."""

    payload: bytes


@dataclass(frozen=True)
class DownArrived:
    """A packed envelope that claims to come from a coordinator."""

    payload: bytes


@dataclass(frozen=True)
class CoordinatorStateArrived:
    """A packed envelope with a coordinator's state."""

    payload: bytes


@dataclass(frozen=True)
class ChunkDelivered:
    """The broker answered a `PublishSpooled`, or it could not be sent.

    Attributes:
      update: Which update it is a part of.
      index: Which chunk.
      taken: Whether the broker has it now.
    """

    update: Digest
    index: int
    taken: bool


@dataclass(frozen=True)
class BrokerAnswered:
    """The broker answers publishes in another way than before.

    Attributes:
      code: MQTT's reason, if it refuses; 0 if it takes them.
    """

    code: int


@dataclass(frozen=True)
class LeaseRenewed:
    """The spool holds an update with another lease; answers `RenewLease`."""

    entry: SpoolEntry


@dataclass(frozen=True)
class BundleLoaded:
    """A subprocess loaded the bundle's graphs, and saw that there are data files.

    How many records they hold is not said: the core has no use for it.

    Attributes:
      bundle: Its digest.
    """

    bundle: Digest


@dataclass(frozen=True)
class LoadFailed:
    """The subprocess could not load a bundle, or there are no data files."""

    bundle: Digest
    stage: FailureStage
    detail: str


@dataclass(frozen=True)
class TrainerReady:
    """The trainer has tried the model, has touched no data, and waits."""


@dataclass(frozen=True)
class LabelsDrawn:
    """The trainer has drawn labels, has computed nothing from them, and waits.

    Attributes:
      batches: What it drew, packed `agent.privacy.label_entries.LabelBatch`es.
    """

    batches: tuple[bytes, ...]


@dataclass(frozen=True)
class TrainingFinished:
    """The trainer returned the noised and encoded vector.

    Attributes:
      payload: As the task's codec encodes it.
      entropy: 64 fresh secret random bytes, to seal it with.
    """

    payload: bytes
    entropy: bytes


@dataclass(frozen=True)
class TrainingFailed:
    """The trainer gave up, crashed, or was stopped at its time limit.

    Attributes:
      stage: Where.
      detail: For the operator.
      record: Number of the record at which it crashed, if it was at one.
    """

    stage: FailureStage
    detail: str
    record: int | None = None


@dataclass(frozen=True)
class DataChanged:
    """The data set's files are others than before."""


@dataclass(frozen=True)
class SpaceMeasured:
    """Free bytes on the disk of the agent's home."""

    free_bytes: int


@dataclass(frozen=True)
class ChecksFinished:
    """The board's checks have run; answers `RunChecks`.

    Attributes:
      rows: What they found.
    """

    rows: tuple[HealthRow, ...]


@dataclass(frozen=True)
class StopRequested:
    """The process is to end: what is finished is to be spooled before."""


@dataclass(frozen=True)
class WakeTimeReached:
    """Time went on; sent when `State.wake_at_s` has come."""


Event = (
    BrokerConnected
    | BrokerDisconnected
    | ManifestArrived
    | ModelChunkArrived
    | DownArrived
    | CoordinatorStateArrived
    | ChunkDelivered
    | BrokerAnswered
    | LeaseRenewed
    | BundleLoaded
    | LoadFailed
    | TrainerReady
    | LabelsDrawn
    | TrainingFinished
    | TrainingFailed
    | DataChanged
    | SpaceMeasured
    | ChecksFinished
    | StopRequested
    | WakeTimeReached
)
