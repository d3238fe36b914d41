"""A message names the column that is out of scale, and what to do."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from starling.agent.training.divergence_advice import largest_column, way_out


def test_largest_column_is_named_with_what_others_reach() -> None:
    inputs = np.array([[0.5, -900.0, 2.0], [1.0, 3.0, -4.0]])
    assert largest_column(inputs) == (
        "column 2 of 3 of its data reaches 900, half of them no more than 4"
    )


def test_largest_column_of_pictures_counts_over_the_flattened_record() -> None:
    inputs = np.zeros((2, 2, 2), np.float32)
    inputs[1, 1, 0] = 7
    assert "column 3 of 4" in largest_column(inputs)


def test_largest_column_is_one_that_is_no_number() -> None:
    assert "column 1 of 2 of its data reaches inf" in largest_column(
        np.array([[np.nan, 5.0]])
    )


@pytest.mark.parametrize("inputs", [np.zeros((0, 3)), np.array([["a"]])])
def test_way_out_without_numbers_still_says_what_to_do(inputs: NDArray[Any]) -> None:
    assert way_out(inputs).startswith("scale the data")
