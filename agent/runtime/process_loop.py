"""Drives the event loop of an agent with MQTT, files, a subprocess and signals.

Threads exist for MQTT and for the pipes of the trainer and of the checks only, and do
nothing but put events into one queue.
"""

import contextlib
import queue
import signal
import time

from starling.agent.loop.event_loop import AgentLoop
from starling.agent.loop.ports import AgentPorts
from starling.agent.loop.update_spans import AgentSpans
from starling.agent.runtime import machine_info
from starling.agent.runtime.assembly import AssembledAgent
from starling.agent.runtime.health_process import ChecksReported, HealthProcess
from starling.agent.runtime.home_monitor import HomeMonitor
from starling.agent.runtime.process_trainer import ProcessTrainer
from starling.agent.runtime.status_file import RuntimeFacts, sandbox_facts
from starling.agent.runtime.status_monitor import LOG, StatusMonitor
from starling.agent.runtime.storage.followed_task import FollowedTask
from starling.agent.step import events as e
from starling.agent.sync.manifest_check import changes_over, next_task
from starling.agent.trainer.client import TrainerReported
from starling.broker.link_events import LinkDisconnected, LinkEvent
from starling.service.notifications import ServiceNotifier
from starling.service.span_file import open_tracer

DISK_S = 5.0
GRACE_S = 5.0
"""How long a stop waits for an update whose charge is on disk already."""
_NEVER_S = float("inf")


class StopSignal:
    """Somebody asked the process to end."""


QueuedItem = LinkEvent | TrainerReported | ChecksReported | StopSignal
"""What the queue holds; the link's Receive Maximum bounds how much of it."""


