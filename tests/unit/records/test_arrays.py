"""Arrays x and y as records."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from starling.records.arrays import array_records
from starling.records.data_options import DataOptions
from starling.records.errors import DataError

X = np.arange(24.0).reshape(8, 3)
GROUPED = {"x": X, "y": np.arange(8) % 2, "who": np.array(list("aabbccdd"))}


@pytest.mark.parametrize(
    ("y", "loss", "classes"),
    [
        (np.arange(8) % 3, "cross-entropy", ()),
        (np.array(list("abababab")), "cross-entropy", ("a", "b")),
        (np.arange(8) % 2.0, "cross-entropy", ()),
        (np.arange(8.0), "mse", ()),
        (np.arange(8) / 3, "mse", ()),
        (np.arange(16.0).reshape(8, 2), "mse", ()),
    ],
    ids=["whole", "texts", "few reals", "many reals", "fractions", "two targets"],
)
def test_kind_of_targets_follows_from_them(
    y: NDArray[Any], loss: str, classes: tuple[str, ...]
) -> None:
    found = array_records({"x": X, "y": y}, DataOptions(), "own", "own.npz")

    assert (found.loss, found.classes) == (loss, classes)
    assert found.y.shape == (y.shape if loss != "mse" else (8, y.ndim))


def test_labels_from_below_zero_are_told() -> None:
    x, y = np.zeros((40, 2), np.float32), np.repeat([-1, 1], 20)

    arrays: dict[str, NDArray[Any]] = {"x": x, "y": y}
    made = array_records(arrays, DataOptions(), "set", "set.npz")
    assert made.loss == "mse"
    assert "2 whole numbers, from -1 on" in made.notes[0]

    asked = DataOptions(kind="numbers")
    assert not array_records(arrays, asked, "set", "set.npz").notes
    arrays["y"] = np.arange(-20, 20)
    assert not array_records(arrays, DataOptions(), "set", "set.npz").notes


def test_array_of_boards_divides_the_records() -> None:
    found = array_records(GROUPED, DataOptions(board_column="who"), "own", "own.npz")

    assert found.boards is not None
    assert found.boards.names == ("a", "b", "c", "d")


BAD: dict[str, tuple[dict[str, Any], DataOptions, str]] = {
    "no y": ({"x": X}, DataOptions(), r"x and y, found \['x'\]"),
    "lengths": (
        {"x": X, "y": np.zeros(7)},
        DataOptions(),
        r"found \(8, 3\) and \(7,\)",
    ),
    "objects": ({"x": X.astype(complex), "y": np.zeros(8)}, DataOptions(), "numbers"),
    "one label": ({"x": X, "y": np.ones(8, int)}, DataOptions(), "y holds 1 alone"),
    "no values": ({"x": X[:, :0], "y": np.arange(8) % 2}, DataOptions(), "no value"),
    "beyond float32": (
        {"x": np.where(X == 13, 1e39, X), "y": np.zeros(8)},
        DataOptions(),
        "x holds .* beyond 3e38, first in record 5",
    ),
    "target beyond float32": (
        {"x": X, "y": np.where(np.arange(8) == 3, 1e39, 0.5)},
        DataOptions(),
        "y holds .* beyond 3e38, first in record 4",
    ),
    "label out of reach": (
        {"x": X, "y": np.array([0, 10**12] * 4)},
        DataOptions(),
        "labels from 4,096 on, one of them 1000000000000: .* --loss mse",
    ),
    "label of 64 bits": (
        {"x": X, "y": np.array([0, 2**64 - 1] * 4, np.uint64)},
        DataOptions(),
        "labels from 4,096 on",
    ),
    "target by name": (
        {"x": X, "y": np.arange(8) % 2},
        DataOptions(targets=("kind",)),
        "arrays have no columns",
    ),
    "window": (
        {"x": X, "y": np.arange(8) % 2},
        DataOptions(window=2),
        "write x as windows",
    ),
    "label of no letter": (
        {"x": X, "y": np.array(["", "b"] * 4)},
        DataOptions(),
        "a label is an empty text",
    ),
    "label that does not print": (
        {"x": X, "y": np.array(["a\u00a0", "b"] * 4)},
        DataOptions(),
        r"label 'a\?' holds the character U\+00A0",
    ),
    "NaN": (
        {"x": np.where(X == 13, np.nan, X), "y": np.zeros(8)},
        DataOptions(),
        "x holds a NaN, .*, first in record 5",
    ),
    "NaN in target": (
        {"x": X, "y": np.array([0, 1, np.nan, 0, 0, 0, 0, 0])},
        DataOptions(),
        "y holds a NaN, .*, first in record 3",
    ),
    "negative labels": (
        {"x": X, "y": np.arange(8) - 1},
        DataOptions(kind="classes"),
        "whole numbers from 0",
    ),
    "no such array": (GROUPED, DataOptions(group="whom"), "'whom': no array of 8"),
    "one group": (
        {**GROUPED, "who": np.zeros(8)},
        DataOptions(group="who"),
        "every record belongs to '0.0'",
    ),
}


@pytest.mark.parametrize(("arrays", "asked", "said"), BAD.values(), ids=BAD)
def test_arrays_at_fault_are_named(
    arrays: dict[str, Any], asked: DataOptions, said: str
) -> None:
    with pytest.raises(DataError, match=rf"own\.npz: .*{said}"):
        array_records(arrays, asked, "own", "own.npz")
