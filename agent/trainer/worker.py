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
import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from starling.agent.privacy.discrete_samplers import TOGETHER
from starling.agent.privacy.error_redaction import described
from starling.agent.trainer.dataset import (
    BoardDataSet,
    data_files,
    no_records,
    read_dataset,
)
from starling.agent.trainer.engines.engine_registry import open_trainer
from starling.agent.trainer.held_memory import HeldMemory, usage
from starling.agent.trainer.label_drawing import answers_for
from starling.agent.trainer.personal_layers_file import (
    head_bytes,
    personal_model,
    with_head,
)
from starling.agent.trainer.record_marker import RecordMarker
from starling.agent.trainer.trial_run import try_out, try_together
from starling.agent.training.local_descent import personal_steps
from starling.agent.training.local_training import prepare, train
from starling.agent.training.trainer_messages import (
    GO,
    JOB,
    LENGTH_BYTES,
    REPORT,
    ConfinementReport,
    DataFacts,
    LabelFacts,
    TrainerJob,
    TrainerJobKind,
    TrainerLimits,
    TrainerReport,
    TrainerReportKind,
    TrainingOrder,
    one_line,
    readable,
)
from starling.agent.training.training_inputs import Real, Trainer, TrainingInputs
from starling.durable.files import read_limited
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
_FRAME_BYTES_MAX = 1 << 20
DATA_SHARE = 4
"""What part of the memory limit is the data set's: one of so many."""
WORK_BYTES, DRAWN_BYTES = 128, 204
"""For each parameter, of sums and noise, and for each that noise is being drawn for."""


class PipeClosed(Exception):
    """The agent closed the pipe in the middle of a job."""


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
    service = TrainerWorker(sys.stdin.buffer, out, mark, train_on)
    try:
        while service.serve_one():
            pass
    except (PipeClosed, BrokenPipeError):
        return 0
    return 0


def _die_with_parent() -> None:
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


