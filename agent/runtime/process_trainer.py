"""The trainer as a subprocess: what it is asked, what it answers, and how long it may.

It has one job at a time. Between two trainings it reads the data set for its owner,
once for each bundle and each change of the files, and trains the board's own model,
once after each update. A training that comes meanwhile ends these: nothing that is sent
waits for what the data make of them.
"""

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from starling.agent.runtime import machine_info
from starling.agent.runtime.home_store import HomeStore
from starling.agent.runtime.status_file import sandbox_warnings
from starling.agent.step import events as e
from starling.agent.step.effects import StartTraining
from starling.agent.trainer.client import TrainerProcess, TrainerReported
from starling.agent.training.trainer_messages import (
    NO_DATA,
    ConfinementReport,
    DataFacts,
    LabelFacts,
    TrainerJob,
    TrainerJobKind,
    TrainerLimits,
    TrainerReport,
    TrainerReportKind,
)
from starling.protocol.crypto.sealed_blob import ENTROPY_BYTES
from starling.protocol.ids import Digest
from starling.protocol.learning.task import LABEL_RESPONSE

LOG = logging.getLogger("agent")
_NEVER_S = float("inf")
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
        TrainerReportKind.PERSONALISED,
        *_STAGES,
    }
)


@dataclass(frozen=True)
class TrainerSetup:
    """Settings that a trainer needs beside its order.

    Attributes:
      data: Folder of the data set.
      label: Target column of CSV files.
      limits: What the trainer may use.
      trusted: Whether the bundle's own graph may clip.
      timeout_s: For one job.
      keep_s: For which a trainer without a job is kept.
      labels_micro: Epsilon that each label may pay, in units of 10^-6.
    """

    data: str
    label: str
    limits: TrainerLimits
    trusted: bool
    timeout_s: float
    keep_s: float
    labels_micro: int = 0


