"""Two boards whose data differ in one record look alike to everybody.

The agent's core, the trainer's process and real files; only network and disk are in
memory. What each board says, when, and what it pays is compared word for word.
"""

import queue
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent import effects as f
from agent import events as e
from agent.effects import Effect
from agent.orders import ReportKind
from agent.state import Pace
from protocol.envelope import ENVELOPE, Kind
from protocol.ids import H
from protocol.messages import CONTRIBUTION, UPLOAD
from protocol.task import TrainingMode
from tests.contract.test_trainer import CLASSES, X, Y, order
from tests.contract.test_trainer_process import DEADLINE_S, Process
from tests.unit.agent.lone_board import Board, Disk, connected
from tests.unit.agent.meadow import PRIVATE, Meadow, task_spec

T = 5.0
VERSIONS = 3


class WholeBoard(Board):
    """A board whose trainer is a real process on real files."""

    def __init__(self, folder: Path) -> None:
        self.process = Process(folder)
        super().__init__(Disk(), Meadow(task_spec(PRIVATE)), pace=Pace(release_s=T))

    def carry_out(self, effect: Effect) -> list[e.Event]:
        match effect:
            case f.LoadBundle(bundle):
                kind = self.process.answer(None).kind
                self.process.trainer.answered()
                assert kind == ReportKind.LOADED
                return [e.BundleLoaded(bundle)]
            case f.StartTraining(ordered, empty, skipped):
                # The meadow's model has four parameters; the process' one more.
                wanted = order(TrainingMode(ordered.training.mode))
                wanted = replace(wanted, privacy=ordered.privacy, base=ordered.base)
                job = replace(self.process.job(wanted), skipped=skipped)
                self.process.trainer.ask(replace(job, data_path="") if empty else job)
                return self.heard()
            case f.ResumeTraining():
                self.process.trainer.resume()
                return self.heard()
            case _:
                return super().carry_out(effect)

    def heard(self) -> list[e.Event]:
        """What the process answers."""
        try:
            spoke = self.process.spoken.get(timeout=DEADLINE_S)
        except queue.Empty:
            pytest.fail("the trainer said nothing")
        report = spoke.report
        if report.kind == ReportKind.READY:
            return [e.TrainerReady()]
        self.process.trainer.answered()
        if report.kind == ReportKind.RESULT:
            return [e.TrainingFinished(report.payload, H(report.payload))]
        return [e.TrainingFailed(e.Stage.TRAINING, report.detail, spoke.record)]


def seen(board: WholeBoard) -> list[object]:
    """All that others see, but for what is sealed or signed over it."""
    found: list[object] = []
    for effect in board.log:
        if isinstance(effect, f.Publish):
            envelope = ENVELOPE.unpack(effect.payload)
            found.append((envelope.kind, envelope.counter, envelope.body))
        elif isinstance(effect, f.SpoolUpload):
            upload = UPLOAD.unpack(effect.content)
            body = CONTRIBUTION.unpack(upload.update.body)
            blank = replace(body, blob=H(b""), commitment=H(b""))
            found.append((upload.update.counter, blank, len(upload.blob)))
        elif isinstance(effect, f.PublishSpooled):
            found.append((effect.index, effect.entry.size))
    return found


def life(folder: Path, spoil: Callable[[Path], None]) -> tuple[list[object], float]:
    """What others see of a board until the third version, and when that was."""
    folder.mkdir()
    board = WholeBoard(folder)
    spoil(folder / "data")
    connected(board).run(lambda: board.meadow.head == VERSIONS)
    board.process.trainer.stop()
    assert board.disk.charged() == set(range(VERSIONS))
    return seen(board), board.now_s


def other_label(data: Path) -> None:
    labels = Y.copy()
    labels[7] = CLASSES
    np.savez(data / "a.npz", x=X, y=labels)


def other_value(data: Path) -> None:
    bad = X.copy()
    bad[3, 1] = np.nan
    np.savez(data / "a.npz", x=bad, y=Y)


def one_less(data: Path) -> None:
    np.savez(data / "a.npz", x=X[1:], y=Y[1:])


def nothing_usable(data: Path) -> None:
    np.savez(data / "a.npz", x=X[:, :2], y=Y)


@pytest.mark.parametrize(
    "spoil",
    [other_label, other_value, one_less, nothing_usable],
    ids=lambda spoil: spoil.__name__,
)
def test_boards_that_differ_in_records_look_alike(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    first, first_s = life(tmp_path / "first", lambda data: None)
    second, second_s = life(tmp_path / "second", spoil)

    assert first == second
    assert first_s == second_s >= VERSIONS * T
    kinds = {entry[0] for entry in first if isinstance(entry, tuple)}
    assert {Kind.CHECK_IN, Kind.DEVICE_STATE} <= kinds
