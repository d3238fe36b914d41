"""A trainer's process with a board's folder, asked as the agent asks."""

import queue
import time
from pathlib import Path

import numpy as np
import pytest

from starling.agent import open_trainer
from starling.agent.trainer.client import TrainerProcess, TrainerReported
from starling.agent.training.trainer_messages import (
    TrainerJob,
    TrainerJobKind,
    TrainerLimits,
    TrainerReport,
    TrainingOrder,
)
from tests.contract.trainer.test_engines import (
    PACKED,
    X,
    Y,
)

DEADLINE_S = 180.0


LIMITS = TrainerLimits(1, 8, 2048, 0)


class Process:
    """A real trainer process and its files."""

    def __init__(self, folder: Path, command: tuple[str, ...] | None = None) -> None:
        self.folder = folder
        self.spoken: queue.SimpleQueue[TrainerReported] = queue.SimpleQueue()
        (folder / "data").mkdir()
        np.savez(folder / "data" / "a.npz", x=X, y=Y)
        (folder / "bundle").write_bytes(PACKED)
        theta = open_trainer(PACKED).theta
        (folder / "theta").write_bytes(theta.astype("<f4").tobytes())
        log = folder / "trainer.log"
        post = self.spoken.put
        self.trainer = (
            TrainerProcess(post, log, command) if command else TrainerProcess(post, log)
        )

    def job(
        self, wanted: TrainingOrder | None, limits: TrainerLimits = LIMITS
    ) -> TrainerJob:
        kind = TrainerJobKind.LOAD if wanted is None else TrainerJobKind.TRAIN
        return TrainerJob(
            kind,
            str(self.folder / "bundle"),
            "" if wanted is None else str(self.folder / "theta"),
            str(self.folder / "data"),
            "",
            limits,
            wanted,
        )

    def report(self) -> TrainerReport:
        """The next report of the job under way."""
        return self.spoke().report

    def spoke(self) -> TrainerReported:
        """The same, with the record at which a trainer died."""
        deadline_s = time.monotonic() + DEADLINE_S
        while (left_s := deadline_s - time.monotonic()) > 0:
            spoke = self.spoken.get(timeout=left_s)
            if self.trainer.is_current(spoke):
                return spoke
        pytest.fail("the trainer said nothing")

    def answer(
        self, wanted: TrainingOrder | None, limits: TrainerLimits = LIMITS
    ) -> TrainerReport:
        """The first report of a new job."""
        self.trainer.ask(self.job(wanted, limits))
        return self.report()
