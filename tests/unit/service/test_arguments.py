"""Arguments with bounds: what is outside is a usage error that names them."""

import argparse

import pytest

from starling.service.arguments import WAIT_S_MAX, waiting_s, whole_number


@pytest.mark.parametrize("text", ["0", "11", "-1", "1.5", "nan", "", "9" * 5000])
def test_number_out_of_bounds_is_refused_with_the_bounds(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"in \[1, 10\]") as refused:
        whole_number(1, 10)(text)
    assert len(str(refused.value)) < 100


def test_number_within_bounds_is_read() -> None:
    assert [whole_number(1, 10)(text) for text in ("1", " 7 ", "10")] == [1, 7, 10]


@pytest.mark.parametrize("text", ["nan", "inf", "-0.1", "1e300", "soon", ""])
def test_wait_that_would_never_end_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="number of seconds"):
        waiting_s(text)


def test_wait_is_read() -> None:
    assert [waiting_s(text) for text in ("0", "2.5", "31622400")] == [
        0.0,
        2.5,
        WAIT_S_MAX,
    ]