class TrainerWorker:
    """Answers jobs; keeps the last bundle loaded for the next one."""

    def __init__(
        self,
        source: BinaryIO,
        sink: BinaryIO,
        mark: RecordMarker,
        train_on: Train = train,
    ) -> None:
        """Reads frames from `source`, writes frames to `sink`, notes records.

        Args:
          source: Jobs.
          sink: Reports.
          mark: Where it is noted which record is computed with.
          train_on: `train`; a fleet that is to see attackers puts something else here.
        """
        self._mark = mark
        self._train_on = train_on
        self._source = source
        self._sink = sink
        self._confinement: ConfinementReport | None = None
        self._bundle: tuple[str, Trainer] | None = None
        self._held = HeldMemory()
        # The version of the last training, for the board's own model after it.
        self._theta: tuple[str, Real] | None = None

    def serve_one(self) -> bool:
        """Answers one job; False if there are no more."""
        frame = self._read()
        if frame is None:
            return False
        job = JOB.unpack(frame)
        if self._confinement is None:
            os.nice(job.limits.niceness)
            limit_memory(job.limits.memory_mb)
            self._confinement = _confine(job)
        try:
            self._work(job)
        except MemoryError:
            detail = f"out of memory; the limit is {job.limits.memory_mb} MiB"
            self._report(TrainerReportKind.FAILED_TRAINING, detail=detail)
        except FederationError as error:
            self._report(TrainerReportKind.FAILED_TRAINING, detail=described(error))
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
            data, _ = _data(job, trainer)
            self._report(TrainerReportKind.COUNTED, found=data.facts(thorough=True))
            return
        if job.kind == TrainerJobKind.PERSONALISE:
            self._personalise(job, trainer)
            return
        try:
            data_files(Path(job.data_path))
        except ConfigError as error:
            self._report(TrainerReportKind.FAILED_DATA, detail=str(error))
            return
        self._report(TrainerReportKind.LOADED)

    def _open(self, job: TrainerJob) -> Trainer | None:
        if self._bundle is not None and self._bundle[0] == job.bundle_path:
            return self._bundle[1]
        limits = job.limits
        try:
            self._held.set_aside(_data_bytes(limits))
            trainer = open_trainer(Path(job.bundle_path), limits.threads, limits.engine)
            if limits.memory_mb:
                dimension = trainer.manifest.dimension
                drawn = DRAWN_BYTES * min(dimension, TOGETHER)
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
        self._report(TrainerReportKind.FAILED_MODEL, detail=detail)

    def _train(self, job: TrainerJob, trainer: Trainer) -> None:
        order = job.order
        if order is None:
            raise OperationError("a training job without an order")
        try:
            theta = _theta(job, trainer, order)
            prepare(trainer, theta, order, trusted=bool(job.trusted))
            try_together(trainer, theta, job)
        except (EngineError, NonFinite, MemoryError) as error:
            self._refuse_model(job, error)
            return
        self._theta = job.theta_path, theta
        # From here on nothing depends on the data but what noise goes on.
        self._report(TrainerReportKind.READY)
        if self._read() != GO:
            raise PipeClosed
        self._held.give_back()
        try:
            self._carry_out(job, order, trainer, theta)
        except (PipeClosed, BrokenPipeError):
            raise
        except Exception as error:  # noqa: BLE001 - paid for; what the data did must not show
            detail = f"no update: {described(error)}"
            if order.privacy.mechanism in UNNOISED:
                self._report(TrainerReportKind.FAILED_TRAINING, detail=detail)
                return
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
        data, said = _data(job, trainer)
        if order.privacy.mechanism == LABEL_RESPONSE:
            data = self._answered(job, trainer, data)
        notes = [note for note in (before, said) if note]
        work = self._inputs(job, order, theta, data)
        kept: list[Real] = []
        keep = kept.append if job.head_path else None
        rng = np.random.default_rng()
        payload = self._train_on(trainer, work, os.urandom, rng, keep, notes.append)
        detail = "; ".join((*notes, usage()))
        found = data.facts() if job.data_path else None
        own = b"".join(map(head_bytes, kept))
        self._report(
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
        self._report(report, batches=found.batches, labels=found.facts)
        if self._read() != GO:
            raise PipeClosed
        return found.data

    def _personalise(self, job: TrainerJob, trainer: Trainer) -> None:
        """Trains the board's own model a little further, after an update."""
        order = job.order
        assert order is not None
        self._held.give_back()
        known, self._theta = self._theta, None
        is_known = known is not None and known[0] == job.theta_path
        theta = known[1] if known and is_known else _theta(job, trainer, order)
        own = personal_model(Path(job.personal_path), theta)
        data, why = _data(job, trainer)
        if not len(data.x):
            raise OperationError(why or "there is no usable record")
        work = self._inputs(job, order, theta, data)
        own = personal_steps(trainer, work, own, np.random.default_rng())
        self._report(TrainerReportKind.PERSONALISED, head=head_bytes(own))

    def _read(self) -> bytes | None:
        head = self._source.read(LENGTH_BYTES)
        if len(head) < LENGTH_BYTES:
            return None
        (length,) = struct.unpack("<I", head)
        if length > _FRAME_BYTES_MAX:
            raise PipeClosed
        frame = self._source.read(length)
        return frame if len(frame) == length else None

    def _report(
        self,
        kind: TrainerReportKind,
        *,
        detail: str = "",
        payload: bytes = b"",
        found: DataFacts | None = None,
        head: bytes = b"",
        batches: tuple[bytes, ...] = (),
        labels: LabelFacts | None = None,
    ) -> None:
        report = TrainerReport(
            kind,
            one_line(detail),
            payload,
            found,
            head,
            self._confinement,
            batches,
            labels,
        )
        packed = REPORT.pack(report)
        view = memoryview(struct.pack("<I", len(packed)) + packed)
        while view:
            view = view[self._sink.write(view) :]


def _theta(job: TrainerJob, trainer: Trainer, order: TrainingOrder) -> Real:
    """The version's parameters, with the board's own in their places.

    Raises:
      EngineError: If they are not as many as the bundle's.
      StorageError: If they cannot be read.
    """
    content = read_limited(Path(job.theta_path), 4 * order.dimension)
    theta = np.frombuffer(content, "<f4").astype(np.float32)
    if theta.size != trainer.manifest.dimension:
        raise EngineError(f"{theta.size} parameters for {trainer.manifest.dimension}")
    if not job.head_path:
        return theta
    return with_head(Path(job.head_path), theta, trainer.manifest)


def _data(job: TrainerJob, trainer: Trainer) -> tuple[BoardDataSet, str]:
    """Training data, and a complaint; no records where they cannot be read."""
    manifest = trainer.manifest
    if not job.data_path:
        return no_records(manifest), ""
    try:
        most = _data_bytes(job.limits)
        return read_dataset(Path(job.data_path), manifest, job.label, most), ""
    except Exception as error:  # noqa: BLE001 - no content of a data set may stop a board
        return no_records(manifest), f"no data: {described(error)}"


def _data_bytes(limits: TrainerLimits) -> int:
    """Limit of memory for reading the data set; 0 for no limit."""
    return (limits.memory_mb << 20) // DATA_SHARE


def _confine(job: TrainerJob) -> ConfinementReport:
    hush()
    found = enter([Path(path) for path in readable(job)])
    return ConfinementReport(found.landlock, int(found.seccomp))


if __name__ == "__main__":
    sys.exit(main())
