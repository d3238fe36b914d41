"""Evidence in one version: how each update differs from the others of its buffer.

Measures are functions of the vectors, and of losses on examples where there are some;
none of them is consensus, so that they are real numbers. `n` updates of `d` parameters;
`u_i` is update i over its pledge, which the server steps against.

    norm       log |u_i|
    agreement  cosine of u_i and the coordinate-wise median of all u_j / |u_j|
    harm       (L(theta - s u_i) - L(theta + s u_i)) / 2: what the update alone, as long
               as it counted in the version, adds to a loss; honest ones take away

A near copy is an update whose direction is 200 times nearer to an earlier one of
another board, in this version or the one before, than two updates usually are.

Source: harm is the projection on a root set's gradient of Xie, Koyejo, Gupta, "Zeno++",
ICML 2020, section 4, by central differences, so that no gradient graph has to run; the
median is that of Yin et al., ICML 2018; near copies follow FoolsGold, Fung, Yoon,
Beschastnikh, RAID 2020, section 5.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from starling.coordinator.lineage.lineage_replay import ReplayedVersion
from starling.protocol.ids import DeviceId, Digest, Version
from starling.protocol.learning.task import Q16, AggregationPolicy
from starling.protocol.learning.vector_codecs import from_grid

Real = NDArray[np.float64]
Loss = Callable[[Real], float]
"""Mean loss of (d,) parameters on some examples."""
NEAR = 0.005
"""Of the usual distance of two directions, 1 - cosine; honest boards of like data come
down to 0.009."""
UPDATES_MIN = 3
"""Of a version in which somebody may be the odd one out."""
_TINY = 1e-300


class Measure(StrEnum):
    """Quantity that is measured of an update, in the words of the report."""

    NORM = "norm"
    AGREEMENT = "agreement"
    HARM = "harm"
    """To held-out examples."""
    BLAME = "blame"
    """The same on inputs that were answered badly."""


@dataclass(frozen=True)
class Reading:
    """One measure of one update.

    Attributes:
      value: As measured.
      off: How far it is from its version's median.
      spread: The version's median distance from that median, times 1.4826: the
        standard deviation if most are normal.
    """

    value: float
    off: float
    spread: float


@dataclass(frozen=True)
class ContributionEvidence:
    """Measures of one update of a version.

    Attributes:
      version: The version that it became part of.
      transaction: Id of the update.
      board: Who signed it.
      base: Version that it was computed from.
      readings: By measure; harm and blame only where there were examples.
      copies: Boards of which it is a near copy.
    """

    version: Version
    transaction: Digest
    board: DeviceId
    base: Version
    readings: Mapping[Measure, Reading]
    copies: frozenset[DeviceId]


@dataclass(frozen=True)
class Directions:
    """The directions of a version's updates.

    Attributes:
      boards: Whose they are, in the order of the chain.
      units: (n, d), each of length 1.
    """

    boards: tuple[DeviceId, ...]
    units: Real


def evidence_of(
    step: ReplayedVersion,
    policy: AggregationPolicy,
    losses: Mapping[Measure, Loss],
    former: Directions | None = None,
) -> tuple[tuple[ContributionEvidence, ...], Directions | None]:
    """Measures all updates of one version.

    Args:
      step: The version, replayed with all its updates.
      policy: The task's.
      losses: For harm and for blame, where there are examples.
      former: Directions of the version before, if it had enough updates.

    Returns:
      One for each update, in the order of the chain, and the version's directions;
      nothing of a version of fewer than `UPDATES_MIN`.
    """
    # Of two, each is as far from their median as the other.
    if len(step.updates) < UPDATES_MIN:
        return (), None
    rows = np.stack([from_grid(each.vector) / each.pledge for each in step.updates])
    # A zero update has no direction: it counts as agreeing with nothing.
    norms = np.maximum(np.linalg.norm(rows, axis=1), _TINY)
    units = rows / norms[:, None]
    middle = np.median(units, axis=0)
    columns = {
        # In logarithms a tenth is as far off as ten times as much.
        Measure.NORM: np.log(norms),
        Measure.AGREEMENT: units @ middle / max(float(np.linalg.norm(middle)), _TINY),
    }
    # As the server weighs it: staleness and pledge make it count less or more.
    shares = np.array([each.weight_q15 * each.pledge for each in step.updates], float)
    shares *= policy.learning_rate_q16 / Q16 / max(float(shares.sum()), 1.0)
    theta = from_grid(step.before.theta).astype(np.float64)
    for measure, loss in losses.items():
        columns[measure] = _harm(theta, rows * shares[:, None], loss)
    readings = {measure: _readings(column) for measure, column in columns.items()}
    now = Directions(tuple(member.board for member in step.members), units)
    copies = _near_copies(now, former)
    found = tuple(
        ContributionEvidence(
            step.version,
            member.transaction,
            member.board,
            member.base,
            {measure: column[place] for measure, column in readings.items()},
            copies[place],
        )
        for place, member in enumerate(step.members)
    )
    return found, now


def _readings(column: Real) -> list[Reading]:
    middle = float(np.median(column))
    # The median absolute deviation, which a minority of attackers cannot widen as it
    # likes.
    spread = 1.4826 * float(np.median(np.abs(column - middle)))
    return [Reading(float(value), float(value) - middle, spread) for value in column]


def _harm(theta: Real, steps: Real, loss: Loss) -> Real:
    """Added loss along each step; steps are (n, d)."""
    return np.array([(loss(theta - step) - loss(theta + step)) / 2 for step in steps])


def _near_copies(
    now: Directions, former: Directions | None
) -> list[frozenset[DeviceId]]:
    """Boards whose earlier updates each update is a near copy of."""
    boards, units = now.boards, now.units
    first = 0
    if former is not None:
        boards, units = former.boards + boards, np.vstack([former.units, units])
        first = len(former.boards)
    distances = 1.0 - now.units @ units.T
    # Relative to what is usual: updates of one task may all be nearly parallel, or
    # nearly at right angles.
    usual = float(
        np.median(
            [
                distances[place, other]
                for place, board in enumerate(now.boards)
                for other in range(len(boards))
                if boards[other] != board
            ]
            or [0.0]
        )
    )
    return [
        frozenset(
            boards[other]
            for other in range(first + place)
            if boards[other] != board and distances[place, other] < NEAR * usual
        )
        for place, board in enumerate(now.boards)
    ]
