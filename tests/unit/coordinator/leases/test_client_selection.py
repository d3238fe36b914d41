"""Selection by a task's weights: larger composites more often, everybody at times."""

import hashlib

import pytest

from starling.coordinator.leases.client_selection import (
    UNIFORM_SHARE,
    by_task,
    uniform,
)
from starling.protocol.ids import TaskId, Version
from starling.protocol.learning.selection_policy import (
    EQUAL_CHANCES,
    SelectionPolicy,
    composite_ppm,
)
from starling.protocol.wire.message_bodies import PPM, CheckIn

DRAWS = 4_000
WEIGHTS = SelectionPolicy(1, 2, 1, 1, 3)
GOOD = CheckIn(TaskId(0), Version(0), PPM, PPM, PPM, 16)
POOR = CheckIn(TaskId(0), Version(0), 0, 0, 0, 16)


def drawn(number: int) -> float:
    digest = hashlib.blake2b(b"%d" % number, digest_size=7).digest()
    return int.from_bytes(digest) / (1 << 56)


def wins(first: tuple[CheckIn, int], second: tuple[CheckIn, int]) -> float:
    """How often the first of two boards gets the one lease."""
    won = 0
    for number in range(DRAWS):
        places = [
            by_task(WEIGHTS, said, standing, drawn(2 * number + who))
            for who, (said, standing) in enumerate((first, second))
        ]
        won += places[0] < places[1]
    return won / DRAWS


def test_composite_on_worked_numbers() -> None:
    said = 400_000, 800_000, 1_000_000
    # eval = (0.4 + 2 * 0.8 + 1) / 4 = 0.75; composite = (0.75 + 3 * 0.5) / 4.
    assert composite_ppm(WEIGHTS, said, 500_000) == 562_500
    assert composite_ppm(SelectionPolicy(reputation=2), said, 500_000) == 500_000
    assert composite_ppm(EQUAL_CHANCES, said, 0) == PPM


def test_equal_chances_are_the_draw_itself() -> None:
    assert by_task(EQUAL_CHANCES, POOR, 0, 0.25) == 0.25
    assert uniform(WEIGHTS, POOR, 0, 0.75) == 0.75


@pytest.mark.parametrize("said", [GOOD, POOR])
@pytest.mark.parametrize("standing", [0, 1, 500_000, PPM])
@pytest.mark.parametrize("draw", [0.0, UNIFORM_SHARE, 0.5, 1.0 - 2.0**-53])
def test_place_is_one_in_the_queue(said: CheckIn, standing: int, draw: float) -> None:
    assert 0.0 <= by_task(WEIGHTS, said, standing, draw) < 1.0


def test_leases_follow_the_weights() -> None:
    # Composites 1 and 0.375: a share of 0.727 but for the tenth that is uniform.
    assert 0.67 < wins((GOOD, PPM), (POOR, 500_000)) < 0.76
    # Standard deviation of the share is 0.008.
    assert 0.47 < wins((GOOD, 500_000), (GOOD, 500_000)) < 0.53


def test_board_of_no_weight_gets_a_share_of_the_uniform_leases() -> None:
    share = wins((POOR, 0), (GOOD, PPM))
    assert 0.03 < share < 0.10
