"""The loop around the core: takes events in batches and carries out their effects.

Of a batch first everything that must last is made durable, with one database
transaction and one journal sync; then messages are published; then what the broker
delivered is acknowledged. So nothing is told before it is certain, and nothing that was
acknowledged can be lost.
"""

import logging
import time
from collections.abc import Sequence

from starling.broker.link_events import (
    AckToken,
    Delivered,
    LinkConnected,
    LinkDisconnected,
    LinkEvent,
    MessageArrived,
    MqttMessage,
)
from starling.coordinator import machine
from starling.coordinator.chain.node.node import SendGossip, StoreFork
from starling.coordinator.health import chain_stall
from starling.coordinator.membership import directory
from starling.coordinator.runtime import command_inbox
from starling.coordinator.runtime.assembly import AssembledCoordinator, assemble
from starling.coordinator.runtime.environment import CoordinatorEnvironment
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.messaging.inbound_events import InboundEvents
from starling.coordinator.runtime.messaging.inbound_queue import InboundQueue
from starling.coordinator.runtime.messaging.mailbox import Mailbox
from starling.coordinator.runtime.messaging.outbound_queue import OutboundQueue
from starling.coordinator.runtime.messaging.peer_brokers import (
    PeerBrokerEvent,
    PeerBrokers,
)
from starling.coordinator.runtime.messaging.priority_lanes import PriorityLane
from starling.coordinator.runtime.messaging.publisher import Publisher
from starling.coordinator.runtime.status.host_health import HostHealth
from starling.coordinator.runtime.status.log_alarms import LogAlarms
from starling.coordinator.runtime.status.overload_report import OverloadLog, counts
from starling.coordinator.runtime.storage.blob_cache import update_of
from starling.coordinator.runtime.storage.blob_writer import PendingBlobWrites
from starling.coordinator.runtime.storage.fork_proof_file import write_fork
from starling.coordinator.step.effects import (
    AdoptSnapshot,
    ComputeVersion,
    Effect,
    EvaluateVersion,
    ExamineBundle,
    FindMissingBlobs,
    LogLine,
    LookUpUpdate,
    PublishChunks,
    PublishFinality,
    RecordAcceptance,
    RecordOverLimit,
    RecordRefusal,
    RemoveInboxFile,
    SendAnswer,
    SendContentKey,
    SendFrame,
    SendMessage,
    StoreFailure,
    StoreMetrics,
    StorePeerBlob,
    StoreVersion,
)
from starling.coordinator.step.events import (
    BusConnected,
    BusDisconnected,
    ClockTicked,
    Event,
    MissingBlobsFound,
    TransactionArrived,
    UpdateLookedUp,
    UploadsQueued,
)
from starling.protocol.errors import DecodeError, Reason, StorageError, TransportError
from starling.service.repeated_warnings import RepeatedWarnings

log = logging.getLogger("starling.coordinator")

BATCH_MAX = 1024
UPLOADS_S = 0.025
"""That uploads may take before votes, and what waits for the disk, get their turn."""
INBOX_EVERY_S = 0.25
STATUS_EVERY_S = 1.0
STATUS_SHARE = 0.02
"""Of a core that writing the status may take; it grows with the fleet."""
BLOCKS_SHARE = 0.125
"""Of the time that making blocks may take, up to `BLOCK_WAIT_MAX_S` between two: under
load a block costs little more with many updates than with few."""
BLOCK_WAIT_MAX_S = 0.25
STOP_TIMEOUT_S = 5.0
_now_s = time.monotonic


class _Stop:
    """A signal asked us to end."""


_Item = LinkEvent | Event | PeerBrokerEvent | _Stop | BaseException


