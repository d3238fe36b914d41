"""Recall of each class: an average hides which class pays for it.

`n` examples, `c` classes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def class_recall(
    predicted: NDArray[Any], labels: NDArray[Any], classes: int
) -> tuple[float | None, ...]:
    """The share of each class's examples that are predicted as such.

    Args:
      predicted: (n,) integers.
      labels: (n,) integers from 0 to c - 1.
      classes: c.

    Returns:
      c shares in [0, 1]; None for a class without an example.
    """
    counts = np.bincount(labels, minlength=classes)
    right = np.bincount(labels[predicted == labels], minlength=classes)
    return tuple(
        float(right[label] / counts[label]) if counts[label] else None
        for label in range(classes)
    )


def backdoor_success(
    predicted: NDArray[Any], labels: NDArray[Any], target: int
) -> float | None:
    """The share of marked examples of other classes that are taken for the target.

    Args:
      predicted: (n,), on examples with a backdoor's pattern.
      labels: (n,), what they are.
      target: The class that the backdoor is for.

    Returns:
      A share in [0, 1]; None if there is no example of another class.

    Source: Bagdasaryan et al., AISTATS 2020, arXiv:1807.00459, section 5 (backdoor
      accuracy).
    """
    others = labels != target
    return float((predicted[others] == target).mean()) if others.any() else None


def recall_text(recall: tuple[float | None, ...]) -> str:
    """For people: the worst class and its share; a dash if there is none."""
    known = [(share, label) for label, share in enumerate(recall) if share is not None]
    if not known:
        return "-"
    share, label = min(known)
    mean = sum(each for each, _ in known) / len(known)
    return f"{mean:.1%} in the mean, {share:.1%} in the worst, class {label}"