class ProcessTrainer:
    """See `agent.loop.ports.TrainerPort`.

    Attributes:
      said: What the last trainer used, and what it left out.
      confinement: What this kernel keeps it from; None before the first one.
      found: What the data set is like; None before it was read.
      data_fault: Why updates learn nothing from it; empty if they do.
      labels: Of the drawn labels; None before a task had them drawn.
    """

    def __init__(
        self,
        process: TrainerProcess,
        store: HomeStore,
        setup: TrainerSetup,
        put: Callable[[e.Event], None],
    ) -> None:
        """Has no job.

        Args:
          process: The subprocess.
          store: For the files of bundles, models and own parameters.
          setup: What a trainer needs to know.
          put: Hands the loop an event.
        """
        self.said = ""
        self.confinement: ConfinementReport | None = None
        self.found: DataFacts | None = None
        self.data_fault = ""
        self.labels: LabelFacts | None = None
        self._process = process
        self._store = store
        self._setup = setup
        self._put = put
        self._job: tuple[TrainerJobKind, Digest] | None = None
        self._to_count = True
        self._asked: StartTraining | None = None
        self._deadline_s = _NEVER_S
        self._release_s = _NEVER_S

    @property
    def due_s(self) -> float:
        """Time of the next call of `keep_time`."""
        return min(self._deadline_s, self._release_s)

    def load(self, bundle: Digest) -> None:
        """See `TrainerPort`."""
        self._ask(self._of(TrainerJobKind.LOAD, bundle))

    def start(self, asked: StartTraining) -> None:
        """See `TrainerPort`."""
        LOG.info("training from version %d", asked.order.base)
        self._asked = asked
        job = self._ordered(TrainerJobKind.TRAIN, asked)
        # Without a folder: such a trainer is not even let see the data.
        self._ask(replace(job, data_path="") if asked.empty else job)

    def resume(self) -> None:
        """See `TrainerPort`."""
        self._process.resume()

    def stop(self, why: str) -> None:
        """See `TrainerPort`."""
        LOG.warning("training stopped: %s", why)
        self._process.stop()

    def close(self) -> None:
        """Ends the subprocess."""
        self._process.stop()

    def data_changed(self) -> None:
        """The data set's files are others: they are to be read once more."""
        self._to_count = True

    def keep_time(self, now_s: float, idle: Digest | None) -> None:
        """Ends what takes too long, and begins what may take a while.

        Args:
          now_s: Monotonic time.
          idle: The bundle that works here, if the core trains nothing.
        """
        if not self._process.busy:
            self._deadline_s = _NEVER_S
            if self._to_count and idle is not None:
                self._to_count = False
                self._ask(self._of(TrainerJobKind.COUNT, idle))
            elif now_s >= self._release_s:
                self._process.release()
                self._release_s = _NEVER_S
                machine_info.return_memory()
        elif self._deadline_s == _NEVER_S:
            self._deadline_s = now_s + self._setup.timeout_s
        elif now_s >= self._deadline_s:
            self._process.stop()
            detail = f"stopped after {self._setup.timeout_s:g} s"
            self._failed(e.FailureStage.TRAINING, detail)

    def reported(self, spoke: TrainerReported) -> None:
        """Handles a report of the subprocess."""
        # The thread of a trainer that was stopped may have put a report into the queue
        # before.
        if not self._process.is_current(spoke) or self._job is None:
            return
        kind, bundle = self._job
        report = spoke.report
        self._notice_confinement()
        if report.kind == TrainerReportKind.READY:
            self._put(e.TrainerReady())
            return
        if report.kind == TrainerReportKind.DRAWN:
            self.labels = report.labels
            self._put(e.LabelsDrawn(report.batches))
            return
        if report.kind in _FINAL_REPORTS:
            self._process.answered()
            self._release_s = time.monotonic() + self._setup.keep_s
            self._deadline_s = _NEVER_S
        # Before the kinds of reports: a failure in these two costs no update, and is
        # told to the owner alone.
        if kind is TrainerJobKind.COUNT:
            self._counted(report)
        elif kind is TrainerJobKind.PERSONALISE:
            self._personalised(bundle, report)
        elif report.kind == TrainerReportKind.LOADED:
            self._to_count = True
            self._put(e.BundleLoaded(bundle))
        elif report.kind == TrainerReportKind.RESULT:
            self._trained(bundle, report)
        else:
            stage = _STAGES[TrainerReportKind(report.kind)]
            self._failed(stage, report.detail, spoke.record)

    def _of(self, kind: TrainerJobKind, bundle: Digest) -> TrainerJob:
        """A job without an order; the trainer works in another folder than we do."""
        path = str(self._store.blobs.path(bundle).absolute())
        head = str(self._store.home.head(bundle).absolute())
        setup = self._setup
        self._job = (kind, bundle)
        return TrainerJob(
            kind,
            path,
            "",
            setup.data,
            setup.label,
            setup.limits,
            None,
            head,
            int(setup.trusted),
        )

    def _ordered(self, kind: TrainerJobKind, asked: StartTraining) -> TrainerJob:
        """A job with an order, and the model that it begins at."""
        order = asked.order
        job = self._of(kind, order.bundle)
        theta = str(self._store.blobs.path(order.theta).absolute())
        job = replace(job, theta_path=theta, order=order, skipped=asked.skipped)
        if order.privacy.mechanism != LABEL_RESPONSE:
            return job
        return replace(
            job,
            labels_path=str(self._store.home.labels_file.absolute()),
            labels_micro=self._setup.labels_micro,
            label_losses=asked.label_losses,
        )

    def _personalise(self, asked: StartTraining) -> None:
        job = self._ordered(TrainerJobKind.PERSONALISE, asked)
        path = self._store.home.personal(asked.order.bundle).absolute()
        self._ask(replace(job, personal_path=str(path)))

    def _personalised(self, bundle: Digest, report: TrainerReport) -> None:
        """Keeps the board's own model; a failure is its owner's matter alone."""
        # As after a count: the next training starts as if nothing had been.
        self._process.release()
        if report.kind != TrainerReportKind.PERSONALISED:
            LOG.warning("the board's own model was not trained: %s", report.detail)
            return
        self._store.keep(self._store.home.personal(bundle), report.head)
        LOG.info("trained the board's own model")

    def _ask(self, job: TrainerJob) -> None:
        self._store.until_done(partial(self._ask_once, job))

    def _ask_once(self, job: TrainerJob) -> None:
        if self._process.busy:
            # Only an answer that nobody waits for any more can be in the way.
            self._process.stop()
        # Each job has its whole time, and while it has one nothing is released.
        self._deadline_s = self._release_s = _NEVER_S
        self._process.ask(job)

    def _counted(self, report: TrainerReport) -> None:
        """Handles a count of the data; only their owner is told."""
        # What this took depends on the data; the next training starts as if it was not.
        self._process.release()
        self.found = report.found
        if report.found is None:
            self.data_fault = f"the data set was not counted: {report.detail}"
            LOG.warning("%s", self.data_fault)
            return
        facts = report.found
        self.data_fault = _without_records(facts)
        level = logging.WARNING if self.data_fault else logging.INFO
        LOG.log(level, "%d records, %d unusable", facts.records, facts.unusable)
        for complaint in facts.complaints:
            LOG.warning("%s", complaint)

    def _trained(self, bundle: Digest, report: TrainerReport) -> None:
        self.said = report.detail
        is_lost = report.detail.startswith(NO_DATA)
        LOG.log(logging.WARNING if is_lost else logging.INFO, "trainer: %s", self.said)
        if is_lost:
            # It is paid for all the same, and noise alone: nobody outside can tell.
            self.data_fault = report.detail
        elif report.found is not None and not (self._asked and self._asked.empty):
            self.data_fault = _without_records(report.found)
        if report.head:
            self._store.keep(self._store.home.head(bundle), report.head)
        if report.found is not None:
            duplicates = self.found.duplicates if self.found is not None else 0
            self.found = replace(report.found, duplicates=duplicates)
        # Drawn here, as a core draws no random numbers.
        entropy = os.urandom(ENTROPY_BYTES)
        self._put(e.TrainingFinished(report.payload, entropy))
        asked = self._asked
        if asked is not None and asked.order.personal.epochs and not asked.empty:
            # At once, by the same process: the version's file may be gone soon.
            self._personalise(asked)

    def _failed(
        self, stage: e.FailureStage, detail: str, record: int | None = None
    ) -> None:
        assert self._job is not None
        kind, bundle = self._job
        if kind is TrainerJobKind.LOAD:
            self._put(e.LoadFailed(bundle, stage, detail))
        elif kind is TrainerJobKind.TRAIN:
            self._put(e.TrainingFailed(stage, detail, record))
        elif kind is TrainerJobKind.PERSONALISE:
            report = TrainerReport(TrainerReportKind.FAILED_TRAINING, detail)
            self._personalised(bundle, report)
        else:
            self._counted(TrainerReport(TrainerReportKind.FAILED_TRAINING, detail))

    def _notice_confinement(self) -> None:
        """Says once what this kernel does not keep the trainer from."""
        found = self._process.confinement
        if found is None or found == self.confinement:
            return
        self.confinement = found
        for missing in sandbox_warnings(found):
            LOG.warning("%s", missing)


def _without_records(facts: DataFacts) -> str:
    """Text for a data set of which nothing can be used; empty for any other."""
    if facts.records:
        return ""
    first = f"; {facts.complaints[0]}" if facts.complaints else ""
    return f"no record can be used, {facts.unusable} cannot{first}"
