"""The loop around the core: takes events in batches and carries out their effects.

Of a batch first everything that must last is made durable, with one transaction of the
store and one sync of the journal; then messages are published; then what the broker
delivered is acknowledged. So nothing is told before it is certain, and nothing that was
acknowledged can be lost.

Whoever drives it calls `turn` with what came in, not later than `wake_at_s`.
"""

from collections.abc import Iterable, Sequence

from starling.broker.link_events import (
    AckToken,
    Delivered,
    LinkConnected,
    LinkDisconnected,
    MessageArrived,
    MqttMessage,
)
from starling.coordinator import machine
from starling.coordinator.loop.counters import CoordinatorCounters
from starling.coordinator.loop.effect_executor import CoordinatorEffectExecutor
from starling.coordinator.loop.messaging.inbound_events import InboundEvents
from starling.coordinator.loop.messaging.inbound_queue import InboundQueue
from starling.coordinator.loop.messaging.outbound_queue import OutboundQueue
from starling.coordinator.loop.ports import Item, LoopPorts, MessageBus
from starling.coordinator.loop.restored_state import restore, unevaluated
from starling.coordinator.loop.storage.persistence import Persistence
from starling.coordinator.models.best_version import LossRankings
from starling.coordinator.step.effects import Effect
from starling.coordinator.step.events import (
    BusConnected,
    BusDisconnected,
    ClockTicked,
    Event,
    TransactionArrived,
    UploadsQueued,
)
from starling.coordinator.step.state import CoordinatorSettings
from starling.coordinator.wire.lanes import PriorityLane
from starling.protocol.ids import TaskId

COUNTERS_PER_BOOT_BITS = 32
"""Envelope counters start anew above all earlier ones at each start."""
UPLOADS_S = 0.025
"""That uploads may take before votes, and what waits for the disk, get their turn."""
BLOCKS_SHARE = 0.125
"""Of the time that making blocks may take, up to `BLOCK_WAIT_MAX_S` between two: under
load a block costs little more with many updates than with few."""
BLOCK_WAIT_MAX_S = 0.25


def first_counter(boots: int) -> int:
    """The first counter of envelopes after so many starts."""
    return boots << COUNTERS_PER_BOOT_BITS