class CoordinatorEventLoop:
    """One running coordinator.

    Attributes:
      anew: Whether it ended for another one to go on from a snapshot.
    """

    def __init__(
        self, home: CoordinatorHome, surroundings: CoordinatorEnvironment
    ) -> None:
        """Opens everything; connects to nothing yet."""
        self._queue: Mailbox[_Item] = Mailbox()
        self._home = home
        self._now_ms = surroundings.now_ms
        self._notifier = surroundings.notifier
        self._told = RepeatedWarnings()
        self._parts: AssembledCoordinator = assemble(
            home, self._queue.put, _now_s(), self._now_ms(), surroundings.compute
        )
        self._state = self._parts.state
        self._broker = f"{self._parts.link.host}:{self._parts.link.port}"
        self._myself = self._parts.settings.ledger.key.identity
        self._long = PendingBlobWrites(self._parts.store)
        self._inbox = command_inbox.CommandInbox(home.inbox, self._long)
        self._inbox_at_s = 0.0
        self._status_at_s = 0.0
        self._block_from_s = 0.0
        self._outside = HostHealth(home.state)
        self._alarm = LogAlarms(log)
        self._stopping = False
        self.anew = False
        self._backlog: InboundQueue[_Item] = InboundQueue()
        self._incoming = InboundEvents(self._parts.settings, self._parts.tally)
        self._link = surroundings.open_bus(self._parts.link, self._arrived)
        self._elsewhere = PeerBrokers(
            self._parts.peer_links, surroundings.open_bus, self._queue.put
        )
        self._outgoing = OutboundQueue(self._link.publish, self._parts.tally.dropped)
        self._overload = OverloadLog()
        self._publisher = Publisher(
            self._parts.settings,
            self._parts.store,
            self._parts.wholes,
            self._outgoing,
            self._parts.tally,
        )

    def _arrived(self, event: LinkEvent) -> None:
        may_wait = self._incoming.may_wait(event)
        (self._queue.put_quietly if may_wait else self._queue.put)(event)

    def run(self) -> int:
        """Serves until a signal ends it.

        Returns:
          0.

        Raises:
          StorageError: If the disk refuses; what was published before is durable.
        """
        self._carry_out(self._parts.effects, ())
        self._link.start()
        self._elsewhere.start()
        log.info(
            "coordinator %s at height %d", self._home.name, self._state.ledger.height
        )
        self._notifier.ready(f"height {self._state.ledger.height}")
        try:
            while not self._stopping:
                self._turn()
                self._notifier.feed(_now_s())
        except StorageError as error:
            self._write_status(str(error))
            raise
        self._say_goodbye()
        return 0

    def stop(self) -> None:
        """Ends `run` soon; may be called from a signal handler."""
        self._queue.put(_Stop())

    def close(self) -> None:
        """Gives everything back."""
        self._link.stop(STOP_TIMEOUT_S)
        self._elsewhere.stop(STOP_TIMEOUT_S)
        self._parts.workers.stop()
        self._parts.votes.close()
        self._parts.store.close()

    def _turn(self) -> None:
        """One batch: events in, effects out, acknowledgements last."""
        effects: list[Effect] = []
        self._drain()
        self._tell_of_uploads(effects)
        # First the block of what is durable already, then what is new: in the other
        # order the new updates would need a sync of their own before the votes.
        if _now_s() >= self._tick_at_s():
            self._tick(effects)
        for item in self._backlog.urgent():
            self._take(item, effects)
        for event in self._look_into_inbox():
            self._step(event, effects)
        self._take_uploads(effects)
        self._tell_of_uploads(effects)
        self._carry_out(effects, self._backlog.acknowledgements())
        if _now_s() >= self._status_at_s:
            self._write_status("running")

    def _tick_at_s(self) -> float:
        return max(self._state.wake_at_s, self._block_from_s)

    def _tick(self, effects: list[Effect]) -> None:
        began_s = _now_s()
        self._step(ClockTicked(), effects)
        ended_s = _now_s()
        wait_s = (ended_s - began_s) * (1 / BLOCKS_SHARE - 1)
        self._block_from_s = ended_s + min(wait_s, BLOCK_WAIT_MAX_S)

    def _drain(self) -> None:
        """Waits for something to do, and takes in what has come."""
        wake_at_s = min(self._tick_at_s(), self._inbox_at_s, self._status_at_s)
        busy = self._backlog.uploads or self._long.pending
        wait_s = 0.0 if busy else max(0.0, wake_at_s - _now_s())
        for item in self._queue.take(wait_s, BATCH_MAX):
            self._backlog.add(item)

    def _tell_of_uploads(self, effects: list[Effect]) -> None:
        waits = bool(self._backlog.uploads)
        if self._state.wanted and waits != self._state.uploads_wait:
            self._step(UploadsQueued(waits), effects)

    def _take_uploads(self, effects: list[Effect]) -> None:
        until_s = _now_s() + UPLOADS_S
        while _now_s() < until_s:
            message = self._backlog.upload()
            if message is None:
                return
            self._message(message, effects)

    def _take(self, item: _Item, effects: list[Effect]) -> None:
        match item:
            case MessageArrived():
                self._message(item, effects)
            case Delivered(publish_id, code):
                self._outside.answered(code, _now_s())
                self._outgoing.delivered(publish_id)
            case LinkConnected():
                self._outside.connected()
                self._told.forget()
                log.info("connected to the broker at %s", self._broker)
                self._step(BusConnected(), effects)
            case LinkDisconnected(reason, retry_in_s):
                if retry_in_s is None and not self._stopping:
                    raise TransportError(reason)
                self._outside.disconnected(reason)
                self._tell_of_broker(reason, retry_in_s)
                self._outgoing.disconnected()
                self._step(BusDisconnected(), effects)
            case PeerBrokerEvent():
                self._overhear(item, effects)
            case _Stop():
                self._stopping = True
            case BaseException():
                raise item
            case _:
                self._step(item, effects)

    def _tell_of_broker(self, reason: str, retry_in_s: float | None) -> None:
        """Warns of each reason once an hour; the others show in detail only."""
        is_new = self._told.is_new(reason, _now_s())
        level = logging.WARNING if is_new else logging.DEBUG
        retry = "" if retry_in_s is None else f"; next attempt in {retry_in_s:.1f} s"
        log.log(level, "broker %s: %s%s", self._broker, reason, retry)

    def _overhear(self, item: PeerBrokerEvent, effects: list[Effect]) -> None:
        try:
            settings = self._parts.settings
            heard = self._elsewhere.take(item, settings.topics, self._myself)
        except DecodeError as error:
            self._parts.tally.refuse(RecordRefusal(None, Reason.MALFORMED, str(error)))
            return
        if heard is not None:
            self._step(heard, effects)

    def _message(self, message: MessageArrived, effects: list[Effect]) -> None:
        event = self._incoming.event(message)
        if event is not None:
            before = len(effects)
            self._step(event, effects)
            self._incoming.caused(message, effects[before:])

    def _step(self, event: Event, effects: list[Effect]) -> None:
        self._state, caused = machine.step(
            self._parts.settings, self._state, event, _now_s(), self._now_ms()
        )
        effects.extend(caused)

    def _look_into_inbox(self) -> Sequence[Event]:
        if _now_s() < self._inbox_at_s:
            return ()
        self._inbox_at_s = _now_s() + INBOX_EVERY_S
        return [TransactionArrived(*it) for it in self._inbox.fresh()]

    def _carry_out(self, effects: Sequence[Effect], tokens: Sequence[AckToken]) -> None:
        self._parts.persistence.commit(self._long.take(effects), self._now_ms())
        for effect in self._long.due(effects):
            self._do(effect)
        self._outgoing.pump()
        if tokens:
            self._link.acknowledge_many(tokens)

    def _do(self, effect: Effect) -> None:
        """Carries out what does not have to last."""
        match effect:
            case (
                SendMessage()
                | PublishChunks()
                | PublishFinality()
                | SendGossip()
                | SendFrame()
                | SendAnswer()
                | SendContentKey()
            ):
                self._publisher.say(effect)
            case StoreFork(payload):
                # Its gossip comes after it.
                write_fork(self._home.state, payload)
            case RemoveInboxFile():
                command_inbox.settle(self._home.inbox, effect)
            case ComputeVersion() | EvaluateVersion() | ExamineBundle():
                self._hand_over(effect)
            case FindMissingBlobs() | LookUpUpdate() | StorePeerBlob():
                self._look_up(effect)
            case RecordAcceptance() | RecordRefusal() | RecordOverLimit() | LogLine():
                self._count(effect)
            case StoreVersion() | StoreMetrics() | StoreFailure():
                self._parts.status.versions_changed()
            case AdoptSnapshot(manifest):
                log.info("has the state of height %d", manifest.header.height)
                self.anew = True
                self._stopping = True
            case _:
                # The other effects were carried out by `commit`.
                return

    def _look_up(self, effect: FindMissingBlobs | LookUpUpdate | StorePeerBlob) -> None:
        """Answers from the store, and remembers what will be asked of it next."""
        store = self._parts.store
        match effect:
            case FindMissingBlobs(task, digests):
                absent = [each for each in digests if not store.has_blob(each)]
                self._queue.put(MissingBlobsFound(task, tuple(absent)))
            case LookUpUpdate(known, other):
                self._queue.put(UpdateLookedUp(update_of(store, known), other))
            case StorePeerBlob(digest, content):
                self._parts.wholes.keep(digest, content)

    def _count(
        self, effect: RecordAcceptance | RecordRefusal | RecordOverLimit | LogLine
    ) -> None:
        match effect:
            case RecordOverLimit(device):
                self._parts.tally.ignore(device)
            case RecordAcceptance():
                self._parts.tally.accept(effect)
            case RecordRefusal(peer=peer):
                self._parts.tally.refuse(effect)
                name = directory.name_of(self._state.ledger, peer) if peer else ""
                self._alarm.refused(effect, name, _now_s())
            case LogLine(text, grave):
                log.log(logging.ERROR if grave else logging.INFO, "%s", text)

    def _hand_over(
        self, effect: ComputeVersion | EvaluateVersion | ExamineBundle
    ) -> None:
        workers = self._parts.workers
        match effect:
            case ComputeVersion(task):
                workers.aggregate(effect, self._state.tasks[task].spec)
            case EvaluateVersion():
                workers.evaluate(effect)
            case ExamineBundle(bundle):
                workers.examine(bundle)

    def _write_status(self, condition: str) -> None:
        # Processor time: on a busy machine the clock would make it rare, and whoever
        # watches would see the past.
        used_s = time.thread_time()
        now_s = _now_s()
        facts = self._outside.look(self._elsewhere.conditions)
        found = chain_stall.look(
            self._parts.settings, self._state, now_s, facts.troubles
        )
        self._alarm.warn(facts.warnings, now_s)
        self._alarm.stall(found, self._state.ledger.height, now_s)
        self._parts.status.write(
            self._state, condition, facts, found, now_s, self._now_ms()
        )
        counted = counts(self._state, self._parts.tally)
        for line in self._overload.lines(counted, now_s):
            log.warning("%s", line)
        used_s = time.thread_time() - used_s
        self._notifier.status(f"{condition}, height {self._state.ledger.height}")
        self._status_at_s = _now_s() + max(STATUS_EVERY_S, used_s / STATUS_SHARE)

    def _say_goodbye(self) -> None:
        if not self.anew:
            self._notifier.stopping()
        farewell = machine.farewell(
            self._parts.settings, self._state.counter, self._state.ledger.height
        )
        will = MqttMessage(farewell.topic, farewell.payload, retain=True)
        self._outgoing.add(will, PriorityLane.CONTROL)
        self._outgoing.pump()
        self._write_status("stopped")
        log.info("stopped at height %d", self._state.ledger.height)
