"""Recall by class, and how often a backdoor works."""

import numpy as np
import pytest

from starling.fleet.report.class_recall import (
    backdoor_success,
    class_recall,
    recall_text,
)

LABELS = np.array([0, 0, 1, 1, 3])
PREDICTED = np.array([0, 1, 1, 1, 0])


def test_class_recall_is_by_class_and_none_without_examples() -> None:
    assert class_recall(PREDICTED, LABELS, 4) == (0.5, 1.0, None, 0.0)


def test_recall_text_names_the_worst_class() -> None:
    assert recall_text((0.5, 1.0, None, 0.0)) == (
        "50.0% in the mean, 0.0% in the worst, class 3"
    )
    assert recall_text((None,)) == "-"


def test_backdoor_success_leaves_the_target_itself_out() -> None:
    assert backdoor_success(PREDICTED, LABELS, 0) == pytest.approx(1 / 3)
    assert backdoor_success(np.array([0]), np.array([0]), 0) is None
