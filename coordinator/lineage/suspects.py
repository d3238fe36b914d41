"""Naming boards by what all their updates show together.

One update proves little: noise and rare data make honest ones odd, too. So each
board's readings are added up over the versions, in units of the versions' spreads, and
a board is named only if its sum is beyond a limit that hardly any honest board comes
near, by what boards usually differ in. The limits were fixed on fleets without
attackers and with nine kinds of them; docs/tracing.md has what they name and whom they
spare.

Near copies are explained by as few boards as can be, since the one that is copied is as
near to its copies as they are to it.

Source: sums of per-round statistics per board against their spread follow Zhang et al.,
"FLDetector", KDD 2022, section 4; greedy vertex cover, Chvatal 1979.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np

from starling.coordinator.lineage.contribution_evidence import (
    ContributionEvidence,
    Measure,
)
from starling.protocol.ids import DeviceId

COPY_SHARE = 0.1
"""Of a board's updates that no other board explains: more are no accident."""
COPIES_MIN = 3
FEW = 1.0
"""A limit grows by this over the number of a board's updates, as a share of it."""
_TINY = 1e-300


@dataclass(frozen=True)
class Limit:
    """Distance from the other boards that an honest board may have.

    Attributes:
      most: In spreads of the boards.
      side: 1 if only more counts, -1 if only less, 0 if both do.
    """

    most: float
    side: int

    def excess(self, deviation: float) -> float:
        """A deviation over the limit; above 1 it is beyond."""
        off = abs(deviation) if not self.side else self.side * deviation
        return off / self.most


LIMITS: Mapping[Measure, Limit] = {
    Measure.HARM: Limit(3.0, 1),
    Measure.BLAME: Limit(3.0, 1),
    Measure.AGREEMENT: Limit(6.0, -1),
    Measure.NORM: Limit(8.0, 0),
}


@dataclass(frozen=True)
class BoardEvidence:
    """Sum of what all updates of one board show.

    Attributes:
      board: Whose.
      updates: How many there were.
      deviations: By measure: its sum's distance from the median board's, in spreads.
      limits: By measure: where that is beyond; wider for few updates.
      copies: How many pairs of near copies it is half of; 0 if others explain them.
      copied: The other halves.
      reasons: What is beyond its limit; empty for a board that nothing speaks against.
    """

    board: DeviceId
    updates: int
    deviations: Mapping[Measure, float]
    limits: Mapping[Measure, float]
    copies: int
    copied: tuple[DeviceId, ...]
    reasons: tuple[str, ...]

    @property
    def suspected(self) -> bool:
        """True if anything is beyond its limit."""
        return bool(self.reasons)


COPY_REASON = "copies"


def weighed(evidence: Sequence[ContributionEvidence]) -> tuple[BoardEvidence, ...]:
    """Weighs all evidence of a lineage.

    Args:
      evidence: Of all updates.

    Returns:
      One entry for each board, the most suspected first.
    """
    by_board: dict[DeviceId, list[ContributionEvidence]] = defaultdict(list)
    for one in evidence:
        by_board[one.board].append(one)
    boards = sorted(by_board)
    deviations = {
        measure: _deviations([by_board[board] for board in boards], measure)
        for measure in LIMITS
        if evidence and measure in evidence[0].readings
    }
    copied = _explained(by_board)
    found = [
        _board(board, by_board[board], place, deviations, copied.get(board, (0, ())))
        for place, board in enumerate(boards)
    ]
    return tuple(sorted(found, key=_rank))


def _board(
    board: DeviceId,
    given: Sequence[ContributionEvidence],
    place: int,
    deviations: Mapping[Measure, Sequence[float]],
    copied: tuple[int, tuple[DeviceId, ...]],
) -> BoardEvidence:
    # The sum of few readings is far from normal; one odd update names nobody easily.
    wider = 1 + FEW / len(given)
    own = {measure: column[place] for measure, column in deviations.items()}
    limits = {measure: wider * LIMITS[measure].most for measure in own}
    reasons = [
        str(measure)
        for measure, deviation in own.items()
        if LIMITS[measure].excess(deviation) > wider
    ]
    if copied[0]:
        reasons.append(COPY_REASON)
    return BoardEvidence(board, len(given), own, limits, *copied, tuple(reasons))


def _rank(one: BoardEvidence) -> tuple[bool, float, DeviceId]:
    most = max(
        (LIMITS[measure].excess(each) for measure, each in one.deviations.items()),
        default=0.0,
    )
    return not one.suspected, -most, one.board


def _deviations(
    boards: Sequence[Sequence[ContributionEvidence]], measure: Measure
) -> list[float]:
    """Each board's sum of one measure, in spreads from the median board's.

    A sum over its own spread has deviation 1 if all boards are alike; where they are
    not, the boards' own spread counts.
    """
    sums = []
    for given in boards:
        readings = [one.readings[measure] for one in given]
        # Independent readings: variances add up.
        spread = np.sqrt(sum(each.spread**2 for each in readings))
        sums.append(sum(each.off for each in readings) / max(spread, _TINY))
    column = np.array(sums)
    # Medians, as attackers among the boards would widen a standard deviation until they
    # are within it.
    middle = float(np.median(column))
    usual = 1.4826 * float(np.median(np.abs(column - middle)))
    return [float(each) for each in (column - middle) / max(usual, 1.0)]


def _explained(
    by_board: Mapping[DeviceId, Sequence[ContributionEvidence]],
) -> dict[DeviceId, tuple[int, tuple[DeviceId, ...]]]:
    """Boards that explain the near copies, with how many and of whom.

    Greedily, who is near to most others first. One that is left over and near to
    nobody but them is one of them; several are those that were copied.
    """
    near: dict[DeviceId, Counter[DeviceId]] = defaultdict(Counter)
    for board, given in by_board.items():
        for one in given:
            for other in one.copies:
                near[board][other] += 1
                near[other][board] += 1

    def many(board: DeviceId, others: Counter[DeviceId]) -> bool:
        least = max(COPIES_MIN, COPY_SHARE * len(by_board[board]))
        return others.total() >= least

    found: set[DeviceId] = set()
    while True:
        left = {each: _outside(near[each], found) for each in near.keys() - found}
        # Once there are copies at all, even one pair takes one more board to explain.
        left = {
            each: others
            for each, others in left.items()
            if (others if found else many(each, others))
        }
        if not left:
            break
        # The id breaks ties, so that everybody who traces names the same.
        found.add(max(left, key=lambda b: (len(left[b]), left[b].total(), b)))
    rest = [board for board in near.keys() - found if many(board, near[board])]
    if len(rest) == 1 and len(found) > 1:
        found.update(rest)
    return {board: (near[board].total(), tuple(sorted(near[board]))) for board in found}


def _outside(
    others: Counter[DeviceId], found: AbstractSet[DeviceId]
) -> Counter[DeviceId]:
    return Counter({key: count for key, count in others.items() if key not in found})
