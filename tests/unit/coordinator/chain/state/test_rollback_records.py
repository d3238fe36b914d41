"""Which versions the newest one descends from, and without whom."""

import pytest

from starling.coordinator.chain.state.overlay import StateOverlay
from starling.coordinator.chain.state.rollback_records import ROLLBACKS, left_out
from starling.protocol.chain.task_rollback import TaskRollback
from starling.protocol.ids import TaskId, Version
from tests.unit.coordinator.fixtures.small_chain import SmallChain
from tests.unit.coordinator.fixtures.small_genesis import board_id
from tests.unit.coordinator.fixtures.small_task import MODEL

A, B = board_id(1), board_id(2)
HEAD = 9


@pytest.fixture
def draft() -> StateOverlay:
    """Version 5 is 3 again, without A from 2 on; 8 is 6 again, without B from 4 on."""
    made = StateOverlay(SmallChain().tree)
    for version, first, again, board in ((5, 2, 3, A), (8, 4, 6, B)):
        body = TaskRollback(TaskId(0), Version(first), Version(again), MODEL, (board,))
        ROLLBACKS.put(made, body, 0, version)
    return made


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (9, frozenset()),
        (7, None),
        (6, frozenset({B})),
        (4, None),
        (3, frozenset({A})),
        (2, frozenset()),
    ],
)
def test_head_descends_from_what_no_rollback_undid(
    draft: StateOverlay, version: int, expected: frozenset[bytes] | None
) -> None:
    assert left_out(draft, 0, version, HEAD) == expected


def test_version_that_was_undone_counts_again_once_it_is_made_again(
    draft: StateOverlay,
) -> None:
    body = TaskRollback(TaskId(0), Version(2), Version(4), MODEL, (B,))
    ROLLBACKS.put(draft, body, 0, 10)
    assert left_out(draft, 0, 4, 10) == frozenset({B})
    assert left_out(draft, 0, 3, 10) == frozenset({B})
    assert left_out(draft, 0, 6, 10) is None
