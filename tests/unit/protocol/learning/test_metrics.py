"""Metrics: equal to scikit-learn's on random data, defined where data are thin."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as peer

from starling.protocol.errors import NonFinite
from starling.protocol.learning.metrics import (
    CONFUSION_CLASSES_MAX,
    ClassMetrics,
    LabelMetrics,
    RegressionMetrics,
    class_metrics,
    label_metrics,
    measured,
    regression_metrics,
    roc_auc,
    spread,
)

NO_LOSSES = np.zeros(0)
SEEDS = st.integers(0, 1 << 32)


@given(SEEDS, st.integers(2, 6), st.integers(1, 60))
def test_class_metrics_of_random_scores_equal_the_peers(
    seed: int, classes: int, count: int
) -> None:
    rng = np.random.default_rng(seed)
    # Whole numbers, so that scores are often equal.
    scores = rng.integers(-2, 3, (count, classes)).astype(np.float32)
    labels = rng.integers(0, classes, count)

    found = class_metrics(scores, labels)

    guess = scores.argmax(axis=1)
    assert found.accuracy == pytest.approx(peer.accuracy_score(labels, guess))
    assert found.macro_f1 == pytest.approx(
        peer.f1_score(labels, guess, average="macro", zero_division=0.0)
    )
    table = peer.confusion_matrix(labels, guess, labels=list(range(classes)))
    assert found.confusion == tuple(tuple(row) for row in table.tolist())
    for each, recall in enumerate(found.recalls):
        of_it = labels == each
        assert recall == (
            pytest.approx((guess[of_it] == each).mean()) if of_it.any() else None
        )


@given(SEEDS, st.integers(2, 80))
def test_roc_auc_with_ties_equals_the_peers(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(-3, 4, count).astype(np.float64)
    positive = rng.integers(0, 2, count).astype(bool)
    positive[:2] = True, False

    assert roc_auc(scores, positive) == pytest.approx(
        peer.roc_auc_score(positive, scores)
    )


@given(SEEDS, st.integers(2, 40), st.integers(1, 4))
def test_regression_metrics_equal_the_peers(seed: int, count: int, values: int) -> None:
    rng = np.random.default_rng(seed)
    targets = rng.normal(5.0, 3.0, (count, values)).astype(np.float32)
    outputs = (targets + rng.normal(0.0, 1.0, targets.shape)).astype(np.float32)

    found = regression_metrics(outputs, targets)

    wide, given_ = targets.astype(np.float64), outputs.astype(np.float64)
    assert found.mae == pytest.approx(peer.mean_absolute_error(wide, given_))
    assert found.rmse == pytest.approx(np.sqrt(peer.mean_squared_error(wide, given_)))
    assert found.r2 == pytest.approx(
        peer.r2_score(wide, given_, multioutput="variance_weighted")
    )


@given(SEEDS, st.integers(2, 40), st.integers(2, 5))
def test_label_metrics_equal_the_peers(seed: int, count: int, labels: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(count, labels))
    targets = rng.integers(0, 2, (count, labels)).astype(np.float32)

    found = label_metrics(scores, targets)

    guess = (scores > 0).astype(int)
    assert found.exact == pytest.approx(peer.accuracy_score(targets, guess))
    assert found.accuracy == pytest.approx(1.0 - peer.hamming_loss(targets, guess))
    occurs = np.flatnonzero((guess.sum(axis=0) + targets.sum(axis=0)) > 0)
    ones = [
        peer.f1_score(targets[:, k], guess[:, k], zero_division=0.0) for k in occurs
    ]
    assert found.macro_f1 == pytest.approx(np.mean(ones) if ones else 0.0)


def test_two_classes_have_an_area_and_three_have_none() -> None:
    scores = np.array([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0], [1.0, 2.0]])

    found = class_metrics(scores, np.array([0, 0, 1, 1]))

    # The leads are -2, 1, 3, 1: of four pairs three are in order and one is a tie.
    assert found.roc_auc == 3.5 / 4
    wide = np.hstack([scores, np.zeros((4, 1))])
    assert class_metrics(wide, np.array([0, 0, 1, 1])).roc_auc is None


def test_a_class_without_examples_has_no_recall() -> None:
    found = class_metrics(np.eye(3), np.array([0, 0, 2]))

    assert found.recalls == (0.5, None, 1.0)
    # F1 are 2/3, 0 (predicted once, never true) and 1.
    assert found.macro_f1 == pytest.approx((2 / 3 + 0 + 1) / 3)


def test_many_classes_have_no_confusion_matrix() -> None:
    classes = CONFUSION_CLASSES_MAX + 1

    found = class_metrics(np.eye(classes), np.arange(classes))

    assert found.confusion is None
    assert found.accuracy == found.macro_f1 == 1.0


@pytest.mark.parametrize("constant", [0.1, 7.0])
def test_targets_that_do_not_vary_have_no_r2(constant: float) -> None:
    targets = np.full((11, 1), constant, np.float32)

    assert regression_metrics(targets + 1, targets).r2 is None


def _binary_losses(scores: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    mean: NDArray[Any] = (np.logaddexp(0.0, scores) - scores * y).mean(axis=1)
    return mean


def test_bce_of_one_answer_is_the_same_from_scores_and_from_probabilities() -> None:
    rng = np.random.default_rng(3)
    # All scores lie in (0, 1), so that only the loss can tell them from probabilities.
    scores = rng.uniform(0.05, 0.95, (50, 1))
    y = rng.integers(0, 2, (50, 1)).astype(np.float32)
    losses = _binary_losses(scores, y)
    shares = 1 / (1 + np.exp(-scores))

    from_scores = measured("bce", scores.astype(np.float32), y, losses)
    from_shares = measured("bce", shares.astype(np.float32), y, losses)

    assert isinstance(from_scores, ClassMetrics)
    # Every score is above 0: a yes.
    assert from_scores.recalls == (0.0, 1.0)
    assert isinstance(from_shares, ClassMetrics)
    assert from_shares.recalls == from_scores.recalls
    assert from_shares.roc_auc == pytest.approx(from_scores.roc_auc)


def test_bce_of_several_answers_gives_label_metrics() -> None:
    scores = np.array([[3.0, -1.0], [-2.0, 4.0]])
    y = np.array([[1.0, 1.0], [0.0, 1.0]])

    found = measured("bce", scores, y, _binary_losses(scores, y))

    assert isinstance(found, LabelMetrics)
    assert (found.accuracy, found.exact) == (0.75, 0.5)
    assert found.recalls == (1.0, 0.5)


def test_bce_of_grey_targets_gives_errors_of_probabilities() -> None:
    scores = np.array([[0.0, 100.0]])
    y = np.array([[0.25, 1.0]])

    found = measured("bce", scores, y, _binary_losses(scores, y))

    assert isinstance(found, RegressionMetrics)
    assert found.mae == pytest.approx(0.125)


def test_each_loss_gets_its_metrics_and_they_are_json() -> None:
    outputs = np.array([[0.5, 1.5]], np.float32)
    for loss, targets, kind in (
        ("cross-entropy", np.array([1]), ClassMetrics),
        ("mse", outputs * 2, RegressionMetrics),
        ("huber", outputs * 2, RegressionMetrics),
    ):
        found = measured(loss, outputs, targets, NO_LOSSES)
        assert isinstance(found, kind)
        document = found.document()
        assert json.loads(json.dumps(document, allow_nan=False)) == document


@pytest.mark.parametrize(
    ("scores", "labels"),
    [
        (np.zeros((0, 2)), np.zeros(0, np.int64)),
        (np.zeros((2, 2)), np.zeros(3, np.int64)),
        (np.zeros((2, 2)), np.array([0, 2])),
        (np.zeros((2, 2)), np.array([-1, 0])),
        (np.zeros((2, 2)), np.zeros((2, 1), np.int64)),
    ],
    ids=["none", "lengths", "above", "below", "column"],
)
def test_labels_that_do_not_fit_are_refused(
    scores: NDArray[Any], labels: NDArray[Any]
) -> None:
    with pytest.raises(ValueError, match=r"labels are not|outputs for"):
        class_metrics(scores, labels)


@pytest.mark.parametrize("loss", ["cross-entropy", "mse", "bce"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_outputs_that_are_no_numbers_are_refused(loss: str, value: float) -> None:
    outputs = np.array([[0.0, value]])
    targets = np.array([0]) if loss == "cross-entropy" else np.zeros((1, 2))

    with pytest.raises(NonFinite):
        measured(loss, outputs, targets, np.zeros(1))


def test_spread_has_interpolated_quartiles() -> None:
    found = spread([4.0, 1.0, 2.0, 3.0])

    assert found is not None
    assert (found.count, found.least, found.most) == (4, 1.0, 4.0)
    assert (found.lower_quartile, found.median, found.upper_quartile) == (
        1.75,
        2.5,
        3.25,
    )
    assert spread([]) is None
