"""The trainer's process: `python -m starling.agent.trainer.worker MARK`.

It reads jobs from standard input and writes reports to standard output (see
`agent.training.trainer_messages`), and ends when standard input does. numpy and ONNX
Runtime live here and nowhere else on a board, so that a crash of theirs is an event and
not the agent's end.

It confines itself before it opens the first file of a job (`sandbox.confinement`): it
reads the folders of its first job and writes nothing but reports.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from starling.agent.privacy.discrete_samplers import TOGETHER
from starling.agent.privacy.error_redaction import described
from starling.agent.trainer.dataset import (
    BoardDataSet,
    data_files,
)
from starling.agent.trainer.engines.engine_registry import open_trainer
from starling.agent.trainer.held_memory import HeldMemory, usage
from starling.agent.trainer.job_data import data_bytes_max, data_of, theta_of
from starling.agent.trainer.job_pipe import JobPipe, PipeClosed
from starling.agent.trainer.label_drawing import answers_for
from starling.agent.trainer.personal_layers_file import (
    head_bytes,
    personal_model,
)
from starling.agent.trainer.record_marker import RecordMarker
from starling.agent.trainer.trial_run import try_out, try_together
from starling.agent.training.local_descent import personal_steps
from starling.agent.training.local_training import prepare, train
from starling.agent.training.trainer_messages import (
    JOB,
    ConfinementReport,
    TrainerJob,
    TrainerJobKind,
    TrainerReportKind,
    TrainingOrder,
    readable,
)
from starling.agent.training.training_inputs import Real, Trainer, TrainingInputs
from starling.engine.runtime.onnxruntime_session import flush_tiny_numbers
from starling.protocol.errors import (
    ConfigError,
    EngineError,
    FederationError,
    NonFinite,
    OperationError,
)
from starling.protocol.learning.task import LABEL_RESPONSE
from starling.protocol.learning.vector_codecs import Draw
from starling.protocol.privacy.mechanisms import UNNOISED
from starling.sandbox.confinement import enter, limit_memory
from starling.sandbox.silenced_output import hush

Train = Callable[
    [
        Trainer,
        TrainingInputs,
        Draw,
        np.random.Generator,
        Callable[[Real], None] | None,
        Callable[[str], None],
    ],
    bytes,
]
"""As `agent.training.local_training.train`."""
_PR_SET_PDEATHSIG = 1
WORK_BYTES, DRAWN_BYTES = 128, 204
"""For each parameter, of sums and noise, and for each that noise is being drawn for."""


def main(train_on: Train = train) -> int:
    """Serves jobs until standard input ends.

    Args:
      train_on: What carries out an order; see `TrainerWorker`.
    """
    _die_with_parent()
    flush_tiny_numbers()
    # Whatever a library prints must not stand between our frames.
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    mark = RecordMarker(int(sys.argv[-1]))
    service = TrainerWorker(JobPipe(sys.stdin.buffer, out), mark, train_on)
    try:
        while service.serve_one():
            pass
    except (PipeClosed, BrokenPipeError):
        return 0
    return 0


def _die_with_parent() -> None:
    parent = os.getppid()
    # An agent that is killed cannot end its trainer, which would go on with the data.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # A parent that died before the call sends no signal any more.
    if os.getppid() != parent:
        sys.exit(1)


class TrainerWorker:
    """Answers jobs; keeps the last bundle loaded for the next one."""

    def __init__(
        self,
        pipe: JobPipe,
        mark: RecordMarker,
        train_on: Train = train,
    ) -> None:
        """Answers what comes by `pipe`, and notes records.

        Args:
          pipe: To the agent.
          mark: Where it is noted which record is computed with.
          train_on: `train`; a fleet that is to see attackers puts something else here.
        """
        self._mark = mark
        self._train_on = train_on
        self._pipe = pipe
        self._bundle: tuple[str, Trainer] | None = None
        self._held = HeldMemory()
        # The version of the last training, for the board's own model after it.
        self._theta: tuple[str, Real] | None = None

    def serve_one(self) -> bool:
        """Answers one job; False if there are no more."""
        frame = self._pipe.read()
        if frame is None:
            return False
        job = JOB.unpack(frame)
        # With the first job only: what a process has given up it cannot get back, and a
        # job for other folders is given to another process.
        if self._pipe.confinement is None:
            os.nice(job.limits.niceness)
            limit_memory(job.limits.memory_mb)
            self._pipe.confinement = _confine(job)
        try:
            self._work(job)
        except MemoryError:
            self._fail(f"out of memory; the limit is {job.limits.memory_mb} MiB")
        except FederationError as error:
            self._fail(described(error))
        return True

    def _work(self, job: TrainerJob) -> None:
        trainer = self._open(job)
        if trainer is None:
            return
        if job.kind == TrainerJobKind.TRAIN:
            self._train(job, trainer)
            return
        if job.kind == TrainerJobKind.COUNT:
            self._held.give_back()
            data, _ = data_of(job, trainer)
            facts = data.facts(thorough=True)
            self._pipe.report(TrainerReportKind.COUNTED, found=facts)
            return
        if job.kind == TrainerJobKind.PERSONALISE:
            self._personalise(job, trainer)
            return
        try:
            # Their names only: of what is in them nothing may decide whether a task is
            # taken.
            data_files(Path(job.data_path))
        except ConfigError as error:
            self._pipe.report(TrainerReportKind.FAILED_DATA, detail=str(error))
            return
        self._pipe.report(TrainerReportKind.LOADED)

    def _fail(self, detail: str) -> None:
        self._pipe.report(TrainerReportKind.FAILED_TRAINING, detail=detail)

    def _open(self, job: TrainerJob) -> Trainer | None:
        if self._bundle is not None and self._bundle[0] == job.bundle_path:
            return self._bundle[1]
        limits = job.limits
        try:
            self._held.set_aside(data_bytes_max(limits))
            trainer = open_trainer(Path(job.bundle_path), limits.threads, limits.engine)
            if limits.memory_mb:
                dimension = trainer.manifest.dimension
                drawn = DRAWN_BYTES * min(dimension, TOGETHER)
                # What the update itself will take, so that a model that leaves too
                # little is refused before it is paid for.
                self._held.set_aside(WORK_BYTES * dimension + drawn)
            try_out(trainer, trusted=bool(job.trusted))
        except (FederationError, MemoryError) as error:
            self._refuse_model(job, error)
            return None
        self._bundle = (job.bundle_path, trainer)
        return trainer

    def _refuse_model(self, job: TrainerJob, error: Exception) -> None:
        detail = str(error)
        if isinstance(error, MemoryError):
            detail = f"the model needs too much of {job.limits.memory_mb} MiB"
        self._pipe.report(TrainerReportKind.FAILED_MODEL, detail=detail)

    def _train(self, job: TrainerJob, trainer: Trainer) -> None:
        order = job.order
        if order is None:
            raise OperationError("a training job without an order")
        try:
            theta = theta_of(job, trainer, order)
            prepare(trainer, theta, order, trusted=bool(job.trusted))
            try_together(trainer, theta, job)
        except (EngineError, NonFinite, MemoryError) as error:
            self._refuse_model(job, error)
            return
        self._theta = job.theta_path, theta
        # From here on nothing depends on the data but what noise goes on.
        self._pipe.report(TrainerReportKind.READY)
        self._pipe.await_go()
        self._held.give_back()
        try:
            self._carry_out(job, order, trainer, theta)
        except (PipeClosed, BrokenPipeError):
            raise
        except Exception as error:  # noqa: BLE001 - paid for; what the data did must not show
            detail = f"no update: {described(error)}"
            if order.privacy.mechanism in UNNOISED:
                self._fail(detail)
                return
            # The charge is on disk: the same mechanism goes over no record, and nobody
            # outside can tell.
            nothing = replace(job, data_path="")
            self._carry_out(nothing, order, trainer, theta, f"{detail}; noise alone")

    def _carry_out(
        self,
        job: TrainerJob,
        order: TrainingOrder,
        trainer: Trainer,
        theta: Real,
        before: str = "",
    ) -> None:
        """Trains on the data, or on none, and reports the result."""
        data, said = data_of(job, trainer)
        if order.privacy.mechanism == LABEL_RESPONSE:
            data = self._answered(job, trainer, data)
        notes = [note for note in (before, said) if note]
        work = self._inputs(job, order, theta, data)
        kept: list[Real] = []
        keep = kept.append if job.head_path else None
        # For the order of batches, which is no secret; noise comes from the system's
        # source.
        rng = np.random.default_rng()
        payload = self._train_on(trainer, work, os.urandom, rng, keep, notes.append)
        detail = "; ".join((*notes, usage()))
        found = data.facts() if job.data_path else None
        own = b"".join(map(head_bytes, kept))
        self._pipe.report(
            TrainerReportKind.RESULT,
            detail=detail,
            payload=payload,
            found=found,
            head=own,
        )

    def _inputs(
        self, job: TrainerJob, order: TrainingOrder, theta: Real, data: BoardDataSet
    ) -> TrainingInputs:
        return TrainingInputs(
            theta,
            data.x,
            data.y,
            order,
            job.limits.micro_batch,
            bool(job.trusted),
            frozenset(job.skipped),
            order.privacy.mechanism == LABEL_RESPONSE,
            self._mark,
        )

    def _answered(
        self, job: TrainerJob, trainer: Trainer, data: BoardDataSet
    ) -> BoardDataSet:
        """The data with drawn labels, once what was drawn is on the agent's disk."""
        found = answers_for(job, trainer.manifest, data)
        report = TrainerReportKind.DRAWN
        self._pipe.report(report, batches=found.batches, labels=found.facts)
        self._pipe.await_go()
        return found.data

    def _personalise(self, job: TrainerJob, trainer: Trainer) -> None:
        """Trains the board's own model a little further, after an update."""
        order = job.order
        assert order is not None
        self._held.give_back()
        # The version's file may be gone already, once a newer version has come.
        known, self._theta = self._theta, None
        is_known = known is not None and known[0] == job.theta_path
        theta = known[1] if known and is_known else theta_of(job, trainer, order)
        own = personal_model(Path(job.personal_path), theta)
        data, why = data_of(job, trainer)
        if not len(data.x):
            raise OperationError(why or "there is no usable record")
        work = self._inputs(job, order, theta, data)
        own = personal_steps(trainer, work, own, np.random.default_rng())
        self._pipe.report(TrainerReportKind.PERSONALISED, head=head_bytes(own))


def _confine(job: TrainerJob) -> ConfinementReport:
    hush()
    found = enter([Path(path) for path in readable(job)])
    return ConfinementReport(found.landlock, int(found.seccomp))


if __name__ == "__main__":
    sys.exit(main())
