"""Division of records into those learned from and those tested on.

Letters: `n` records.
"""

import numpy as np
from numpy.typing import NDArray

from starling.fleet.datasets.partition import Indices, Targets
from starling.records.record_set import Division, RecordSet

SHARE = 0.1
ROOT_RECORDS = 100
"""Of a root set."""


def held_out_rows(
    records: RecordSet, rng: np.random.Generator
) -> tuple[Indices, Indices]:
    """Divides records.

    Whole groups are tested where there are groups. Windows that overlap are cut in
    time: the last ones of each board are tested, and those that share a row with them
    are learned from by nobody. Otherwise records are drawn.

    Args:
      records: n, at least 2 of them.
      rng: Draws.

    Returns:
      Rows to learn from and rows to test on; about a tenth, at least one.
    """
    if records.groups is not None:
        return _whole_groups(records.groups, rng)
    if records.reuse > 1:
        return _by_time(records, rng)
    order = rng.permutation(len(records))
    count = min(max(1, int(len(records) * SHARE)), len(records) - 1)
    return order[count:], order[:count]


def root_rows(targets: Targets, rng: np.random.Generator) -> Indices:
    """Draws the few training records that coordinators score updates with.

    Args:
      targets: (n,) labels, as many records of each; or (n, t) real numbers.
      rng: Draws.

    Returns:
      Rows, rising; `ROOT_RECORDS` of them, or a tenth of all where that is less.
    """
    count = max(1, min(ROOT_RECORDS, int(len(targets) * SHARE)))
    order = rng.permutation(len(targets))
    if np.issubdtype(targets.dtype, np.integer):
        # Its first record of each label, then the second one of each, and so on.
        labels = targets[order]
        ranks = np.zeros(len(order), np.int64)
        for label in np.unique(labels):
            same = labels == label
            ranks[same] = np.arange(same.sum())
        order = order[np.argsort(ranks, kind="stable")]
    return np.sort(order[:count])


def _whole_groups(
    groups: Division, rng: np.random.Generator
) -> tuple[Indices, Indices]:
    wanted = max(1, int(len(groups.codes) * SHARE))
    sizes, tested, held = np.bincount(groups.codes), list[int](), 0
    # One group is always left to learn from.
    for group in rng.permutation(len(sizes))[:-1]:
        if tested and held + sizes[group] // 2 > wanted:
            continue
        tested.append(int(group))
        held += int(sizes[group])
        if held >= wanted:
            break
    is_tested = np.isin(groups.codes, tested)
    return rng.permutation(np.flatnonzero(~is_tested)), np.flatnonzero(is_tested)


def _by_time(records: RecordSet, rng: np.random.Generator) -> tuple[Indices, Indices]:
    boards = records.boards
    codes: NDArray[np.int32] = (
        np.zeros(len(records), np.int32) if boards is None else boards.codes
    )
    learned, tested = [], []
    for board in range(int(codes.max()) + 1):
        rows = np.flatnonzero(codes == board)
        last = len(rows) - max(1, int(len(rows) * SHARE))
        # So many windows before the first tested one share a row with it.
        learned.append(rows[: max(0, last - records.reuse + 1)])
        tested.append(rows[last:])
    return rng.permutation(np.concatenate(learned)), np.concatenate(tested)
