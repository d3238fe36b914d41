"""Metrics of a model, chosen by its loss.

Classification: accuracy, recall of each class, macro-F1, the confusion matrix, and the
area under the ROC curve where there are two classes. Several yes-or-no answers: the
same for each. Regression: MAE, RMSE and R². All sums are in float64; an example counts
once, whatever the batch it was evaluated in.

Letters: `n` examples, `k` classes or labels, `m` values of one target.

Sources: Manning, Raghavan, Schütze, Introduction to Information Retrieval (2008),
sections 8.3 and 13.6 (F1, macro-averaging); Hanley and McNeil, Radiology 143 (1982),
29-36 (the area under the curve as a rank statistic).
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starling.protocol.errors import NonFinite

CONFUSION_CLASSES_MAX = 100
"""More classes have no confusion matrix: nobody reads one of a million fields."""
_TWO = 2


@dataclass(frozen=True)
class ClassMetrics:
    """Metrics of a classifier of exclusive classes.

    Attributes:
      examples: n, at least 1.
      accuracy: Share in [0, 1] whose highest score was of their class.
      macro_f1: Mean F1 of the classes that occur among labels or predictions, in
        [0, 1].
      recalls: (k,): share of each class that was found; None where no example is of
        it.
      confusion: (k, k): examples by true class (rows) and predicted class (columns);
        None with more than `CONFUSION_CLASSES_MAX`.
      roc_auc: Of two classes, in [0, 1]; else None, as where one class is absent.
    """

    examples: int
    accuracy: float
    macro_f1: float
    recalls: tuple[float | None, ...]
    confusion: tuple[tuple[int, ...], ...] | None
    roc_auc: float | None

    def document(self) -> dict[str, Any]:
        """As JSON takes it."""
        rows = None if self.confusion is None else [list(row) for row in self.confusion]
        return {**asdict(self), "recalls": list(self.recalls), "confusion": rows}


@dataclass(frozen=True)
class LabelMetrics:
    """Metrics of several independent yes-or-no labels.

    Attributes:
      examples: n, at least 1.
      accuracy: Share in [0, 1] of all n k answers that were right.
      exact: Share in [0, 1] of examples whose k answers were all right.
      macro_f1: Mean F1 of the labels that occur among targets or answers, in [0, 1].
      recalls: (k,): share of each label's examples that got a yes; None without any.
      roc_auc: Mean over the labels with both answers among their targets; None where
        there is none.
    """

    examples: int
    accuracy: float
    exact: float
    macro_f1: float
    recalls: tuple[float | None, ...]
    roc_auc: float | None

    def document(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {**asdict(self), "recalls": list(self.recalls)}


@dataclass(frozen=True)
class RegressionMetrics:
    """Errors of predicted values.

    Attributes:
      examples: n, at least 1.
      mae: Mean absolute error over all n m values, in the target's unit.
      rmse: Root of the mean squared error, in the target's unit.
      r2: Share of the targets' variance about their own means that is explained, at
        most 1, summed over the m values before it is divided; None where they do not
        vary.
    """

    examples: int
    mae: float
    rmse: float
    r2: float | None

    def document(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)


Metrics = ClassMetrics | LabelMetrics | RegressionMetrics


@dataclass(frozen=True)
class Spread:
    """Spread of a sample; quartiles are interpolated linearly.

    Attributes:
      count: How many there are, at least 1.
      least: The smallest.
      lower_quartile: A quarter of them is no greater.
      median: Half of them is no greater.
      upper_quartile: Three quarters of them are no greater.
      most: The greatest.
      mean: Of all.
    """

    count: int
    least: float
    lower_quartile: float
    median: float
    upper_quartile: float
    most: float
    mean: float


def measured(
    loss: str,
    outputs: NDArray[np.floating[Any]],
    targets: NDArray[Any],
    losses: NDArray[np.floating[Any]],
) -> Metrics:
    """The metrics that fit a loss.

    Args:
      loss: One of `protocol.model.training_bundle.LOSSES`.
      outputs: (n, ...) what the model returned, n at least 1.
      targets: (n,) int64 labels for cross-entropy, else (n, ...) float32, as many
        values as the outputs.
      losses: (n,) what `evaluate.onnx` returned beside them. Only bce needs them: they
        say whether the outputs are scores or probabilities.

    Returns:
      `ClassMetrics` for cross-entropy, and for bce of one answer; `LabelMetrics` for
      bce of several; `RegressionMetrics` for others, and for bce with targets other
      than 0 and 1, whose outputs are then taken as probabilities.

    Raises:
      NonFinite: If an output is no finite number.
      ValueError: If there is no example, or shapes do not fit.
    """
    if loss == "cross-entropy":
        return class_metrics(outputs.reshape(len(outputs), -1), targets)
    flat = outputs.reshape(len(outputs), -1)
    wanted = targets.reshape(len(targets), -1)
    if loss != "bce":
        return regression_metrics(flat, wanted)
    scores = _as_scores(flat, wanted, losses)
    # Shares as targets have no classes to be counted.
    if not np.isin(wanted, (0.0, 1.0)).all():
        return regression_metrics(_probabilities(scores), wanted)
    if scores.shape[1] == 1:
        # Two scores whose difference is the one that the model gave.
        pair = np.concatenate([-scores / 2, scores / 2], axis=1)
        return class_metrics(pair, wanted[:, 0].astype(np.int64))
    return label_metrics(scores, wanted)


def class_metrics(
    scores: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]
) -> ClassMetrics:
    """Metrics of a classifier.

    Args:
      scores: (n, k), k at least 2; the highest of an example is the prediction, the
        first of several that are equally high.
      labels: (n,) in [0, k).

    Raises:
      NonFinite: If a score is no finite number.
      ValueError: If there is no example, or a label is out of range.
    """
    _check(scores, labels)
    count, classes = scores.shape
    if labels.ndim != 1 or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels are not (n,) in [0, {classes})")
    found = scores.argmax(axis=1)
    right = found == labels
    hits = np.bincount(labels[right], minlength=classes)
    support = np.bincount(labels, minlength=classes)
    claimed = np.bincount(found, minlength=classes)
    confusion = None
    if classes <= CONFUSION_CLASSES_MAX:
        cells = np.bincount(labels * classes + found, minlength=classes * classes)
        rows = cells.reshape(classes, classes).tolist()
        confusion = tuple([tuple(row) for row in rows])
    two = classes == _TWO
    return ClassMetrics(
        examples=count,
        accuracy=float(right.mean()),
        macro_f1=_macro_f1(hits, support, claimed),
        recalls=_shares(hits, support),
        confusion=confusion,
        roc_auc=roc_auc(scores[:, 1] - scores[:, 0], labels == 1) if two else None,
    )


def label_metrics(
    scores: NDArray[np.floating[Any]], targets: NDArray[Any]
) -> LabelMetrics:
    """Metrics of several yes-or-no answers.

    Args:
      scores: (n, k); above 0 is a yes.
      targets: (n, k) of 0 and 1.

    Raises:
      NonFinite: If a score is no finite number.
      ValueError: If there is no example, or shapes differ.
    """
    _check(scores, targets)
    if scores.shape != targets.shape:
        raise ValueError(f"outputs are {scores.shape}, targets {targets.shape}")
    yes, wanted = scores > 0, targets > 0
    right = yes == wanted
    hits, support = (yes & wanted).sum(axis=0), wanted.sum(axis=0)
    areas = [roc_auc(scores[:, k], wanted[:, k]) for k in range(scores.shape[1])]
    known = [area for area in areas if area is not None]
    return LabelMetrics(
        examples=len(scores),
        accuracy=float(right.mean()),
        exact=float(right.all(axis=1).mean()),
        macro_f1=_macro_f1(hits, support, yes.sum(axis=0)),
        recalls=_shares(hits, support),
        roc_auc=float(np.mean(known)) if known else None,
    )


def regression_metrics(
    outputs: NDArray[np.floating[Any]], targets: NDArray[Any]
) -> RegressionMetrics:
    """Metrics of values.

    Args:
      outputs: (n, m).
      targets: (n, m).

    Raises:
      NonFinite: If an output is no finite number.
      ValueError: If there is no example, or shapes differ.
    """
    _check(outputs, targets)
    if outputs.shape != targets.shape:
        raise ValueError(f"outputs are {outputs.shape}, targets {targets.shape}")
    wanted = targets.astype(np.float64)
    errors = outputs.astype(np.float64) - wanted
    squares = float(np.square(errors).sum())
    about_mean = float(np.square(wanted - wanted.mean(axis=0)).sum())
    return RegressionMetrics(
        examples=len(outputs),
        mae=float(np.abs(errors).mean()),
        rmse=float(np.sqrt(squares / errors.size)),
        # Compared, since a rounded mean leaves equal targets a variance a little above
        # 0.
        r2=None if (wanted == wanted[0]).all() else 1.0 - squares / about_mean,
    )


def roc_auc(
    scores: NDArray[np.floating[Any]], positive: NDArray[np.bool_]
) -> float | None:
    """The chance that a positive example scores above a negative one; ties are half.

    Args:
      scores: (n,).
      positive: (n,).

    Returns:
      In [0, 1]; None where all examples are of one kind.
    """
    yes = int(positive.sum())
    no = len(positive) - yes
    if not yes or not no:
        return None
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    # Equal scores share the mean of their ranks, which count from 1.
    ranks = np.cumsum(counts) - (counts - 1) / 2
    above = float(ranks[place][positive].sum()) - yes * (yes + 1) / 2
    return above / (yes * no)


def spread(values: Iterable[float]) -> Spread | None:
    """The spread of values; None of no values."""
    found = np.asarray(list(values), np.float64)
    if not found.size:
        return None
    marks = np.quantile(found, (0.0, 0.25, 0.5, 0.75, 1.0)).tolist()
    return Spread(found.size, *marks, *[float(found.mean())])


def _check(outputs: NDArray[np.floating[Any]], targets: NDArray[Any]) -> None:
    if not 0 < len(outputs) == len(targets):
        raise ValueError(f"{len(outputs)} outputs for {len(targets)} targets")
    if not np.isfinite(outputs).all():
        raise NonFinite("the model returned what is no finite number")


def _shares(
    hits: NDArray[np.integer[Any]], support: NDArray[np.integer[Any]]
) -> tuple[float | None, ...]:
    return tuple(
        [
            int(hit) / int(all_) if all_ else None
            for hit, all_ in zip(hits, support, strict=True)
        ]
    )


def _macro_f1(
    hits: NDArray[np.integer[Any]],
    support: NDArray[np.integer[Any]],
    claimed: NDArray[np.integer[Any]],
) -> float:
    """Mean of 2 TP / (2 TP + FP + FN), whose denominator is support + claimed."""
    both = support + claimed
    occurs = both > 0
    if not occurs.any():
        return 0.0
    return float((2 * hits[occurs] / both[occurs]).mean())


def _as_scores(
    outputs: NDArray[np.floating[Any]],
    targets: NDArray[Any],
    losses: NDArray[np.floating[Any]],
) -> NDArray[np.float64]:
    """(n, k) scores, above 0 for a yes, of what a model returned.

    A model may end in its sigmoid; its loss starts before it in any case. So that loss
    is near what the outputs give as scores, or near what they give as probabilities.
    """
    given = outputs.astype(np.float64)
    if given.shape != targets.shape:
        raise ValueError(f"outputs are {given.shape}, targets {targets.shape}")
    _check(given, targets)
    scores = _logits(given)
    as_given = np.abs(_binary_loss(given, targets) - losses).sum()
    as_shares = np.abs(_binary_loss(scores, targets) - losses).sum()
    within = given.min() >= 0.0 and given.max() <= 1.0
    return scores if within and as_shares < as_given else given


def _logits(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores of probabilities; what is 0 or 1 in float32 gets a large, finite one."""
    kept = np.clip(shares, 1e-12, 1.0 - 1e-12)
    return np.log(kept) - np.log1p(-kept)


def _probabilities(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(-np.logaddexp(0.0, -scores))


def _binary_loss(
    scores: NDArray[np.float64], targets: NDArray[Any]
) -> NDArray[np.float64]:
    each = np.logaddexp(0.0, scores) - scores * targets
    mean: NDArray[np.float64] = each.mean(axis=1)
    return mean
