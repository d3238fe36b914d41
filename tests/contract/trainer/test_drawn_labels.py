"""A real trainer draws labels, waits until they are kept, and draws none of them twice.

The trainer writes nothing: what it reports is what the agent keeps.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from starling.agent.privacy.label_entries import BATCH
from starling.agent.training.trainer_messages import (
    TrainerJob,
    TrainerReport,
    TrainerReportKind,
)
from starling.durable.journal import Journal
from starling.protocol.learning.task import (
    LABEL_RESPONSE,
    MICRO,
    PrivacyPolicy,
    TrainingMode,
)
from starling.protocol.learning.vector_codecs import CODECS
from tests.contract.trainer.asked_trainer import DEADLINE_S, Process
from tests.contract.trainer.test_engines import RECORDS, X, Y, order

POLICY = PrivacyPolicy(LABEL_RESPONSE, 0, 0, MICRO, 0, 15)
WANTED = replace(order(TrainingMode.LOCAL), privacy=POLICY)


class LabelProcess(Process):
    """A trainer process, and the journal that the agent keeps for it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.path = folder / "labels" / "labels.journal"
        self.path.parent.mkdir()
        self.journal, _ = Journal.open(self.path)

    def labels_job(self, losses: int = 0) -> TrainerJob:
        return replace(
            self.job(WANTED),
            labels_path=str(self.path),
            labels_micro=2 * MICRO,
            label_losses=losses,
        )

    def until_drawn(self, losses: int = 0) -> TrainerReport:
        self.trainer.ask(self.labels_job(losses))
        assert self.report().kind == TrainerReportKind.READY
        self.trainer.resume()
        return self.report()

    def update(self) -> tuple[TrainerReport, TrainerReport]:
        """What was drawn, kept at once, and the result."""
        drawn = self.until_drawn()
        self.journal.append_many(drawn.batches)
        self.trainer.resume()
        result = self.report()
        self.trainer.answered()
        return drawn, result


@pytest.fixture
def labels(tmp_path: Path) -> Iterator[LabelProcess]:
    found = LabelProcess(tmp_path)
    yield found
    found.trainer.stop()
    found.journal.close()


def rows(report: TrainerReport) -> list[tuple[int, int]]:
    drawn = [each for packed in report.batches for each in BATCH.unpack(packed).drawn()]
    return sorted((each.label, each.answer) for each in drawn)


def test_labels_are_drawn_once_over_all_trainers(labels: LabelProcess) -> None:
    first, result = labels.update()
    labels.trainer.stop()
    second, _ = labels.update()

    assert first.kind == TrainerReportKind.DRAWN
    assert [label for label, _ in rows(first)] == sorted(Y.tolist())
    assert result.kind == TrainerReportKind.RESULT
    assert CODECS[WANTED.codec].decode(result.payload, WANTED.dimension).any()
    assert rows(second) == []
    assert second.labels is not None
    assert (second.labels.answers, second.labels.drawn) == (RECORDS, 0)
    assert second.labels.most_micro == MICRO


def test_trainer_waits_until_labels_are_kept(labels: LabelProcess) -> None:
    labels.until_drawn()
    process = labels.trainer._process
    assert process is not None
    process.kill()

    # It computed nothing in the meantime: its end is the next thing that is heard.
    ended = labels.spoken.get(timeout=DEADLINE_S).report
    assert ended.kind == TrainerReportKind.FAILED_TRAINING


def test_draws_of_a_trainer_that_died_before_they_were_kept_come_anew(
    labels: LabelProcess,
) -> None:
    labels.until_drawn()
    labels.trainer.stop()
    again, result = labels.update()

    assert len(rows(again)) == RECORDS
    assert again.labels is not None
    assert again.labels.most_micro == MICRO
    assert result.kind == TrainerReportKind.RESULT


def test_data_that_grow_and_change_pay_for_what_is_new(labels: LabelProcess) -> None:
    labels.update()
    changed = Y.copy()
    changed[5] = (changed[5] + 1) % 3
    np.savez(labels.folder / "data" / "a.npz", x=X, y=changed)
    np.savez(labels.folder / "data" / "b.npz", x=X[:3] + 9, y=Y[:3])
    second, _ = labels.update()

    assert len(rows(second)) == 4
    assert second.labels is not None
    assert second.labels.most_micro == 2 * MICRO


def test_label_without_budget_keeps_its_answer(labels: LabelProcess) -> None:
    labels.update()
    np.savez(labels.folder / "data" / "a.npz", x=X, y=(Y + 1) % 3)
    spent = labels.until_drawn(losses=1)

    assert rows(spent) == []
    assert spent.labels is not None
    assert (spent.labels.outdated, spent.labels.left_out) == (RECORDS, 0)


def test_damaged_journal_fails_the_training_and_names_no_label(
    labels: LabelProcess,
) -> None:
    labels.update()
    content = bytearray(labels.path.read_bytes())
    content[40] ^= 1
    labels.path.write_bytes(content)
    failed = labels.until_drawn()

    assert failed.kind == TrainerReportKind.FAILED_TRAINING
    assert failed.batches == ()
