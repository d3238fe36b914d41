"""Scores of a version's updates against a root set; opinions, in floating point.

Letters: `n` updates, `d` parameters, `c` strata of the root set: its classes, or ranges
of its target. An update is a sum over its pledge; the server steps against it, so that
one which helps points along the gradient of the loss.

Influence is an update's projection on the contrast of the root set, per pledged example
and as a share of the clip. Without noise nothing bounds lengths, and the median length
of the version's other updates stands in the clip's place. So a larger pledge makes
influence less by as much, and the two together stay what they were.

The contrast is the gradient of the root set's loss less that of the same examples with
other ones' targets, of each stratum alone and of length 1, added up by their shares:
the way from wrong answers to right ones. The gradient of the loss itself gets short as
the model learns, and points where the model lacks something: it pays a board by what
the others happen to have, and ranks boards of few classes hardly at all.

Agreement compares an update with the cone of the gradients of single strata: training
without noise, on whatever mixture of classes, points into that cone. Noise points into
it as much as out of it, so that with noise the opposite's length in the cone is taken
off.

Source: Lawson and Hanson, "Solving least squares problems", 1974, chapter 23 (nearest
point of a cone); Cao et al., "FLTrust", NDSS 2021, arXiv:2012.13995 (a root set that
the server trains on); algorithm 2 of LL-BCFL for `ACCURACY`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from starling.coordinator.aggregation.strategy import WeightedUpdate
from starling.protocol.chain.update_scores import UpdateScore
from starling.protocol.learning.score_policy import ScoreRule
from starling.protocol.learning.task import Q24, TaskSpec
from starling.protocol.learning.vector_codecs import from_grid
from starling.protocol.privacy.mechanisms import RECORD_GAUSSIAN
from starling.protocol.wire.message_bodies import PPM

Real = NDArray[np.float64]
STRATA_MAX = 32
STRATA_VALUES_MAX = 1 << 24
"""Numbers in the gradients of all strata: a large model has fewer strata."""
TURNS_MAX = 9
"""Other strata whose targets each example is tried with."""
_RANGES = 8
_SWEEPS = 200
_STILL = 1e-12


@dataclass(frozen=True)
class RootGradients:
    """Gradients of a root set's loss.

    Attributes:
      means: (c, d), mean gradient of each stratum.
      contrast: (d,), of length 1; see the module's text.
    """

    means: Real
    contrast: Real


class RootModel(Protocol):
    """A task's model on a root set, as far as scores need it.

    Arrays: `theta` are (d,) little-endian float32, as bytes.
    """

    def gradients(self, theta: bytes) -> RootGradients:
        """Gradients at these parameters."""

    def accuracy(self, theta: bytes) -> float:
        """Share of examples that these parameters get right, in [0, 1]."""


def strata_of(targets: NDArray[Any], dimension: int) -> NDArray[np.int64]:
    """The stratum of each example, (n,), from 0 on and without gaps.

    Args:
      targets: (n,) labels, or (n, ...) real numbers: eight ranges of the first one.
      dimension: d.
    """
    most = max(1, min(STRATA_MAX, STRATA_VALUES_MAX // dimension))
    first = targets.reshape(len(targets), -1)[:, 0]
    if np.issubdtype(targets.dtype, np.integer):
        _, codes = np.unique(first, return_inverse=True)
        codes = codes % most
    else:
        ranks = np.argsort(np.argsort(first, kind="stable"), kind="stable")
        codes = ranks * min(most, _RANGES) // len(first)
    _, dense = np.unique(codes, return_inverse=True)
    return dense.astype(np.int64)


def others_of(strata: NDArray[np.int64], turn: int) -> NDArray[np.int64]:
    """For each example another one, of another stratum; of each of them in turn.

    Args:
      strata: (n,), from 0 on and without gaps.
      turn: From 0 on; below the number of other strata each turn has another one.

    Returns:
      (n,), numbers of examples; each its own where all are of one stratum.
    """
    numbers = np.arange(len(strata))
    found, ranks = numbers.copy(), np.zeros(len(strata), np.int64)
    for stratum in range(strata.max() + 1):
        same = strata == stratum
        ranks[same] = np.arange(same.sum())
    in_turn = np.lexsort((strata, ranks))
    for stratum in range(strata.max() + 1):
        rest = in_turn[strata[in_turn] != stratum]
        rows = numbers[strata == stratum]
        if len(rest):
            found[rows] = rest[(np.arange(len(rows)) + turn) % len(rest)]
    return found


def gradients_of(
    strata: NDArray[np.int64],
    gradient_sum: Callable[[NDArray[np.int64], NDArray[np.int64]], Real],
) -> RootGradients:
    """Gradients of a root set.

    Args:
      strata: (n,) of its examples.
      gradient_sum: From the numbers of examples, and of those whose targets they get,
        to the sum of their gradients (d,).
    """
    turns = min(TURNS_MAX, int(strata.max()))
    others = [others_of(strata, turn) for turn in range(turns)]
    means, ways = list[Real](), list[Real]()
    for stratum, count in enumerate(np.bincount(strata)):
        rows = np.flatnonzero(strata == stratum)
        mean = gradient_sum(rows, rows) / count
        wrong = sum(gradient_sum(rows, each[rows]) for each in others)
        means.append(mean)
        ways.append(_unit(mean - wrong / (count * max(1, turns))) * count)
    return RootGradients(np.stack(means), _unit(np.sum(ways, axis=0)))


def scores_of(
    spec: TaskSpec, theta: bytes, updates: Sequence[WeightedUpdate], root: RootModel
) -> tuple[UpdateScore, ...]:
    """Scores of the updates of a version.

    Args:
      spec: The task; its rule is not NONE.
      theta: The version before, which they were applied to.
      updates: In the order of the chain.
      root: The model on the root set.
    """
    if spec.scores.rule == ScoreRule.ACCURACY:
        return _by_accuracy(theta, updates, root)
    rows = np.stack([_per_example(each) for each in updates])
    found = root.gradients(theta)
    noised = spec.privacy.mechanism == RECORD_GAUSSIAN
    lengths = np.linalg.norm(rows, axis=1)
    clips = np.full(len(rows), spec.privacy.clip_q24 / Q24)
    units = clips if noised else lengths
    usual = clips if noised else _usual_lengths(lengths)
    influences = _ratio(rows @ found.contrast, usual)
    within = _ratio(cone_lengths(rows, found.means), units)
    if noised:
        within -= _ratio(cone_lengths(-rows, found.means), units)
    return tuple(
        UpdateScore(_ppm(influence), _ppm(agreement))
        for influence, agreement in zip(influences, within, strict=True)
    )


def cone_lengths(rows: Real, rays: Real) -> Real:
    """Reach of each row into a cone: the length of the cone's nearest point.

    Args:
      rows: (n, d).
      rays: (c, d), of which the cone holds all sums with weights of at least 0.

    Returns:
      (n,), at least 0; the row's own length if it lies in the cone.
    """
    norms = np.linalg.norm(rays, axis=1)
    units = rays[norms > 0] / norms[norms > 0, None]
    if not len(units):
        return np.zeros(len(rows))
    gram, towards = units @ units.T, rows @ units.T
    weights = np.zeros_like(towards)
    # One coordinate at a time, each to where its share of the distance is least.
    for _ in range(_SWEEPS):
        before = weights.copy()
        for at in range(len(units)):
            rest = towards[:, at] - weights @ gram[at] + weights[:, at]
            weights[:, at] = np.maximum(rest, 0.0)
        if np.abs(weights - before).max() <= _STILL * (1.0 + np.abs(weights).max()):
            break
    squared: Real = np.maximum((weights * towards).sum(axis=1), 0.0)
    return np.sqrt(squared)


def _usual_lengths(lengths: Real) -> Real:
    """For each update the median length of the others; its own where it is alone."""
    if len(lengths) == 1:
        return lengths
    others = (np.delete(lengths, at) for at in range(len(lengths)))
    return np.array([np.median(each) for each in others])


def _by_accuracy(
    theta: bytes, updates: Sequence[WeightedUpdate], root: RootModel
) -> tuple[UpdateScore, ...]:
    base = np.frombuffer(theta, "<f4")
    before = root.accuracy(theta)
    found = []
    for each in updates:
        alone = (base - _per_example(each)).astype("<f4")
        change = _ppm(root.accuracy(alone.tobytes()) - before)
        found.append(UpdateScore(change, change))
    return tuple(found)


def _per_example(update: WeightedUpdate) -> Real:
    return np.asarray(from_grid(update.vector), np.float64) / update.pledge


def _unit(vector: Real) -> Real:
    return vector / (np.linalg.norm(vector) or 1.0)


def _ratio(values: Real, units: Real) -> Real:
    found = np.zeros_like(values)
    np.divide(values, units, out=found, where=units > 0)
    return found


def _ppm(share: float) -> int:
    return round(PPM * min(1.0, max(-1.0, float(share))))
