"""Plots of a report."""

from typing import Any

import pytest

from starling.fleet.report.plots import accuracy_over_versions

POINT = {"version": 1, "time_s": 0.5}


def report(points: list[dict[str, Any]]) -> dict[str, Any]:
    config = {"devices": 2, "buffer": 1, "data": "own.csv"}
    return {"config": config, "privacy": None, "versions": points}


@pytest.mark.parametrize(
    ("known", "title"),
    [
        ({"accuracy": 0.5, "loss": 2.0}, "Accuracy on held-out examples"),
        ({"accuracy": None, "loss": 2.0}, "Loss on held-out examples"),
        ({"accuracy": None, "loss": None}, "Accuracy on held-out examples"),
    ],
)
def test_versions_of_numbers_are_plotted_by_their_loss(
    known: dict[str, float | None], title: str
) -> None:
    figure = accuracy_over_versions(report([{**POINT, **known}]))

    assert figure.get_suptitle() == title
