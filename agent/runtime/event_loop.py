"""The agent's loop: take an event, ask the core, carry out what it wants.

Threads exist for MQTT and for the trainer's pipe only, and do nothing but put events
into one queue. A message is acknowledged to the broker after its effects are done, so
that whatever it led to is durable.
"""

import contextlib
import os
import queue
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from logging import DEBUG, WARNING

from starling.agent.machine import farewell, step
from starling.agent.runtime import machine_info
from starling.agent.runtime.assembly import AssembledAgent
from starling.agent.runtime.effect_executor import LOG
from starling.agent.runtime.privacy_ledger import dataset_claim
from starling.agent.runtime.status_file import (
    RuntimeFacts,
    StatusPublisher,
    certificate_days,
    describe,
    runtime_folder,
    sandbox_facts,
    sandbox_warnings,
)
from starling.agent.step import events as e
from starling.agent.sync.model_download import changes_over
from starling.agent.trainer.client import TrainerReported
from starling.agent.training.trainer_messages import (
    ConfinementReport,
    DataFacts,
    TrainerJobKind,
    TrainerReport,
    TrainerReportKind,
)
from starling.broker import link_events as b
from starling.protocol.crypto.sealed_blob import ENTROPY_BYTES
from starling.protocol.errors import DecodeError
from starling.protocol.ids import TaskId
from starling.protocol.wire.message_bodies import DevicePhase
from starling.service.notifications import ServiceNotifier
from starling.service.repeated_warnings import RepeatedWarnings

STATUS_S = 1.0
DISK_S = 5.0
GRACE_S = 5.0
"""How long a stop waits for an update whose charge is on disk already."""
_STAGES = {
    TrainerReportKind.FAILED_MODEL: e.FailureStage.MODEL,
    TrainerReportKind.FAILED_DATA: e.FailureStage.DATA,
    TrainerReportKind.FAILED_TRAINING: e.FailureStage.TRAINING,
}
_FINAL_REPORTS = frozenset(
    {
        TrainerReportKind.LOADED,
        TrainerReportKind.RESULT,
        TrainerReportKind.COUNTED,
        *_STAGES,
    }
)


class StopSignal:
    """Somebody asked the process to end."""


Item = b.LinkEvent | TrainerReported | StopSignal
"""What the queue holds; the link's Receive Maximum bounds how much of it."""


