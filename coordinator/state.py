"""What a coordinator knows: frozen, and cheap to follow by another state.

Nothing here must survive a restart: what must is in the chain, in the uploads that were
stored before their receipts left, and in the vote journal. `coordinator.restart` makes
the first state from those.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from coordinator.admission import Gate
from coordinator.leases import LeaseTable
from coordinator.ledger.node import LedgerSettings, LedgerState
from coordinator.ledger.views import Job
from coordinator.selection import Selection
from protocol.chunks import Assembly
from protocol.envelope import CounterWindow
from protocol.ids import DeviceId, Digest, TaskId, Version, device_id, device_name
from protocol.messages import DevicePhase
from protocol.persistent import PersistentMap
from protocol.task import ModelDigests, TaskSpec
from protocol.topics import Topics

_NO_WINDOW = CounterWindow()


@dataclass(frozen=True)
class Settings:
    """What does not change while a coordinator runs.

    Attributes:
      ledger: The chain's settings, with our key.
      gate: What admission needs.
      topics: The fleet's topics.
      selection: Who gets the next lease.
      selection_seed: Secret; makes draws unpredictable.
      lease_s: How long a lease holds its place.
      chunks_per_s: Model chunks that one board may ask for, in the long run.
      chunks_burst: And at once.
      audit_blocks: Blocks for which the vectors of used updates are kept.
      tick_s: Longest time between two looks at the clock.
    """

    ledger: LedgerSettings
    gate: Gate
    topics: Topics
    selection: Selection
    selection_seed: bytes
    lease_s: int
    chunks_per_s: float
    chunks_burst: int
    audit_blocks: int = 1000
    tick_s: float = 1.0

    @property
    def name(self) -> str:
        """Our name in topics, and for the broker."""
        return device_name(device_id(self.ledger.key.public))


@dataclass(frozen=True)
class Session:
    """One enrolled board since we started.

    Attributes:
      said: Counters of its check-ins and requests.
      updates: Counters of its updates.
      assembly: The upload that is coming in; one at a time.
      phase: What it last showed.
      epsilon_micro: What it last showed.
      chunks: Model chunks that it may ask for now.
      chunks_at_s: When `chunks` was true.
    """

    said: Mapping[int, CounterWindow] = field(default_factory=dict)
    updates: CounterWindow = _NO_WINDOW
    assembly: Assembly | None = None
    phase: DevicePhase = DevicePhase.INIT
    epsilon_micro: int = 0
    chunks: float = 0.0
    chunks_at_s: float = float("-inf")


@dataclass(frozen=True)
class TaskState:
    """One task as far as we have brought it.

    Attributes:
      number: Which one.
      spec: As its operator signed it.
      head: Its newest final version.
      model: What the head consists of.
      leases: Who trains for it.
      attested: What we computed for the version after the head, if we have.
      wholes: What boards may pull: the bundle and the latest versions.
      job: What was handed out to be computed.
      failures: How often in a row the job could not be computed here.
      retry_at_s: When to hand the job out again; infinity while nothing failed.
    """

    number: TaskId
    spec: TaskSpec
    head: Version
    model: ModelDigests
    leases: LeaseTable
    attested: ModelDigests | None = None
    wholes: tuple[Digest, ...] = ()
    job: Job | None = None
    failures: int = 0
    retry_at_s: float = math.inf


@dataclass(frozen=True)
class Held:
    """An update that was admitted and is not in the chain yet."""

    transaction: Digest
    base: Version
    task: TaskId


@dataclass(frozen=True)
class CoordinatorState:
    """Everything.

    Attributes:
      ledger: The chain and its votes.
      counter: Counter of the next envelope that we sign; above all earlier ones.
      tasks: By number.
      sessions: By board.
      held: By `held_key`.
      inbox: File name by id of the transaction that came from it.
      charge_max: The largest total privacy charge of any board on the chain.
      connected: Whether the broker has us.
      wake_at_s: When to send `Ticked`.
    """

    ledger: LedgerState
    counter: int
    tasks: Mapping[TaskId, TaskState] = field(default_factory=dict)
    sessions: PersistentMap[Session] = field(default_factory=PersistentMap)
    held: PersistentMap[Held] = field(default_factory=PersistentMap)
    inbox: Mapping[Digest, str] = field(default_factory=dict)
    charge_max: int = 0
    connected: bool = False
    wake_at_s: float = 0.0


def held_key(device: DeviceId, task: int, base: int) -> bytes:
    """Where an admitted update of a board for a base version stands."""
    return device + task.to_bytes(4) + base.to_bytes(8)
