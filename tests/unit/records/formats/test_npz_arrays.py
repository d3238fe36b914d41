"""Arrays of numpy's files: what each must have, and what is said of others."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from starling.records.data_options import DataOptions
from starling.records.errors import DataError
from starling.records.runtime.sources import read_source


def _scalar(path: Path) -> None:
    np.savez(path, x=np.float32(3), y=np.int64(1))


def _single(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def _reals_and_texts(path: Path) -> None:
    np.savez(path.with_name("a.npz"), x=np.zeros((2, 3)), y=np.array(["a", "b"]))
    np.savez(path, x=np.zeros((2, 3)), y=np.zeros(2))


def _entries_without_ending(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x", b"1")
        file.writestr("y", b"1")


def _odd_head(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        for name in ("x.npy", "y.npy"):
            file.writestr(name, b"\x93NUMPY\x01\x00\x08\x00{[]: 1}\n")


def _two_targets(path: Path) -> None:
    np.savez(path.with_name("a.npz"), x=np.zeros((2, 3)), y=np.zeros(2))
    np.savez(path, x=np.zeros((2, 3)), y=np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (_scalar, r"expected x of as many records as y, found \(\) and \(\)"),
        (_entries_without_ending, r"expected arrays x and y, found \[\]"),
        (_odd_head, r"cannot be read"),
        (_single, r"is a single array: numpy.savez\(file, x=x, y=y\) writes both"),
        (_reals_and_texts, r"y: records of \(\) numbers, where a.npz has \(\) texts"),
        (_two_targets, r"y: records of \(2,\) numbers, where a.npz has \(\) numbers"),
    ],
)
def test_arrays_at_fault_are_named(
    make: Callable[[Path], None], told: str, tmp_path: Path
) -> None:
    make(tmp_path / "own.npz")

    with pytest.raises(DataError, match=rf"own.npz: {told}"):
        read_source(tmp_path, DataOptions())


def test_arrays_that_nobody_asks_for_may_be_of_any_kind(tmp_path: Path) -> None:
    for name in ("a", "b"):
        odd = np.array([{name: 1}, None], object)
        x = np.zeros((4, 3))
        np.savez(tmp_path / f"{name}.npz", x=x, y=np.arange(4) % 2, notes=odd)

    assert len(read_source(tmp_path, DataOptions())) == 8
