"""Trainings that fail, before the charge and after it, and budgets that end."""

import pytest

from starling.agent.round.readiness import phase
from starling.agent.step import effects as f
from starling.agent.step import events as e
from starling.agent.step.state import ReadinessCondition
from starling.agent.training.trainer_messages import SKIPPED_MAX
from starling.protocol.privacy.gaussian_dp import Budget
from starling.protocol.wire.message_bodies import DevicePhase
from tests.unit.agent.agent_harness import (
    BoardHarness,
    Disk,
    connected,
    fresh,
    is_condition,
    names,
    until_training,
)
from tests.unit.agent.fake_coordinator import (
    OPEN,
    FakeCoordinator,
    manifest,
    task_spec,
)


def test_failed_training_rests_longer_each_time_and_costs_nothing() -> None:
    board = until_training(connected(fresh()))
    waits = []
    for _ in range(3):
        board.step(e.TrainingFailed(e.FailureStage.TRAINING, "killed"))
        waits.append(board.state.rest_until_s - board.now_s)
        until_training(board)

    assert waits[0] < 15.0 < waits[2]
    assert board.disk.charges() == []


def until_reading(board: BoardHarness) -> BoardHarness:
    """A board that has paid, and whose trainer is at the data."""
    until_training(board).step(e.TrainerReady())
    board.inbox.clear()
    return board


@pytest.mark.parametrize("stage", list(e.FailureStage))
def test_failure_after_the_charge_sends_noise_of_nothing_for_the_same_charge(
    stage: e.FailureStage,
) -> None:
    board = until_reading(connected(fresh()))

    effects = board.step(e.TrainingFailed(stage, "killed"))

    (started,) = [it for it in effects if isinstance(it, f.StartTraining)]
    assert started.empty
    board.run(lambda: 0 in board.meadow.updates)
    assert len(board.disk.charges()) == 1
    assert len(board.meadow.updates[0]) == 1


def test_record_that_crashes_the_trainer_is_left_out_and_the_others_count() -> None:
    board = until_reading(connected(fresh()))

    found = []
    for record in (5, 3, 5):
        effects = board.step(
            e.TrainingFailed(e.FailureStage.TRAINING, "killed", record)
        )
        found += [it for it in effects if isinstance(it, f.StartTraining)]
        board.step(e.TrainerReady())
        board.inbox.clear()

    # The third time it crashed at a record that was left out already.
    assert [(it.empty, it.skipped) for it in found] == [
        (False, (5,)),
        (False, (5, 3)),
        (True, (5, 3)),
    ]
    assert len(board.disk.charges()) == 1


def test_records_that_crash_the_trainer_are_left_out_one_by_one_up_to_a_bound() -> None:
    board = until_reading(connected(fresh()))
    effects: tuple[f.Effect, ...] = ()

    found = []
    for record in range(SKIPPED_MAX + 1):
        effects = board.step(
            e.TrainingFailed(e.FailureStage.TRAINING, "killed", record)
        )
        found += [it for it in effects if isinstance(it, f.StartTraining)]
        board.step(e.TrainerReady())
        board.inbox.clear()

    assert [it.empty for it in found] == [False] * SKIPPED_MAX + [True]


def test_second_failure_after_the_charge_burns_the_version() -> None:
    board = until_reading(connected(fresh()))
    board.step(e.TrainingFailed(e.FailureStage.TRAINING, "killed"))
    board.inbox.clear()

    board.step(e.TrainingFailed(e.FailureStage.TRAINING, "killed"))

    assert is_condition(board, ReadinessCondition.TOOK_PART)
    assert board.state.waiting == ()


def test_failure_without_noise_is_told_and_not_made_up_for() -> None:
    board = BoardHarness(Disk(), FakeCoordinator(task_spec(OPEN)), cap=None)
    until_reading(connected(board))

    effects = board.step(e.TrainingFailed(e.FailureStage.TRAINING, "diverged"))

    assert "StartTraining" not in names(effects)
    assert is_condition(board, ReadinessCondition.TOOK_PART)


def test_spent_budget_ends_training_but_not_inference() -> None:
    board = connected(BoardHarness(Disk(), FakeCoordinator(), cap=Budget(1.0, 1e-5)))

    board.run(lambda: is_condition(board, ReadinessCondition.BUDGET_SPENT))
    head = board.meadow.head
    board.inbox.clear()
    board.meadow.head = head + 5
    board.step(e.ManifestArrived(manifest(head + 5)))
    board.run(lambda: board.state.adopted is not None and not board.inbox)

    assert phase(board.settings, board.state, board.now_s) is DevicePhase.SLEEPING
    assert board.state.adopted is not None
    assert board.state.adopted.version == head + 5


def test_task_without_noise_is_refused_under_a_cap() -> None:
    board = connected(BoardHarness(Disk(), FakeCoordinator(task_spec(OPEN))))

    assert is_condition(board, ReadinessCondition.POLICY_REFUSED)


def test_task_without_noise_runs_where_the_owner_lifts_the_cap() -> None:
    board = connected(BoardHarness(Disk(), FakeCoordinator(task_spec(OPEN)), cap=None))

    board.run(lambda: board.meadow.head == 2)

    assert board.disk.charged() >= {0, 1}


def test_training_from_a_version_that_became_stale_is_stopped_unpaid() -> None:
    board = until_training(connected(fresh()))
    board.meadow.head = 3

    effects = board.step(e.ManifestArrived(manifest(3)))

    assert "StopTraining" in names(effects)
    assert board.disk.charges() == []


def test_training_goes_on_while_its_base_version_still_counts() -> None:
    board = until_training(connected(fresh()))
    board.meadow.head = 2

    board.step(e.ManifestArrived(manifest(2)))
    board.step(e.TrainerReady())

    assert board.disk.charged() == {0}
