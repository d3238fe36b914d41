"""A board follows the newest task that is open, as far as the chain proves it."""

from dataclasses import replace

import pytest

from starling.agent.step import effects as f
from starling.agent.step import events as e
from starling.agent.sync.manifest_check import changes_over, next_task
from starling.protocol.chain.light_client import MANIFEST
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.errors import Reason
from starling.protocol.ids import TaskId
from starling.protocol.learning.end_policy import EndPolicy
from starling.protocol.learning.task import TaskSpec
from starling.protocol.refusals import REFUSALS
from tests.unit.agent.agent_harness import (
    BoardHarness,
    Disk,
    connected,
    fresh,
    until_spooled,
    until_training,
)
from tests.unit.agent.fake_coordinator import (
    TASK_NUMBER,
    FakeCoordinator,
    manifest,
    refused,
    task_spec,
)

EARLIER, LATER, LATEST = (TaskId(TASK_NUMBER + number) for number in range(3))
STRANGER = SigningKey(b"f" * 32)


def shown(board: BoardHarness, task: TaskId, *, closed: bool = False) -> None:
    """The board hears a task's manifest."""
    board.step(e.ManifestArrived(manifest(0, task=task, closed=closed)))


def following(board: BoardHarness) -> TaskId | None:
    return next_task(board.settings, board.state)


def at_task(
    task: TaskId, spec: TaskSpec | None = None, **changes: object
) -> BoardHarness:
    """A board that takes part in a task, and follows the newest."""
    board = BoardHarness(
        Disk(),
        FakeCoordinator(),
        task=task,
        newest=True,
        **changes,  # type: ignore[arg-type] # tests name real fields
    )
    board.step(e.BrokerConnected())
    board.step(e.ManifestArrived(manifest(0, spec, task=task)))
    assert board.state.offer is not None
    return board


def test_later_task_is_changed_over_to_once_nothing_waits() -> None:
    board = until_spooled(connected(fresh(newest=True)))

    shown(board, LATER)

    assert following(board) == LATER
    assert not changes_over(board.settings, board.state)
    assert changes_over(board.settings, replace(board.state, waiting=()))
    training = replace(
        until_training(connected(fresh())).state, open=frozenset({LATER})
    )
    assert not changes_over(board.settings, training)


def test_earlier_task_is_gone_back_to_once_the_newest_is_closed() -> None:
    board = at_task(LATEST)
    shown(board, EARLIER)
    shown(board, LATER)
    assert following(board) is None

    shown(board, LATEST, closed=True)

    assert following(board) == LATER
    assert changes_over(board.settings, board.state)
    notes = [each.text for each in board.log if isinstance(each, f.Note)]
    assert notes[-1] == f"the board changes over to task {LATER}"


def test_earlier_task_that_is_closed_too_is_passed_over() -> None:
    board = at_task(LATEST)
    shown(board, LATEST, closed=True)
    assert following(board) is None

    shown(board, LATER, closed=True)
    shown(board, EARLIER)

    assert following(board) == EARLIER


def test_task_that_was_open_before_it_closed_is_no_aim_any_more() -> None:
    board = at_task(EARLIER)
    shown(board, LATER)
    shown(board, LATEST)

    shown(board, LATEST, closed=True)
    # Whoever shows the manifest of before the end again leads nobody there.
    shown(board, LATEST)

    assert following(board) == LATER


def test_task_that_was_left_is_not_gone_back_to_after_a_start() -> None:
    board = at_task(EARLIER, left=frozenset({LATER}))

    shown(board, LATER)

    assert following(board) is None


def test_new_version_of_a_closed_task_says_so_as_well() -> None:
    board = at_task(LATER)
    shown(board, EARLIER)

    board.step(e.ManifestArrived(manifest(1, task=LATER, closed=True)))

    assert following(board) == EARLIER


def test_version_that_is_the_task_s_last_ends_it() -> None:
    spec = replace(task_spec(), end=EndPolicy(version=1))
    board = at_task(LATER, spec)
    shown(board, EARLIER)

    board.step(e.ManifestArrived(manifest(1, spec, task=LATER)))

    assert LATER in board.state.over


def test_stored_manifest_of_the_task_before_is_still_known_after_the_change() -> None:
    board = at_task(LATER)
    assert board.disk.progress is not None

    again = BoardHarness(board.disk, FakeCoordinator(), task=EARLIER, newest=True)

    assert again.state.open == {LATER}


@pytest.mark.parametrize("ours", [EARLIER, LATEST], ids=["another", "our own"])
def test_end_that_nobody_certified_moves_no_board(ours: TaskId) -> None:
    board = at_task(ours)
    shown(board, LATER)
    before = following(board)

    forged = manifest(0, key=STRANGER, task=LATEST, closed=True)
    board.step(e.ManifestArrived(forged))

    assert board.state.over == frozenset()
    assert following(board) == before


def test_proof_of_something_else_is_no_end() -> None:
    board = at_task(LATER)
    closed = MANIFEST.unpack(manifest(0, task=LATER, closed=True))
    other = replace(closed, end=closed.task_proof)

    board.step(e.ManifestArrived(MANIFEST.pack(other)))

    assert board.state.over == frozenset()


def test_task_that_nobody_certified_is_not_changed_over_to() -> None:
    board = connected(fresh(newest=True))

    board.step(e.ManifestArrived(manifest(0, key=STRANGER, task=LATER)))

    assert following(board) is None


def test_task_is_refused_by_a_board_that_stays_with_its_own() -> None:
    board = connected(fresh(newest=False))

    shown(board, LATER)

    assert following(board) is None
    assert board.state.others == {LATER}


@pytest.mark.parametrize("reason", [Reason.NORM_EXCEEDED, Reason.NO_LEASE])
def test_update_that_all_refuse_keeps_nobody_at_a_task_that_is_over(
    reason: Reason,
) -> None:
    board = until_spooled(connected(fresh(newest=True)))
    shown(board, LATER)
    update = board.state.waiting[0].entry.update

    shown(board, EARLIER, closed=True)
    assert len(board.disk.spool) == 1
    wait_s = REFUSALS[reason].retry_after_s
    board.step(e.DownArrived(refused(update, reason, wait_s)))

    assert board.disk.spool == {}
    assert changes_over(board.settings, board.state)


def test_update_that_waited_for_a_lease_is_sent_as_it_is_once_its_task_is_over() -> (
    None
):
    board = until_spooled(connected(fresh(newest=True)))
    update = board.state.waiting[0].entry.update
    board.step(e.DownArrived(refused(update, Reason.NO_LEASE, 30)))
    assert [item.unleased for item in board.state.waiting] == [True]

    shown(board, EARLIER, closed=True)

    assert [item.unleased for item in board.state.waiting] == [False]
    assert board.state.sending is not None
    assert board.state.renewing is None
