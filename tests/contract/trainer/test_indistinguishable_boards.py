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

from starling.agent.step import effects as f
from starling.agent.step import events as e
from starling.agent.step.effects import Effect
from starling.agent.step.state import WaitTimes
from starling.agent.training.trainer_messages import TrainerReportKind
from starling.protocol.ids import H
from starling.protocol.learning.task import TrainingMode
from starling.protocol.wire.envelope import ENVELOPE, MessageKind
from starling.protocol.wire.message_bodies import CONTRIBUTION, UPLOAD
from tests.contract.trainer.asked_trainer import DEADLINE_S, Process
from tests.contract.trainer.test_engines import CLASSES, X, Y, order
from tests.unit.agent.agent_harness import BoardHarness, Disk, connected
from tests.unit.agent.fake_coordinator import PRIVATE, FakeCoordinator, task_spec

T = 5.0
VERSIONS = 3


class WholeBoard(BoardHarness):
    """A board whose trainer is a real process on real files."""

    def __init__(self, folder: Path) -> None:
        self.process = Process(folder)
        super().__init__(
            Disk(), FakeCoordinator(task_spec(PRIVATE)), pace=WaitTimes(release_s=T)
        )

    def carry_out(self, effect: Effect) -> list[e.Event]:
        match effect:
            case f.LoadBundle(bundle):
                kind = self.process.answer(None).kind
                self.process.trainer.answered()
                assert kind == TrainerReportKind.LOADED
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
        if report.kind == TrainerReportKind.READY:
            return [e.TrainerReady()]
        self.process.trainer.answered()
        if report.kind == TrainerReportKind.RESULT:
            return [e.TrainingFinished(report.payload, H(report.payload))]
        return [e.TrainingFailed(e.FailureStage.TRAINING, report.detail, spoke.record)]


def seen(board: WholeBoard) -> list[object]:
    """All that others see, but for what is sealed or signed over it."""
    found: list[object] = []
    for effect in board.log:
        if isinstance(effect, f.PublishBestEffort):
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
    assert {MessageKind.CHECK_IN, MessageKind.DEVICE_STATE} <= kinds
