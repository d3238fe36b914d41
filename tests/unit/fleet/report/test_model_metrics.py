"""A model's numbers over all boards, and the line that a person reads."""

import json
from dataclasses import replace

import numpy as np

from starling.fleet.report.model_metrics import (
    ModelMetrics,
    PersonalMetrics,
    metrics_text,
    over_boards,
)
from starling.protocol.learning.metrics import (
    class_metrics,
    label_metrics,
    regression_metrics,
    spread,
)

RIGHT = np.eye(2)
HALF = class_metrics(RIGHT, np.array([0, 0]))
WHOLE = class_metrics(RIGHT, np.array([0, 1]))


def test_over_boards_spreads_the_numbers_of_classifiers() -> None:
    found = over_boards([HALF, WHOLE, WHOLE])

    assert set(found) == {"accuracy", "macro_f1"}
    accuracy = found["accuracy"]
    assert (accuracy.count, accuracy.least, accuracy.median) == (3, 0.5, 1.0)
    assert over_boards([]) == {}


def test_over_boards_spreads_the_errors_of_regressions() -> None:
    boards = [
        regression_metrics(np.array([[off], [1.0]]), np.array([[0.0], [1.0]]))
        for off in (0.0, 2.0)
    ]

    found = over_boards(boards)

    assert (found["mae"].least, found["mae"].most) == (0.0, 1.0)


def test_document_is_json() -> None:
    document = ModelMetrics(HALF, WHOLE, over_boards([HALF, WHOLE])).document()

    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["test"]["accuracy"] == 1.0
    assert document["boards"]["accuracy"]["upper_quartile"] == 0.875


def test_text_names_the_class_that_is_found_least() -> None:
    scores = np.eye(3)[[0, 1, 0]]
    found = ModelMetrics(class_metrics(scores, np.array([0, 1, 2])))

    assert "lowest recall 0.0% (class 2) on held-out examples" in metrics_text(found)
    named = replace(found, labels=("cat", "dog", "hen"))
    assert "lowest recall 0.0% (hen) on held-out examples" in metrics_text(named)


def test_text_of_two_classes_and_boards_has_area_and_range() -> None:
    found = ModelMetrics(HALF, WHOLE, over_boards([HALF, WHOLE]))

    text = metrics_text(found)

    assert "ROC-AUC 1.000 on test examples" in text
    assert "accuracy of boards 50.0% to 100.0%, median 75.0%" in text


def test_text_of_regression_and_labels() -> None:
    values = regression_metrics(np.array([[1.0], [2.0]]), np.array([[1.0], [4.0]]))
    labels = label_metrics(np.array([[1.0, -1.0]]), np.array([[1.0, 0.0]]))

    assert metrics_text(ModelMetrics(values)).startswith("MAE 1, RMSE 1.414, R² 0.111")
    assert metrics_text(ModelMetrics(labels)).startswith("macro-F1 100.0%")


def test_own_models_are_compared_with_the_fleet_s() -> None:
    own, fleets = [
        {"accuracy": each} for each in map(spread, ([1.0, 0.5], [0.5, 0.25])) if each
    ]
    found = PersonalMetrics(own, fleets)

    assert found.text == (
        "accuracy 75.0% on unseen examples of 2 boards (50.0% to 100.0%, median "
        "75.0%); the fleet's 37.5% (25.0% to 50.0%, median 37.5%)"
    )
    assert found.document()["own"]["accuracy"]["mean"] == 0.75
