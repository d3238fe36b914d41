"""Events of a coordinator: facts in the past tense, from the runtime to the core."""

from dataclasses import dataclass

from starling.coordinator.aggregation.strategy import PackedModel
from starling.protocol.chain.update_scores import UpdateScore
from starling.protocol.ids import DeviceId, Digest, TaskId, Version
from starling.protocol.wire.envelope import Envelope


@dataclass(frozen=True, slots=True)
class ChunkArrived:
    """A board published a chunk of an upload."""

    device: DeviceId
    payload: bytes


@dataclass(frozen=True, slots=True)
class BoardMessageArrived:
    """A board published a signed message."""

    device: DeviceId
    payload: bytes


@dataclass(frozen=True, slots=True)
class BoardStateArrived:
    """A board's retained state, or its last will."""

    device: DeviceId
    payload: bytes


@dataclass(frozen=True, slots=True)
class PeerFrameArrived:
    """Another coordinator published gossip.

    Attributes:
      peer: On whose topic.
      payload: A packed `chain.gossip_messages.Frame`.
      elsewhere: From which other broker it came, counted from 1; 0 for the one that
        boards of ours are clients of.
    """

    peer: DeviceId
    payload: bytes
    elsewhere: int = 0


@dataclass(frozen=True, slots=True)
class TransactionArrived:
    """An operator put a transaction into the inbox.

    Attributes:
      name: Of the file, for `RemoveInboxFile`.
      content: The packed envelope.
    """

    name: str
    content: bytes


@dataclass(frozen=True)
class VersionComputed:
    """The job for one version was recomputed."""

    task: TaskId
    version: Version
    model: PackedModel


@dataclass(frozen=True)
class ComputationFailed:
    """A job could not be computed here; others may still do so.

    Attributes:
      task: Which task.
      version: Which version.
      detail: Why.
      uploads: Ids of updates that the store lacks.
      blobs: Digests of blobs that it lacks.
      closed: Ids of updates whose vectors do not open here.
    """

    task: TaskId
    version: Version
    detail: str
    uploads: tuple[Digest, ...] = ()
    blobs: tuple[Digest, ...] = ()
    closed: tuple[Digest, ...] = ()


@dataclass(frozen=True)
class MissingBlobsFound:
    """The store was searched; answers `FindMissingBlobs`.

    Attributes:
      task: For which task.
      absent: Digests of blobs that are not there.
    """

    task: TaskId
    absent: tuple[Digest, ...]


@dataclass(frozen=True)
class VersionEvaluated:
    """A final version was tried on held-out data.

    Attributes:
      task: Which task.
      version: Which version.
      accuracy: In [0, 1]; None for a loss without classes.
      loss: Mean over the held-out data.
    """

    task: TaskId
    version: Version
    accuracy: float | None
    loss: float


@dataclass(frozen=True)
class EvaluationFailed:
    """A final version could not be tried.

    Attributes:
      task: Which task.
      version: Which version.
      detail: Why.
    """

    task: TaskId
    version: Version
    detail: str


@dataclass(frozen=True)
class VersionScored:
    """A version's updates were scored on the root set.

    Attributes:
      task: Which task.
      version: Which version.
      values: One per update, in the order of the chain.
    """

    task: TaskId
    version: Version
    values: tuple[UpdateScore, ...]


@dataclass(frozen=True)
class ScoringFailed:
    """A version's updates could not be scored.

    Attributes:
      task: Which task.
      version: Which version.
      detail: Why.
    """

    task: TaskId
    version: Version
    detail: str


@dataclass(frozen=True)
class BundleExamined:
    """A bundle was examined; answers `ExamineBundle`.

    Attributes:
      bundle: Its digest.
      absent: It is not here.
      fault: Why no board would run it; empty for a sound one.
      dimension: Parameters of a sound one.
      size: Its length in bytes.
    """

    bundle: Digest
    absent: bool = False
    fault: str = ""
    dimension: int = 0
    size: int = 0


@dataclass(frozen=True)
class UpdateLookedUp:
    """The store was asked for an update; answers `LookUpUpdate`.

    Attributes:
      known: The update; None if it is not there any more.
      other: Of the same board, for the same base version.
    """

    known: Envelope | None
    other: Envelope


@dataclass(frozen=True)
class BusConnected:
    """The broker accepted us."""


@dataclass(frozen=True)
class BusDisconnected:
    """There is no connection to the broker."""


@dataclass(frozen=True)
class ClockTicked:
    """The time that `wake_at_s` asked for has come."""


@dataclass(frozen=True)
class UploadsQueued:
    """Uploads of boards came that are not looked at yet, or there are none any more."""

    waits: bool


Event = (
    ChunkArrived
    | BoardMessageArrived
    | BoardStateArrived
    | PeerFrameArrived
    | TransactionArrived
    | VersionComputed
    | ComputationFailed
    | MissingBlobsFound
    | UpdateLookedUp
    | VersionEvaluated
    | EvaluationFailed
    | VersionScored
    | ScoringFailed
    | BundleExamined
    | BusConnected
    | BusDisconnected
    | ClockTicked
    | UploadsQueued
)
