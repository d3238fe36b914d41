"""The best version is the most accurate, then that of least loss, then the newest."""

from typing import NamedTuple

import pytest

from starling.coordinator.models.best_version import best_version


class Row(NamedTuple):
    version: int
    accuracy: float | None
    loss: float | None


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([], None),
        ([Row(0, None, None)], None),
        ([Row(0, 0.5, 1.0), Row(1, 0.9, 2.0), Row(2, 0.8, 0.1)], 1),
        ([Row(0, 0.9, 1.0), Row(1, 0.9, 0.5), Row(2, 0.9, 0.7)], 1),
        ([Row(0, 0.9, 0.5), Row(1, 0.9, 0.5)], 1),
        ([Row(0, None, 3.0), Row(1, None, 1.0), Row(2, None, 2.0)], 1),
        ([Row(0, 0.9, 1.0), Row(1, None, None)], 0),
    ],
    ids=["none", "unknown", "accuracy", "loss", "newest", "regression", "not yet"],
)
def test_best_version(rows: list[Row], best: int | None) -> None:
    found = best_version(rows)

    assert (None if found is None else found.version) == best