class CoordinatorLoop:
    """One coordinator, from its start to its end.

    Attributes:
      settings: Of the core.
      state: Of the core.
      tally: What was counted.
      incoming: Tells what may wait; any thread may ask it.
      will: The last will: what the broker is to say when our connection is lost.
    """

    def __init__(
        self,
        settings: CoordinatorSettings,
        ports: LoopPorts,
        counter: int,
        versions_kept: int,
        tally: CoordinatorCounters | None = None,
    ) -> None:
        """Reads what is stored; says nothing yet.

        Args:
          settings: Of the core.
          ports: The world.
          counter: From `first_counter`; above every counter that was signed with.
          versions_kept: Versions of a model whose bytes are kept.
          tally: Counters to go on with.

        Raises:
          StorageError: If what is stored is damaged, or the disk refuses.
        """
        now_s, now_ms = ports.clock.now_s(), ports.clock.now_ms()
        restored = restore(
            settings, ports.store, ports.votes.entries, counter + 1, now_s
        )
        self.settings = settings
        clock = ports.clock
        self.tally = tally or CoordinatorCounters(now_ms, clock.now_s)
        self.incoming = InboundEvents(settings, self.tally, clock.now_s)
        self._ports = ports
        self._spans = ports.spans
        self._now_s = ports.clock.now_s
        self._height = restored.ledger.height
        self._versions_kept = versions_kept
        self.state, effects = machine.begin(settings, restored, now_s, now_ms)
        self._unfinished = (*effects, *unevaluated(ports.store, self.state))
        will = machine.farewell(settings, counter, self._height)
        self.will = MqttMessage(will.topic, will.payload, retain=True)
        self._backlog: InboundQueue[Item] = InboundQueue()
        self._block_from_s = 0.0
        self._rankings = LossRankings(ports.store.blob)

    @property
    def restarts(self) -> bool:
        """True if it is over: another one is to go on from the adopted snapshot."""
        return self._hands.restarts

    def begin(self, bus: MessageBus) -> None:
        """Goes on with what the last run left undone.

        Args:
          bus: Need not be connected yet.

        Raises:
          StorageError: If the disk refuses.
        """
        self._bus = bus
        self._outgoing = OutboundQueue(bus.publish, self.tally.dropped)
        persistence = Persistence(
            self._ports.store,
            self._ports.votes,
            self._height,
            self._versions_kept,
            self._ranks_by_loss,
        )
        self._hands = CoordinatorEffectExecutor(
            self.settings, self._ports, self._outgoing, self.tally, persistence
        )
        self._hands.carry_out(self.state, self._unfinished)

    def _ranks_by_loss(self, task: int) -> bool:
        opened = self.state.tasks.get(TaskId(task))
        return opened is not None and self._rankings.by_loss(opened.spec.bundle)

    @property
    def wake_at_s(self) -> float:
        """Time of the next turn, though nothing comes in; it may be over."""
        if self._backlog.uploads or self._hands.long.pending:
            return self._now_s()
        return min(self._tick_at_s, self._ports.inbox.due_s)

    def turn(self, items: Iterable[Item]) -> None:
        """One batch: events in, effects out, acknowledgements last.

        Args:
          items: What came in since the last turn, in order.

        Raises:
          StorageError: If the disk refuses; what was published before is durable.
          TransportError: If the broker will not have us.
        """
        for item in items:
            self._backlog.add(item)
        effects: list[Effect] = []
        self._report_waiting_uploads(effects)
        # First the block of what is durable already, then what is new: in the other
        # order the new updates would need a sync of their own before the votes.
        if self._now_s() >= self._tick_at_s:
            self._tick(effects)
        for item in self._backlog.urgent():
            self._take(item, effects)
        for event in self._look_into_inbox():
            self._step(event, effects)
        self._take_uploads(effects)
        self._report_waiting_uploads(effects)
        self._carry_out(effects, self._backlog.acknowledgements())

    def say_goodbye(self) -> None:
        """Tells everybody that it ends; the bus is to be stopped after it."""
        farewell = machine.farewell(
            self.settings, self.state.counter, self.state.ledger.height
        )
        will = MqttMessage(farewell.topic, farewell.payload, retain=True)
        self._outgoing.add(will, PriorityLane.CONTROL)
        self._outgoing.pump()

    @property
    def _tick_at_s(self) -> float:
        return max(self.state.wake_at_s, self._block_from_s)

    def _tick(self, effects: list[Effect]) -> None:
        began_s = self._now_s()
        self._step(ClockTicked(), effects)
        ended_s = self._now_s()
        wait_s = (ended_s - began_s) * (1 / BLOCKS_SHARE - 1)
        self._block_from_s = ended_s + min(wait_s, BLOCK_WAIT_MAX_S)

    def _report_waiting_uploads(self, effects: list[Effect]) -> None:
        waits = bool(self._backlog.uploads)
        if self.state.wanted and waits != self.state.uploads_wait:
            self._step(UploadsQueued(waits), effects)

    def _take_uploads(self, effects: list[Effect]) -> None:
        until_s = self._now_s() + UPLOADS_S
        while self._now_s() < until_s:
            message = self._backlog.upload()
            if message is None:
                return
            self._message(message, effects)

    def _take(self, item: Item, effects: list[Effect]) -> None:
        match item:
            case MessageArrived():
                self._message(item, effects)
            case Delivered(publish_id, code):
                self._ports.monitor.answered(code)
                self._outgoing.delivered(publish_id)
            case LinkConnected():
                self._ports.monitor.connected()
                self._step(BusConnected(), effects)
            case LinkDisconnected():
                self._ports.monitor.disconnected(item)
                self._outgoing.disconnected()
                self._step(BusDisconnected(), effects)
            case _:
                self._step(item, effects)

    def _message(self, message: MessageArrived, effects: list[Effect]) -> None:
        event = self.incoming.event(message)
        if event is not None:
            before = len(effects)
            if self._spans is not None:
                self._spans.message_taken(event, message)
            self._step(event, effects)
            self.incoming.caused(message, effects[before:])

    def _step(self, event: Event, effects: list[Effect]) -> None:
        clock = self._ports.clock
        self.state, caused = machine.step(
            self.settings, self.state, event, clock.now_s(), clock.now_ms()
        )
        effects.extend(caused)
        if self._spans is not None:
            self._spans.stepped(caused)

    def _look_into_inbox(self) -> Sequence[Event]:
        inbox = self._ports.inbox
        if self._now_s() < inbox.due_s:
            return ()
        fresh = inbox.fresh(self._hands.long.keep)
        return [TransactionArrived(name, content) for name, content in fresh]

    def _carry_out(self, effects: Sequence[Effect], tokens: Sequence[AckToken]) -> None:
        self._hands.carry_out(self.state, effects)
        if self._spans is not None:
            self._spans.done(effects)
        if tokens:
            self._bus.acknowledge_many(tokens)
