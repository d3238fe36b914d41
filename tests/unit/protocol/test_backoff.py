"""Bounds of delays grow by a factor with each failure, up to a most."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.protocol.backoff import backoff_s


def test_bound_doubles_until_the_most() -> None:
    found = [backoff_s(1.0, 60.0, failures) for failures in range(8)]

    assert found == [1, 2, 4, 8, 16, 32, 60, 60]


def test_bound_grows_by_the_factor_given() -> None:
    assert backoff_s(0.25, 4.0, 2, growth=1.5) == 0.5625


def test_failures_above_their_most_do_not_count() -> None:
    found = {
        backoff_s(0.25, math.inf, failures, failures_max=7) for failures in (7, 99)
    }

    assert found == {32.0}


@pytest.mark.parametrize("growth", [1.0, 1.5, 2.0])
@given(
    first_s=st.floats(1e-3, 1e3), most_s=st.floats(1e-3, 1e6), failures=st.integers(0)
)
def test_bound_is_positive_never_over_the_most_and_never_falls(
    growth: float, first_s: float, most_s: float, failures: int
) -> None:
    found = backoff_s(first_s, most_s, failures, growth=growth)

    assert 0 < found <= most_s
    assert found <= backoff_s(first_s, most_s, failures + 1, growth=growth)
