"""A state being written, and what the rules of the state machine are given."""

from dataclasses import dataclass, field

from starling.coordinator.chain.state.state_table import StateReader
from starling.protocol.chain.genesis import Genesis
from starling.protocol.ids import ChainId, DeviceId, Digest, PublicKey, TaskId, Version

Changes = dict[bytes, bytes | None]
"""Written keys and their values; None removes a key."""


@dataclass(frozen=True)
class BlockContext:
    """The block that a transaction stands in, as far as rules may look.

    Attributes:
      genesis: What the chain started from.
      chain_id: Its hash.
      height: Of the block.
      proposer: Who made it, as a place in its height's validator set.
      time_ms: Of its header: the median of the votes for its parent, in Unix
        milliseconds; it never goes back, and f liars do not move it.
    """

    genesis: Genesis
    chain_id: ChainId
    height: int
    proposer: int
    time_ms: int


@dataclass(frozen=True)
class JobCut:
    """A buffer was cut: this version of this task is to be computed."""

    task: TaskId
    version: Version


@dataclass(frozen=True)
class VersionFinal:
    """A quorum attested the same digest: the version is final."""

    task: TaskId
    version: Version
    digest: Digest


@dataclass(frozen=True)
class AttestationsSplit:
    """Event: no digest of a version can get a quorum any more."""

    task: TaskId
    version: Version


@dataclass(frozen=True)
class TaskOpened:
    """A task was published."""

    task: TaskId


@dataclass(frozen=True)
class BoardChanged:
    """A board was registered or revoked."""

    board: bytes


@dataclass(frozen=True)
class AttestationOutvoted:
    """A validator attested another version than the one that is final."""

    task: TaskId
    version: Version
    validator: PublicKey


@dataclass(frozen=True)
class ValidatorsChanged:
    """Another validator set decides from a height on."""

    height: int


@dataclass(frozen=True)
class LossKnown:
    """A quorum stated its held-out losses of a version."""

    task: TaskId
    version: Version


@dataclass(frozen=True)
class TaskResumed:
    """An operator lets a paused task go on."""

    task: TaskId


@dataclass(frozen=True)
class TaskClosed:
    """An operator ended a task."""

    task: TaskId


@dataclass(frozen=True)
class ScoresKnown:
    """A quorum scored a version's updates."""

    task: TaskId
    version: Version


@dataclass(frozen=True)
class BoardQuarantined:
    """The scores of a board's updates speak against it: it gets no lease for now."""

    board: DeviceId


ChainEvent = (
    JobCut
    | AttestationsSplit
    | VersionFinal
    | TaskOpened
    | BoardChanged
    | AttestationOutvoted
    | ValidatorsChanged
    | LossKnown
    | TaskResumed
    | TaskClosed
    | ScoresKnown
    | BoardQuarantined
)
"""What a block changed that others act upon."""


@dataclass
class StateOverlay:
    """A state over another one; reads fall through to it.

    Attributes:
      below: The state before.
      changes: What was written over it.
      happenings: In order.
    """

    below: StateReader
    changes: Changes = field(default_factory=dict)
    happenings: list[ChainEvent] = field(default_factory=list)

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, or None."""
        # By presence and not by value: a written None hides what is below.
        if key in self.changes:
            return self.changes[key]
        return self.below.get(key)

    def put(self, key: bytes, value: bytes | None) -> None:
        """Writes a key; None removes it."""
        self.changes[key] = value

    def happen(self, happening: ChainEvent) -> None:
        """Notes what others act upon."""
        self.happenings.append(happening)
