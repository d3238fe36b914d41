"""The world of a coordinator, as its event loop sees it.

Processes give it a clock, MQTT, SQLite and threads (`coordinator.runtime`), virtual
fleets give it memory and virtual time (`fleet.virtual`), and simulations give it memory
that may lose its power between any two calls (`tests/sim/simulator`).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from starling.broker.link_events import (
    AckToken,
    LinkDisconnected,
    LinkEvent,
    MqttMessage,
)
from starling.coordinator.aggregation.strategy import (
    ModelState,
    PackedModel,
    WeightedUpdate,
)
from starling.coordinator.aggregation.version_computation import Fetch, recompute
from starling.coordinator.availability.bundle_examination import examined
from starling.coordinator.chain.node.node import JournalVote
from starling.coordinator.chain.state.task_records import AggregationJob
from starling.coordinator.chain.storage.chain_store import ChainStore
from starling.coordinator.loop.update_spans import CoordinatorSpans
from starling.coordinator.step.effects import (
    EvaluateVersion,
    LogLine,
    RecordRefusal,
    RemoveInboxFile,
    ScoreVersion,
)
from starling.coordinator.step.events import BundleExamined, Event
from starling.protocol.crypto.keys import OpeningKey
from starling.protocol.ids import Digest
from starling.protocol.learning.task import TaskSpec

Item = LinkEvent | Event
"""What the loop takes in: what happened on its own link, or an event of the core."""
Work = Callable[[], Event]
"""Computes away from the loop; may run on any thread, since it reads no store."""
KeepBlob = Callable[[bytes, Callable[[], None]], None]
"""Stores a whole now or later, and calls back when it is durable."""
Compute = Callable[
    [OpeningKey, TaskSpec, AggregationJob, ModelState, Fetch], PackedModel
]
Examine = Callable[[Digest, bytes | None], BundleExamined]


@dataclass(frozen=True)
class Clock:
    """The time.

    Attributes:
      now_s: Monotonic, in seconds.
      now_ms: Unix time, in milliseconds; for display.
    """

    now_s: Callable[[], float]
    now_ms: Callable[[], int]


class MessageBus(Protocol):
    """An open connection to a broker."""

    def publish(self, message: MqttMessage) -> int:
        """Hands a message over; the result is named by `Delivered`.

        Raises:
          TransportError: If the connection takes none now.
          LimitError: If the message is too long for it.
        """

    def acknowledge_many(self, tokens: Iterable[AckToken]) -> None:
        """Tells the broker that messages are safe."""


class VoteStore(Protocol):
    """Storage of own votes."""

    @property
    def entries(self) -> Sequence[bytes]:
        """Content when it was opened, in order."""

    def append(self, votes: Sequence[JournalVote], height: int) -> None:
        """Keeps votes durably; entries up to `height` may go.

        Raises:
          StorageError: If the disk refuses.
        """


class Inbox(Protocol):
    """The folder that operators drop commands into."""

    @property
    def due_s(self) -> float:
        """Time of the next look into it, by the loop's clock."""

    def fresh(self, keep: KeepBlob) -> Sequence[tuple[str, bytes]]:
        """Hands the blobs that were dropped to `keep`; reads the new transactions.

        Returns:
          Names of files and what they hold; each once.

        Raises:
          StorageError: If the disk refuses.
        """

    def settle(self, settled: RemoveInboxFile) -> None:
        """Removes a transaction's file; whoever dropped it is told of a refusal.

        Raises:
          StorageError: If the disk refuses.
        """


@dataclass(frozen=True)
class ScoringInputs:
    """Inputs of scoring a version's updates; they read no store.

    Attributes:
      asked: Which version.
      spec: The task.
      bundle: The packed bundle.
      theta: Of the version before, (d,) little-endian float32.
      opened: Opens the updates, in the order of the chain; raises `ProtocolError` if
        one does not open here.
    """

    asked: ScoreVersion
    spec: TaskSpec
    bundle: bytes
    theta: bytes
    opened: Callable[[], Sequence[WeightedUpdate]]


class JobExecutor(Protocol):
    """Carries out what takes longer than a turn; results come back as events."""

    @property
    def evaluates(self) -> bool:
        """True if there is held-out data; else no version is tried."""

    def aggregate(self, work: Work) -> None:
        """Runs an aggregation."""

    def examine(self, work: Work) -> None:
        """Runs the examination of a bundle."""

    def evaluate(self, asked: EvaluateVersion, bundle: bytes, inference: bytes) -> None:
        """Tries a version on held-out data.

        Args:
          asked: Which version.
          bundle: The packed bundle.
          inference: (d,) little-endian float32.
        """

    def score(self, inputs: ScoringInputs) -> None:
        """Scores a version's updates; called only where there is a root set."""


class LoopMonitor(Protocol):
    """Is told what people should know; it decides what becomes of that."""

    def answered(self, code: int) -> None:
        """The broker took or refused a message; see `Delivered`."""

    def connected(self) -> None:
        """The broker has us."""

    def disconnected(self, event: LinkDisconnected) -> None:
        """It has not.

        Raises:
          TransportError: If there will be no other attempt.
        """

    def refused(self, effect: RecordRefusal, peer: str) -> None:
        """Something was refused; `peer` names the coordinator that did it, if one."""

    def log(self, line: LogLine) -> None:
        """A line for people."""

    def warn(self, text: str) -> None:
        """A line for people about something that is wrong."""

    def versions_changed(self) -> None:
        """A version or its metrics were stored."""


@dataclass(frozen=True)
class LoopPorts:
    """The world of one coordinator, but for its bus, which is opened later.

    Attributes:
      clock: The time.
      store: The chain; the loop alone uses it.
      votes: Own votes.
      inbox: Of the operator.
      executor: For long work.
      monitor: Told what people should know.
      put: Hands the loop an event for its next turn.
      keep_fork: Makes a proof durable that more lied than are allowed for.
      compute: Makes a version from its job.
      examine: Checks a bundle as boards do.
      spans: Watches updates; None if nobody asked for that.
    """

    clock: Clock
    store: ChainStore
    votes: VoteStore
    inbox: Inbox
    executor: JobExecutor
    monitor: LoopMonitor
    put: Callable[[Event], None]
    keep_fork: Callable[[bytes], None]
    compute: Compute = recompute
    examine: Examine = examined
    spans: CoordinatorSpans | None = None