class AgentProcessLoop:
    """One agent, running."""

    def __init__(
        self,
        parts: AssembledAgent,
        inbox: "queue.SimpleQueue[QueuedItem]",
        notifier: ServiceNotifier,
    ) -> None:
        """Takes over what `agent.runtime.assembly.assemble` put together.

        Args:
          parts: The agent.
          inbox: Where its threads put what they have to say. A `SimpleQueue`, since a
            signal handler puts into it too, at any instruction.
          notifier: To the service manager.
        """
        self._notifier = notifier
        self._inbox = inbox
        self._parts = parts
        self._store = parts.store
        self._store.wait_for_space = self._wait_for_space
        self._pending: list[e.Event] = []
        self._stop_s = _NEVER_S
        self._trainer = ProcessTrainer(
            parts.trainer, parts.store, parts.setup, self._later
        )
        self._health = HealthProcess(parts.home.path, inbox.put)
        self._changes = HomeMonitor(parts.home, parts.data, parts.config.data.check_s)
        self._monitor = StatusMonitor(parts.home, parts.place, notifier)
        tracer = open_tracer("agent", parts.settings.device)
        ports = AgentPorts(
            time.monotonic,
            parts.link,
            parts.store,
            self._trainer,
            self._monitor,
            self._later,
            None if tracer is None else AgentSpans(tracer),
            self._health.start,
        )
        self._loop = AgentLoop(parts.settings, parts.state, ports)

    def run(self) -> FollowedTask | None:
        """Works until it is asked to stop.

        Returns:
          Another task to go on with; None to end.

        Raises:
          StorageError: If the disk refuses; the process is to be started again.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._asked_to_stop)
        # Before the link starts, so that what the core writes first is durable before
        # anybody is heard.
        self._loop.begin(self._parts.effects)
        link = self._parts.link
        # The will goes to the broker with the connection's first packet.
        link.set_will(self._loop.last_will())
        link.start()
        machine_info.return_memory()
        self._notifier.ready(self._monitor.broker_said)
        try:
            while not self._is_done(time.monotonic()):
                self._turn()
                if changes_over(self._parts.settings, self._loop.state):
                    break
        finally:
            # A trainer that outlives the agent would hold memory and answer nobody.
            self._trainer.close()
            self._health.stop()
        following = None
        if self._stop_s == _NEVER_S:
            following = next_task(self._parts.settings, self._loop.state)
        if following is None:
            # A manager that is told so ends the process in a while.
            self._notifier.stopping()
        self._part()
        if following is None:
            return None
        return FollowedTask.after(following, self._loop.state)

    def _is_done(self, now_s: float) -> bool:
        """True once the loop may end; a paid training may still deliver its update."""
        training = self._loop.state.training
        is_paid = training is not None and training.spent
        return now_s >= (self._stop_s if is_paid else self._stop_s - GRACE_S)

    def _asked_to_stop(self, _number: int, _frame: object) -> None:
        self._inbox.put(StopSignal())

    def _later(self, event: e.Event) -> None:
        self._pending.append(event)
        if isinstance(event, e.TrainingFinished) and self._stop_s < _NEVER_S:
            # This update is what the stop waits for: it has to be spooled before the
            # end, whatever its moment of release is.
            self._pending.append(e.StopRequested())

    def _turn(self) -> None:
        moments = (
            self._loop.wake_at_s,
            self._trainer.due_s,
            self._changes.due_s,
            self._stop_s,
            self._monitor.due_s,
            self._notifier.due_s,
        )
        wait_s = max(0.0, min(moments) - time.monotonic())
        with contextlib.suppress(queue.Empty):
            # One item at a time: timers and the watchdog are looked at between any two
            # of them.
            self._take(self._inbox.get(wait_s > 0, wait_s or None))
        self._keep_time(time.monotonic())
        self._settle()
        if time.monotonic() >= self._monitor.due_s:
            self._write_status()
        self._notifier.feed(time.monotonic())

    def _take(self, item: QueuedItem) -> None:
        match item:
            case StopSignal():
                self._stop_s = time.monotonic() + GRACE_S
                self._loop.turn((e.StopRequested(),))
            case TrainerReported():
                self._trainer.reported(item)
                self._monitor.dirty = True
            case ChecksReported(rows):
                self._loop.turn((e.ChecksFinished(rows),))
            case _:
                self._loop.turn((item,))
                if isinstance(item, LinkDisconnected):
                    # The broker may have published the former will; the next one needs
                    # a counter of its own.
                    self._parts.link.set_will(self._loop.last_will())

    def _keep_time(self, now_s: float) -> None:
        self._settle()
        if now_s >= self._changes.due_s:
            for event in self._changes.look(self._loop.state, now_s):
                if isinstance(event, e.DataChanged):
                    self._trainer.data_changed()
                self._later(event)
            self._settle()
        state = self._loop.state
        self._trainer.keep_time(now_s, None if state.training else state.loaded)

    def _settle(self) -> None:
        """Lets the loop take the time, and what its world handed it."""
        self._loop.turn(())
        while self._pending:
            # One by one, since its effects may put another event behind it.
            self._loop.turn((self._pending.pop(0),))

    def _wait_for_space(self, why: str) -> bool:
        if self._stop_s < _NEVER_S:
            return False
        LOG.error("%s; waiting for room", why)
        self._monitor.disk_said = "disk full"
        self._monitor.dirty = True
        self._write_status()
        # To wait for room is no hang: without this the watchdog would end the process.
        self._notifier.feed(time.monotonic())
        deadline_s = time.monotonic() + DISK_S
        waiting: list[QueuedItem] = []
        while (left_s := deadline_s - time.monotonic()) > 0:
            try:
                item = self._inbox.get(timeout=left_s)
            except queue.Empty:
                break
            if isinstance(item, StopSignal):
                self._stop_s = time.monotonic()
                return False
            waiting.append(item)
        # Nothing is lost and nothing overtakes: what came meanwhile comes after this.
        for item in waiting:
            self._inbox.put(item)
        self._monitor.disk_said = ""
        return True

    def _write_status(self) -> None:
        loop, store, trainer = self._loop, self._store, self._trainer
        place = self._monitor.place
        around = RuntimeFacts(
            place.broker,
            self._monitor.broker_said,
            place.board,
            store.index.outcomes(),
            loop.bytes_up,
            loop.bytes_down,
            self._monitor.disk_said,
            trainer.said,
            sandbox_facts(trainer.confinement),
            trainer.found,
            place.claim,
            store.last_update,
            self._changes.certificate_days,
            trainer.labels,
            loop.bytes_saved,
            trainer.data_fault,
        )
        self._monitor.write(loop, around)

    def _part(self) -> None:
        self._loop.say_goodbye()
        self._parts.link.stop()
        self._monitor.broker_said = "stopped"
        self._monitor.dirty = True
        self._write_status()
        LOG.info("stopped")
