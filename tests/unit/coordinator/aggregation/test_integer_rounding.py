from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.coordinator.aggregation.integer_rounding import (
    divide_half_even,
    multiply_q16,
)

WIDE = st.integers(-(2**62), 2**62)


@given(st.lists(WIDE, min_size=1, max_size=20), st.integers(1, 2**62 - 1))
def test_divide_half_even_any_integers_equals_exact_rounding(
    values: list[int], divisor: int
) -> None:
    quotient = divide_half_even(np.array(values, np.int64), divisor)

    assert quotient.tolist() == [round(Fraction(value, divisor)) for value in values]


@given(
    st.lists(st.integers(-(2**45), 2**45), min_size=1, max_size=20),
    st.integers(0, 2**24),
)
def test_multiply_q16_any_integers_equals_exact_rounding(
    values: list[int], factor: int
) -> None:
    product = multiply_q16(np.array(values, np.int64), factor)

    assert product.tolist() == [
        round(Fraction(value * factor, 2**16)) for value in values
    ]


@pytest.mark.parametrize(
    ("value", "divisor", "expected"),
    [(1, 2, 0), (3, 2, 2), (-1, 2, 0), (-3, 2, -2), (5, 2, 2), (7, 3, 2), (-7, 3, -2)],
)
def test_divide_half_even_ties_go_to_even(
    value: int, divisor: int, expected: int
) -> None:
    assert divide_half_even(np.array([value]), divisor).tolist() == [expected]