class AgentEventLoop:
    """One agent, running."""

    def __init__(
        self,
        parts: AssembledAgent,
        inbox: "queue.SimpleQueue[Item]",
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
        self._hands = parts.hands
        self._hands.post = self._later
        self._hands.wait_for_space = self._wait_for_space
        self._state = parts.state
        self._pending: list[e.Event] = []
        self._stop_s = float("inf")
        self._broker_said = "not yet connected"
        self._disk_said = ""
        self._trainer_said = ""
        self._confinement: ConfinementReport | None = None
        self._found: DataFacts | None = None
        self._to_count = True
        self._bytes_down = 0
        self._deadline_s = float("inf")
        self._release_s = float("inf")
        self._look_s = 0.0
        self._data = machine_info.fingerprint(parts.data)
        self._publisher = StatusPublisher(parts.home, runtime_folder(os.environ))
        self._certificate_days: float | None = None
        self._told = RepeatedWarnings()
        self._status_s = 0.0
        self._dirty = True

    def run(self) -> TaskId | None:
        """Works until it is asked to stop.

        Returns:
          A later task to go on with; None to end.

        Raises:
          StorageError: If the disk refuses; the process is to be started again.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._asked_to_stop)
        self._hands.carry_out(self._parts.effects)
        self._set_will()
        self._hands.link.start()
        machine_info.return_memory()
        self._notifier.ready(self._broker_said)
        try:
            while not self._is_done(time.monotonic()):
                self._turn()
                if changes_over(self._state):
                    break
        finally:
            self._hands.trainer.stop()
        later = None if self._stop_s < float("inf") else self._state.later
        if later is None:
            # A manager that is told so ends the process in a while.
            self._notifier.stopping()
        self._part()
        return later

    def _is_done(self, now_s: float) -> bool:
        """True once the loop may end; a paid training may still deliver its update."""
        training = self._state.training
        is_paid = training is not None and training.spent
        return now_s >= (self._stop_s if is_paid else self._stop_s - GRACE_S)

    def _asked_to_stop(self, _number: int, _frame: object) -> None:
        self._inbox.put(StopSignal())

    def _later(self, event: e.Event) -> None:
        self._pending.append(event)

    def _turn(self) -> None:
        now_s = time.monotonic()
        moments = (
            self._state.wake_at_s,
            self._deadline_s,
            self._release_s,
            self._look_s,
            self._stop_s,
            self._status_due_s(),
            self._notifier.due_s,
        )
        wait_s = max(0.0, min(moments) - now_s)
        with contextlib.suppress(queue.Empty):
            self._take(self._inbox.get(wait_s > 0, wait_s or None))
        self._keep_time(time.monotonic())
        while self._pending:
            self._step(self._pending.pop(0))
        self._show(time.monotonic())
        self._notifier.feed(time.monotonic())

    def _step(self, event: e.Event) -> None:
        settings = self._parts.settings
        state, effects = step(settings, self._state, event, time.monotonic())
        LOG.debug("%s -> %s", type(event).__name__, effects)
        self._state = state
        self._dirty = self._dirty or bool(effects)
        self._hands.carry_out(effects)

    def _take(self, item: Item) -> None:
        match item:
            case StopSignal():
                self._stop_s = time.monotonic() + GRACE_S
                self._step(e.StopRequested())
            case TrainerReported():
                self._trainer_spoke(item)
            case b.MessageArrived():
                self._message(item)
            case b.Delivered(publish_id, reason_code):
                self._broker_answered(reason_code)
                chunk = self._hands.in_flight.pop(publish_id, None)
                if chunk is not None:
                    self._step(e.ChunkDelivered(*chunk, taken=reason_code == 0))
            case b.LinkConnected():
                self._broker_said = ""
                self._told.forget()
                LOG.info("connected to the broker at %s", self._parts.broker)
                self._step(e.BrokerConnected())
            case b.LinkDisconnected(reason, retry_in_s):
                self._disconnected(reason, retry_in_s)

    def _broker_answered(self, reason_code: int) -> None:
        code = reason_code if reason_code >= b.REFUSED_FROM else 0
        if code != self._state.answers.broker_code:
            self._step(e.BrokerAnswered(code))

    def _disconnected(self, reason: str, retry_in_s: float | None) -> None:
        retry = "" if retry_in_s is None else f"; next attempt in {retry_in_s:.1f} s"
        self._broker_said = f"broker away: {self._parts.broker}: {reason}"
        if not machine_info.clock_is_plausible():
            self._broker_said += "; the clock was never set, so no certificate is valid"
        self._dirty = True
        is_new = self._told.is_new(self._broker_said, time.monotonic())
        LOG.log(WARNING if is_new else DEBUG, "%s%s", self._broker_said, retry)
        self._hands.in_flight.clear()
        self._step(e.BrokerDisconnected())
        self._set_will()

    def _set_will(self) -> None:
        parts = self._parts
        self._state, will = farewell(parts.settings, self._state, DevicePhase.LOST)
        self._hands.link.set_will(b.MqttMessage(will.topic, will.payload, will.retain))

    def _message(self, message: b.MessageArrived) -> None:
        self._bytes_down += len(message.payload)
        try:
            place = self._parts.settings.topics.parse(message.topic)
        except DecodeError as error:
            LOG.warning("%s", error)
        else:
            event = _event(place, message.payload)
            if event is not None:
                self._step(event)
        self._hands.link.acknowledge(message.token)

    def _trainer_spoke(self, spoke: TrainerReported) -> None:
        hands = self._hands
        if not hands.trainer.is_current(spoke) or hands.job is None:
            return
        kind, bundle = hands.job
        report = spoke.report
        self._notice_confinement()
        if report.kind == TrainerReportKind.READY:
            self._step(e.TrainerReady())
            return
        if report.kind in _FINAL_REPORTS:
            hands.trainer.answered()
            self._release_s = time.monotonic() + self._parts.config.training.keep_s
            self._deadline_s = float("inf")
        if kind is TrainerJobKind.COUNT:
            self._counted(report)
        elif report.kind == TrainerReportKind.LOADED:
            self._to_count = True
            self._step(e.BundleLoaded(bundle))
        elif report.kind == TrainerReportKind.RESULT:
            self._trained(report)
        else:
            stage = _STAGES[TrainerReportKind(report.kind)]
            self._failed(stage, report.detail, spoke.record)

    def _counted(self, report: TrainerReport) -> None:
        """Handles a count of the data; only their owner is told."""
        # What this took depends on the data; the next training starts as if it was not.
        self._hands.trainer.release()
        self._found = report.found
        self._dirty = True
        if report.found is None:
            LOG.warning("the data set was not counted: %s", report.detail)
            return
        facts = report.found
        LOG.info("%d records, %d unusable", facts.records, facts.unusable)
        for complaint in facts.complaints:
            LOG.warning("%s", complaint)

    def _trained(self, report: TrainerReport) -> None:
        self._trainer_said = report.detail
        LOG.info("trainer: %s", report.detail)
        if report.head:
            assert self._hands.job is not None
            self._hands.keep_head(self._hands.job[1], report.head)
        if report.found is not None:
            duplicates = self._found.duplicates if self._found is not None else 0
            self._found = replace(report.found, duplicates=duplicates)
        entropy = os.urandom(ENTROPY_BYTES)
        self._step(e.TrainingFinished(report.payload, entropy))
        if self._stop_s < float("inf"):
            self._step(e.StopRequested())

    def _failed(
        self, stage: e.FailureStage, detail: str, record: int | None = None
    ) -> None:
        assert self._hands.job is not None
        kind, bundle = self._hands.job
        if kind is TrainerJobKind.LOAD:
            self._step(e.LoadFailed(bundle, stage, detail))
        elif kind is TrainerJobKind.TRAIN:
            self._step(e.TrainingFailed(stage, detail, record))
        else:
            self._counted(TrainerReport(TrainerReportKind.FAILED_TRAINING, detail))

    def _notice_confinement(self) -> None:
        """Says once what this kernel does not keep the trainer from."""
        found = self._hands.trainer.confinement
        if found is None or found == self._confinement:
            return
        self._confinement = found
        for missing in sandbox_warnings(found):
            LOG.warning("%s", missing)

    def _keep_time(self, now_s: float) -> None:
        if now_s >= self._state.wake_at_s:
            self._step(e.WakeTimeReached())
        if now_s >= self._look_s:
            self._look()
        trainer = self._hands.trainer
        if not trainer.busy:
            self._deadline_s = float("inf")
            if self._has_to_count():
                self._count()
            elif now_s >= self._release_s:
                trainer.release()
                self._release_s = float("inf")
                machine_info.return_memory()
        elif self._deadline_s == float("inf"):
            self._deadline_s = now_s + self._parts.config.training.timeout_s
        elif now_s >= self._deadline_s:
            self._out_of_time()

    def _out_of_time(self) -> None:
        self._hands.trainer.stop()
        detail = f"stopped after {self._parts.config.training.timeout_s:g} s"
        self._failed(e.FailureStage.TRAINING, detail)

    def _has_to_count(self) -> bool:
        """Once for each bundle and each change of the files, where nothing else is."""
        state = self._state
        return self._to_count and state.loaded is not None and state.training is None

    def _count(self) -> None:
        assert self._state.loaded is not None
        self._to_count = False
        self._hands.count_records(self._state.loaded)

    def _look(self) -> None:
        """Looks at the disk and at the data set.

        Raises:
          ConfigError: If the folder holds a data set now that another ledger counts.
        """
        parts = self._parts
        self._look_s = time.monotonic() + self._parts.config.data.check_s
        self._certificate_days = certificate_days(parts.home.tls.certificate)
        free_bytes = machine_info.space_left(parts.home.path)
        if free_bytes != self._state.free_bytes:
            self._step(e.SpaceMeasured(free_bytes))
        found = machine_info.fingerprint(parts.data)
        if found != self._data:
            LOG.info("the data set's files changed")
            self._to_count = True
            dataset_claim.take(parts.data, self._state.ledger.owner, parts.home.path)
            self._data = machine_info.fingerprint(parts.data)
            self._step(e.DataChanged())

    def _wait_for_space(self, why: str) -> bool:
        if self._stop_s < float("inf"):
            return False
        LOG.error("%s; waiting for room", why)
        self._disk_said = "disk full"
        self._dirty = True
        self._write_status()
        self._notifier.feed(time.monotonic())
        deadline_s = time.monotonic() + DISK_S
        waiting: list[Item] = []
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
        self._disk_said = ""
        return True

    def _status_due_s(self) -> float:
        wait_s = STATUS_S if self._dirty else self._publisher.heartbeat_s
        return self._status_s + wait_s

    def _show(self, now_s: float) -> None:
        if now_s >= self._status_due_s():
            self._write_status()

    def _write_status(self) -> None:
        parts, hands = self._parts, self._hands
        around = RuntimeFacts(
            parts.broker,
            self._broker_said,
            parts.board,
            hands.index.outcomes(),
            hands.bytes_up,
            self._bytes_down,
            self._disk_said,
            self._trainer_said,
            sandbox_facts(self._confinement),
            self._found,
            parts.claim,
            hands.last_update,
            self._certificate_days,
        )
        now_s = time.monotonic()
        document = describe(parts.settings, self._state, around, now_s)
        self._publisher.write(document, changed=self._dirty)
        self._notifier.status(document["condition"])
        self._status_s = now_s
        self._dirty = False

    def _part(self) -> None:
        """Says goodbye, so that nobody takes a planned end for a loss."""
        parts = self._parts
        if self._state.connected:
            self._state, message = farewell(
                parts.settings, self._state, DevicePhase.DISCONNECTED
            )
            self._hands.carry_out((message,))
        self._hands.link.stop()
        self._broker_said = "stopped"
        self._dirty = True
        self._write_status()
        LOG.info("stopped")


def _event(place: tuple[str, str, str], payload: bytes) -> e.Event | None:
    makers: dict[tuple[str, str], Callable[[bytes], e.Event]] = {
        ("d", "down"): e.DownArrived,
        ("d", "model"): e.ModelChunkArrived,
        ("t", "manifest"): e.ManifestArrived,
        ("c", "state"): e.CoordinatorStateArrived,
    }
    branch, _, leaf = place
    maker = makers.get((branch, leaf))
    return None if maker is None else maker(payload)
