"""How far a fleet is from central training."""

import numpy as np
import pytest

from starling.fleet.report.pooled_baseline import compared
from starling.protocol.learning.metrics import Metrics, measured


def numbers(errors: list[float], truth: list[float]) -> Metrics:
    y = np.array(truth)[:, None]
    outputs = y + np.array(errors)[:, None]
    return measured("mse", outputs, y, np.zeros(len(y)))


def labels(outputs: list[int]) -> Metrics:
    y = np.array([0, 1, 1, 0])
    return measured("cross-entropy", np.eye(2)[outputs], y, np.zeros(4))


def test_labels_are_compared_by_accuracy() -> None:
    found = compared(labels([0, 1, 0, 0]), labels([0, 1, 1, 0]), 7)

    assert (found.metric, found.distance) == ("accuracy", 0.25)
    assert "|V_fed - V_sum| = 25.0%: accuracy 75.0%, 100.0%" in found.text
    assert found.document()["epochs"] == 7


def test_numbers_are_compared_by_r2() -> None:
    found = compared(numbers([1, -1], [0, 4]), numbers([0, 0], [0, 4]), 1)

    assert (found.metric, found.pooled) == ("r2", 1.0)
    assert found.distance == pytest.approx(0.25)


def test_numbers_that_do_not_vary_are_compared_by_their_error() -> None:
    found = compared(numbers([1, 1], [4, 4]), numbers([0, 0], [4, 4]), 1)

    assert (found.metric, found.distance) == ("rmse", 1.0)
