"""Drawn labels: on the disk before anything of them shows, and never drawn twice."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from starling.agent.privacy.label_entries import DIGEST_BYTES, batches_of
from starling.agent.privacy.label_ledger import LabelAnswers, LabelLedger, LabelTerms
from starling.agent.privacy.ledger import PrivacyLedger
from starling.agent.privacy.ledger_entries import ProvenReleases
from starling.agent.step import effects as f
from starling.agent.step import events as e
from starling.agent.step.effects import Effect
from starling.agent.step.state import ReadinessCondition
from starling.protocol.ids import TaskId, Version
from starling.protocol.learning.task import LABEL_RESPONSE, MICRO, PrivacyPolicy
from starling.protocol.privacy.gaussian_dp import Budget
from tests.unit.agent.agent_harness import (
    BoardHarness,
    Disk,
    PowerCut,
    connected,
    is_condition,
)
from tests.unit.agent.fake_coordinator import (
    CAP,
    CHAIN,
    PRIVATE,
    FakeCoordinator,
    task_spec,
)
from tests.unit.agent.goodness_of_fit import stream

POLICY = PrivacyPolicy(LABEL_RESPONSE, 0, 0, 2 * MICRO, 0, 15)
TERMS = LabelTerms(b"i" * DIGEST_BYTES, 10, 2 * MICRO, 6 * MICRO)
RECORDS = [(number.to_bytes(DIGEST_BYTES, "big"), number % 10) for number in range(40)]
VERSIONS = 3


class LabelBoard(BoardHarness):
    """A board whose trainer draws labels, with other random bytes each time.

    Attributes:
      shown: Answers that an update was made of.
    """

    def __init__(
        self,
        disk: Disk,
        meadow: FakeCoordinator,
        cut: int | None = None,
        labels_micro: int = 6 * MICRO,
        cap: Budget | None = CAP,
        shown: list[tuple[int, ...]] | None = None,
    ) -> None:
        self.shown = [] if shown is None else shown
        self.losses = 0
        self.waiting: LabelAnswers | None = None
        super().__init__(
            disk, meadow, lambda at: at == cut, cap, labels_micro=labels_micro
        )

    def carry_out(self, effect: Effect) -> list[e.Event]:
        match effect:
            case f.StartTraining(_, _, _, losses):
                self.losses, self.waiting = losses, None
            case f.ResumeTraining():
                if self.waiting is None:
                    return [e.LabelsDrawn(self.drawn())]
                self.shown.append(self.waiting.answers)
            case f.KeepLabels(batches):
                self.disk.labels += batches
                return []
            case _:
                pass
        return super().carry_out(effect)

    def drawn(self) -> tuple[bytes, ...]:
        ledger = LabelLedger.load(self.disk.labels)
        terms = replace(TERMS, losses=self.losses)
        draw = stream(1000 * self.disk.boot + self.effects_done)
        self.waiting = ledger.respond(RECORDS, terms, draw)
        return batches_of(TERMS.inputs, 10, 2 * MICRO, self.waiting.drawn)


def meadow() -> FakeCoordinator:
    return FakeCoordinator(task_spec(POLICY))


def life(
    disk: Disk,
    cut: int | None,
    side: FakeCoordinator,
    shown: list[tuple[int, ...]] | None = None,
) -> LabelBoard:
    """One start of a board, to its end or to the power cut."""
    board = LabelBoard(disk, side, cut, shown=shown)
    connected(board)
    board.run(lambda: side.head >= VERSIONS)
    return board


EFFECTS = life(Disk(), None, meadow()).effects_done


@pytest.mark.parametrize("cut", range(EFFECTS))
def test_power_cut_before_any_effect_shows_no_second_draw_of_a_label(cut: int) -> None:
    disk, side = Disk(), meadow()
    shown: list[tuple[int, ...]] = []
    with pytest.raises(PowerCut):
        life(disk, cut, side, shown)

    life(disk, None, side, shown)

    assert len(set(shown)) == 1
    ledger = LabelLedger.load(disk.labels)
    again = ledger.respond(RECORDS, TERMS, stream(0))
    assert again.answers == shown[0]
    assert again.most_micro == 2 * MICRO


def test_labels_are_kept_before_the_trainer_goes_on() -> None:
    board = life(Disk(), None, meadow())
    kinds = [type(each) for each in board.log]
    first = kinds.index(f.KeepLabels)

    assert kinds[first + 1] is f.ResumeTraining
    assert kinds.index(f.Spend) < kinds.index(f.ResumeTraining) < first
    assert first < kinds.index(f.SpoolUpload)


def test_releases_cost_nothing_in_the_other_ledger_and_labels_once() -> None:
    disk = Disk()
    board = life(disk, None, meadow())

    assert len(disk.charges()) >= VERSIONS
    assert board.state.ledger.units == 0
    assert not board.state.ledger.exposed
    assert board.state.ledger.epsilon(1e-5) == 0.0
    assert board.state.spent_micro == 2 * MICRO
    left = board.state.ledger.quote((CHAIN, TaskId(9), Version(0)), PRIVATE)
    assert left.units > 0


@pytest.mark.parametrize(
    ("labels_micro", "cap"), [(0, CAP), (2 * MICRO - 1, CAP), (0, None)]
)
def test_board_whose_owner_did_not_declare_inputs_public_takes_no_part(
    labels_micro: int, cap: Budget | None
) -> None:
    board = LabelBoard(Disk(), meadow(), None, labels_micro, cap)
    connected(board)
    for _ in range(50):
        if board.inbox:
            board.step(board.inbox.popleft())

    assert is_condition(board, ReadinessCondition.POLICY_REFUSED)
    notes = [each.text for each in board.log if isinstance(each, f.Note)]
    assert any("privacy.label_epsilon is" in text for text in notes)
    assert not board.disk.journal or not board.disk.charges()


def test_ledger_that_counts_as_spent_draws_no_labels() -> None:
    ledger = PrivacyLedger.load(CAP, [])
    spent = replace(ledger, spent="the owner said so", labels_micro=6 * MICRO)

    assert spent.releases_left(CHAIN, TaskId(0), POLICY) == 0


def _training(policy: PrivacyPolicy) -> BoardHarness:
    board = LabelBoard(Disk(), FakeCoordinator(task_spec(policy)))
    connected(board)
    board.run(lambda: any(isinstance(each, f.ResumeTraining) for each in board.log))
    board.inbox.clear()
    return board


OTHER_EPSILON = batches_of(TERMS.inputs, 10, 3 * MICRO, [])


@pytest.mark.parametrize(
    ("policy", "batches"),
    [(POLICY, OTHER_EPSILON), (POLICY, (b"\xff",)), (PRIVATE, OTHER_EPSILON)],
    ids=["another epsilon", "no batch", "a task without draws"],
)
def test_trainer_that_draws_what_was_not_asked_for_is_ended(
    policy: PrivacyPolicy, batches: Sequence[bytes]
) -> None:
    board = _training(policy)
    before = len(board.log)
    board.step(e.LabelsDrawn(tuple(batches)))
    after = [type(each) for each in board.log[before:]]

    assert f.StopTraining in after
    assert f.KeepLabels not in after
    assert f.ResumeTraining not in after


def test_draws_that_nobody_waits_for_change_nothing() -> None:
    board = connected(LabelBoard(Disk(), meadow()))
    before = len(board.log)
    board.step(e.LabelsDrawn(OTHER_EPSILON))

    assert board.log[before:] == []


def test_life_that_was_forgotten_counts_a_draw_of_every_label() -> None:
    disk, side = Disk(), meadow()
    life(disk, None, side)
    lost = ProvenReleases(3, CHAIN, TaskId(0), 0, 1, 0, 0, 1, 1 << LABEL_RESPONSE, ())
    ledger = PrivacyLedger.load(CAP, disk.journal)
    _, entry = ledger.admit(lost)
    disk.journal.append(entry)
    board = LabelBoard(disk, side)
    connected(board)
    head = side.head
    board.run(lambda: side.head > head)

    assert board.losses == 1
    assert board.waiting is not None
    assert board.waiting.most_micro == 4 * MICRO
    assert board.state.ledger.epsilon() == 0.0
