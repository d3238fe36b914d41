"""Power cuts at every effect: nothing is paid or signed twice, and learning goes on."""

import pytest

from tests.unit.agent.lone_board import (
    Board,
    Disk,
    PowerCut,
    connected,
)
from tests.unit.agent.meadow import (
    Meadow,
)


def _life(disk: Disk, meadow: Meadow, cut: int | None) -> Board:
    """One start of a board, to its end or to the power cut."""
    board = Board(disk, meadow, lambda number: number == cut)
    connected(board)
    board.run(lambda: meadow.head >= 2)
    return board


EFFECTS = _life(Disk(), Meadow(), None).effects_done


@pytest.mark.parametrize("cut", range(EFFECTS))
def test_power_cut_before_any_effect_signs_no_second_update_and_learning_goes_on(
    cut: int,
) -> None:
    disk, meadow = Disk(), Meadow()
    with pytest.raises(PowerCut):
        _life(disk, meadow, cut)

    board = _life(disk, meadow, None)

    assert meadow.head >= 2
    assert all(len(found) == 1 for found in meadow.updates.values())
    assert set(board.noised) <= disk.charged()
    assert len(disk.journal) == len(disk.charged())
