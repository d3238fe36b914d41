import numpy as np
import pytest

from starling.coordinator.aggregation.base_history import (
    base_theta,
    history_words,
    remembered,
)
from starling.coordinator.aggregation.server_step import initial_state
from starling.coordinator.aggregation.strategy import ModelState
from starling.protocol.learning.vector_codecs import Grid


def theta_of(version: int) -> Grid:
    return np.array([version, -version], np.int64)


def walked(versions: list[int], staleness_max: int) -> ModelState:
    """Version 0, then these, each at a theta that tells its number."""
    state = initial_state(theta_of(0))
    for version in versions:
        memory = remembered(state, version, staleness_max)
        theta = theta_of(version)
        state = ModelState(theta, state.momentum, theta, memory)
    return state


@pytest.mark.parametrize("head", range(12))
@pytest.mark.parametrize("staleness_max", [0, 1, 4])
def test_base_of_every_update_that_may_come_is_found(
    head: int, staleness_max: int
) -> None:
    state = walked(list(range(1, head + 1)), staleness_max)

    for base in range(max(0, head - staleness_max), head + 1):
        assert base_theta(state, base).tolist() == theta_of(base).tolist()
    assert state.memory.size <= history_words(2, staleness_max)


def test_base_that_was_made_anew_is_the_version_before() -> None:
    # Versions 2, 3 and 6 were made anew without updates.
    state = walked([1, 4, 5, 7], 4)

    found = {base: int(base_theta(state, base)[0]) for base in range(3, 9)}

    assert found == {3: 1, 4: 4, 5: 5, 6: 5, 7: 7, 8: 7}


def test_base_that_is_too_old_is_not_made_up() -> None:
    with pytest.raises(AssertionError, match="version 1"):
        base_theta(walked(list(range(1, 9)), 2), 1)
