"""A board attacks with the updates that the timeline says, and with no other."""

import numpy as np
import pytest

from starling.agent.training.local_training import train
from starling.fleet.attacks.attack_schedule import board_attacks
from starling.fleet.runtime.faults.byzantine_board import attacking
from tests.unit.fleet.attacks.test_falsified_training import (
    PLAIN,
    TRAINER,
    cosine,
    honest,
    inputs,
    vector,
)

ATTACKS = board_attacks(f"board 2 flips signs from version {PLAIN.base}", 3)


@pytest.mark.parametrize(("board", "turned"), [(1, False), (2, True), (3, False)])
def test_attacking_board_is_the_one_that_is_named(board: int, turned: bool) -> None:
    rng = np.random.default_rng(1)
    made = attacking(ATTACKS, board, TRAINER, inputs(PLAIN), rng.bytes, rng)
    assert (cosine(vector(made, PLAIN), honest(PLAIN)) < 0) is turned


def test_attacking_board_is_honest_before_its_version() -> None:
    later = board_attacks(f"board 2 flips signs from version {PLAIN.base + 1}", 3)
    rng, again = np.random.default_rng(1), np.random.default_rng(1)
    made = attacking(later, 2, TRAINER, inputs(PLAIN), rng.bytes, rng)
    assert made == train(TRAINER, inputs(PLAIN), again.bytes, again)
