import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.coordinator.aggregation.base_allowance import (
    ALLOWED_Q15,
    BaseAllowance,
    allowance_words,
)
from starling.protocol.learning.task import Q15, Q16

NOTHING = np.zeros(0, np.int64)
VERSION = st.dictionaries(st.integers(0, 6), st.integers(1, 1 << 20), min_size=1)


def test_allowance_third_step_from_one_base_is_too_much_as_a_whole() -> None:
    allowance = BaseAllowance(NOTHING)

    found = [allowance.too_much_q16({7: 4 * Q15}, 4) for _ in range(3)]

    assert found == [{}, {7: Q16 // 2}, {7: Q16}]


def test_allowance_counts_the_bases_of_a_version_apart() -> None:
    allowance = BaseAllowance(NOTHING)
    allowance.too_much_q16({3: 4 * Q15}, 4)

    # Half of the examples are of base 3, whose half step is just what is left to it.
    assert allowance.too_much_q16({3: 2 * Q15, 4: 2 * Q15}, 4) == {}
    assert allowance.too_much_q16({3: Q15, 4: 3 * Q15}, 4) == {3: Q16}


def test_allowance_late_steps_of_many_bases_are_never_too_much() -> None:
    allowance = BaseAllowance(NOTHING)
    for version in range(100):
        late = {version - tau: Q15 // (1 + tau) for tau in range(21)}
        assert allowance.too_much_q16(late, 21) == {}


@pytest.mark.parametrize("base", [0, 5])
def test_allowance_knows_when_a_base_may_be_short(base: int) -> None:
    allowance = BaseAllowance(NOTHING)
    before = allowance.may_be_short(base)
    allowance.too_much_q16({base: Q15 // 2 + 1}, 1)

    assert (before, allowance.may_be_short(base)) == (False, True)


def test_allowance_memory_goes_on_and_forgets_what_cannot_come_again() -> None:
    allowance = BaseAllowance(NOTHING)
    allowance.too_much_q16({9: Q15, 4: Q15, 5: Q15}, 3)

    memory = allowance.memory(5)

    third = round(Q15 / 3)
    assert memory.tolist() == [5, third, 9, third]
    assert BaseAllowance(memory).memory(5).tolist() == memory.tolist()
    assert memory.size <= allowance_words(5)


@given(st.lists(VERSION, max_size=12))
def test_allowance_no_base_ever_goes_farther_than_it_may(
    versions: list[dict[int, int]],
) -> None:
    allowance = BaseAllowance(NOTHING)
    gone: dict[int, float] = {}
    for pledges in versions:
        examples = sum(pledges.values())
        weights = {base: Q15 * pledge for base, pledge in pledges.items()}
        short = {base for base in weights if allowance.may_be_short(base)}
        too_much = allowance.too_much_q16(weights, examples)
        assert set(too_much) <= short
        for base, weight in weights.items():
            part = 1 - too_much.get(base, 0) / Q16
            gone[base] = gone.get(base, 0.0) + part * weight / examples
    # Each version rounds twice, by half a unit of 2^-15 at most.
    most = ALLOWED_Q15 + len(versions)
    assert all(step <= most for step in gone.values())
