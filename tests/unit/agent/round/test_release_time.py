"""An update leaves at a moment that does not tell how long its training took."""

from dataclasses import replace

import pytest

from starling.agent.machine import farewell
from starling.agent.round.release_time import RELEASES_TO_HALVE
from starling.agent.step import effects as f
from starling.agent.step import events as e
from starling.agent.step.state import ReadinessCondition, WaitTimes
from starling.protocol.wire.envelope import ENVELOPE
from starling.protocol.wire.message_bodies import CHECK_IN, DevicePhase
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
    TOPICS,
    FakeCoordinator,
    manifest,
    task_spec,
)

T = 2.0
PACE = WaitTimes(release_s=T, show_s=0.0)


def at_the_data(board: BoardHarness) -> BoardHarness:
    """A board that has paid, and whose trainer says nothing yet."""
    until_training(connected(board)).step(e.TrainerReady())
    board.inbox.clear()
    board.log.clear()
    return board


def finish(board: BoardHarness, after_s: float) -> None:
    """Time goes on by ticks, and then the trainer has its result."""
    until_s = board.now_s + after_s
    while board.state.wake_at_s < until_s:
        board.now_s = board.state.wake_at_s
        board.step(e.WakeTimeReached())
    board.now_s = until_s
    board.step(board.draw_noise())


def until_head(board: BoardHarness, head: int) -> None:
    """Lives until so many versions are made."""
    board.run(lambda: board.meadow.head >= head)


def sent_at(board: BoardHarness) -> float:
    """Lives until the update is spooled."""
    board.run(lambda: bool(board.state.waiting) or bool(board.meadow.updates))
    return board.now_s


@pytest.mark.parametrize(
    ("took_s", "left_s"),
    [(0.0, T), (1.9, T), (T, 2 * T), (3.9, 2 * T), (4.1, 4 * T), (50.0, 32 * T)],
)
def test_update_leaves_at_a_doubling_of_the_wait(took_s: float, left_s: float) -> None:
    board = at_the_data(fresh(pace=PACE))
    began_s = board.now_s

    finish(board, took_s)

    assert sent_at(board) - began_s == left_s


def test_result_that_comes_late_in_one_step_is_held_all_the_same() -> None:
    # The process was stopped for a while: no tick came in between.
    board = at_the_data(fresh(pace=PACE))
    began_s = board.now_s
    board.now_s += 5 * T

    board.step(board.draw_noise())

    assert sent_at(board) - began_s == 8 * T


@pytest.mark.parametrize("took_s", [0.1, 0.7, 1.9])
def test_nothing_is_said_between_the_charge_and_the_moment(took_s: float) -> None:
    board = at_the_data(fresh(pace=PACE))
    board.step(e.WakeTimeReached())
    board.log.clear()

    finish(board, took_s)

    assert not [it for it in board.log if isinstance(it, f.PublishBestEffort)]
    assert board.state.training is not None
    assert is_condition(board, ReadinessCondition.TRAINING)


def test_boards_are_told_apart_neither_by_time_nor_by_failures() -> None:
    ways = []
    for took_s, fails in ((0.1, False), (1.9, False), (0.3, True)):
        board = at_the_data(fresh(pace=PACE))
        if fails:
            board.now_s += took_s
            board.step(e.TrainingFailed(e.FailureStage.TRAINING, "killed"))
            board.step(e.TrainerReady())
            board.inbox.clear()
            finish(board, 0.1)
        else:
            finish(board, took_s)
        until_head(board, 3)
        said = [it for it in board.log if isinstance(it, f.PublishBestEffort)]
        envelopes = [ENVELOPE.unpack(it.payload) for it in said]
        ways.append([(it.counter, it.kind, it.body) for it in envelopes])
        assert len(board.disk.charges()) == 3

    assert ways[0] == ways[1] == ways[2]


@pytest.mark.parametrize(
    ("before_s", "wanted"),
    [(4 * T, [4 * T, 4 * T, 2 * T, 2 * T]), (T, [T, T, T, T])],
    ids=["above the first", "never below"],
)
def test_wait_is_kept_and_halves_after_so_many_updates(
    before_s: float, wanted: list[float]
) -> None:
    board = connected(fresh(pace=PACE))
    released = RELEASES_TO_HALVE - 3
    board.state = replace(board.state, release_s=before_s, released=released)
    waits = []
    for head in range(1, 5):
        until_head(board, head)
        waits.append(board.state.release_s)

    assert waits == wanted


def test_wait_that_is_longer_than_the_fleets_pace_halves() -> None:
    board = at_the_data(fresh(pace=PACE))
    finish(board, 7.0)
    assert board.state.release_s == 4 * T

    effects = board.step(e.ManifestArrived(manifest(3)))

    assert "StopTraining" in names(effects)
    assert board.state.release_s == 2 * T


def test_update_without_noise_is_not_held() -> None:
    board = BoardHarness(Disk(), FakeCoordinator(task_spec(OPEN)), cap=None, pace=PACE)
    at_the_data(board)

    effects = board.step(board.draw_noise())

    assert "SpoolUpload" in names(effects)


def test_board_that_is_stopped_spools_what_it_holds() -> None:
    board = at_the_data(fresh(pace=PACE))
    board.step(e.StopRequested())
    assert board.state.training is not None
    finish(board, 0.5)

    effects = board.step(e.StopRequested())

    assert "SpoolUpload" in names(effects)
    assert board.disk.spool.keys() == {0}


def test_power_cut_while_an_update_is_held_loses_that_version_alone() -> None:
    board = at_the_data(fresh(pace=PACE))
    finish(board, 0.5)

    again = connected(BoardHarness(board.disk, board.meadow, pace=PACE))

    again.run(lambda: again.meadow.head == 3)
    assert 0 not in again.meadow.updates
    assert len(again.disk.charges()) == 3


def test_timeliness_counts_leases_and_updates_and_no_failures_of_records() -> None:
    board = connected(fresh())
    for _ in range(3):
        until_training(board).step(e.TrainerReady())
        board.inbox.clear()
        board.step(e.TrainingFailed(e.FailureStage.TRAINING, "killed"))
        until_head(board, board.meadow.head + 1)
    board.run(lambda: board.state.asking is not None)

    said = [
        ENVELOPE.unpack(it.payload)
        for it in board.log
        if isinstance(it, f.PublishBestEffort)
        and it.topic == TOPICS.say(board.settings.device)
    ]
    assert CHECK_IN.unpack(said[-1].body).timeliness_ppm == 10**6
    _, will = farewell(board.settings, board.state, DevicePhase.LOST)
    assert will.retain
