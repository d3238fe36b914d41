"""A task stays what it was when a manifest first proved it."""

from dataclasses import replace

import pytest

from starling.agent.privacy.ledger_entries import Charge, read_entry
from starling.agent.round.readiness import condition
from starling.agent.step import events as e
from starling.agent.step.state import ReadinessCondition
from starling.protocol.ids import H
from starling.protocol.learning.task import MICRO
from tests.unit.agent.agent_harness import BoardHarness as Lone
from tests.unit.agent.agent_harness import connected, fresh, until_spooled
from tests.unit.agent.fake_coordinator import PRIVATE, manifest, task_spec


def test_task_is_held_to_what_it_was_at_first_also_after_a_restart() -> None:
    board = connected(fresh())
    board.run(lambda: board.state.loaded is not None)
    other = replace(task_spec(), bundle=H(b"another bundle"))

    board.step(e.ManifestArrived(manifest(1, other)))
    again = connected(Lone(board.disk, board.meadow))
    again.step(e.ManifestArrived(manifest(1, other)))

    for each in (board, again):
        assert each.state.offer is not None
        assert each.state.offer.version == 0
        assert each.state.swaps == 1
        assert (
            condition(each.settings, each.state, 0.0) is ReadinessCondition.TASK_CHANGED
        )
        assert each.state.asking is None
    again.meadow.head = 2
    again.step(e.ManifestArrived(manifest(2)))
    assert not again.state.swapped
    again.run(lambda: again.state.training is not None)


@pytest.mark.parametrize(
    "change",
    [
        {"bundle_bytes": 7},
        {"dimension": 5},
        {"codec": 1},
        {"pledges": (16, 32)},
        {"name": "other"},
        {"privacy": replace(PRIVATE, sigma_micro=3 * MICRO)},
        {"privacy": replace(PRIVATE, clip_q24=1)},
        {"privacy": replace(PRIVATE, epsilon_micro=9 * MICRO)},
        {"privacy": replace(PRIVATE, mechanism=3)},
        {"training": replace(task_spec().training, learning_rate_q24=9)},
    ],
    ids=lambda change: ",".join(change),
)
def test_task_that_changes_in_any_field_is_refused(change: dict[str, object]) -> None:
    board = connected(fresh())
    other = replace(task_spec(), **change)  # type: ignore[arg-type] # names real fields

    board.step(e.ManifestArrived(manifest(1, other)))

    assert board.state.swaps == 1
    assert board.state.offer is not None
    assert board.state.offer.version == 0


def test_what_a_task_is_stands_on_the_disk_before_anything_is_charged() -> None:
    board = until_spooled(connected(fresh()))

    entries = [read_entry(payload) for payload in board.disk.journal]
    assert [type(entry).__name__ for entry in entries] == ["PinnedTask", "Charge"]
    assert isinstance(entries[1], Charge)
