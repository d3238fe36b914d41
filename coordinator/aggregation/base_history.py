"""Thetas of former versions, in the memory of a strategy that needs its updates' bases.

The memory is int64: the version of the state's own theta; then, newest first, for each
former theta its version and its d coordinates. A version that was made anew without any
update has the theta of the one before and no entry of its own. An empty memory is that
of version 0.
"""

import numpy as np

from starling.coordinator.aggregation.strategy import ModelState
from starling.protocol.learning.vector_codecs import Grid


def history_words(dimension: int, staleness_max: int) -> int:
    """The longest memory, in integers of 8 bytes."""
    return 1 + staleness_max * (1 + dimension)


def base_theta(state: ModelState, base: int) -> Grid:
    """The theta that an update was computed from, (d,) int64.

    Args:
      state: That the updates are added to.
      base: A version that the chain still takes updates of.
    """
    if base >= _own_version(state):
        return state.theta
    for version, theta in _former(state):
        if version <= base:
            return theta
    raise AssertionError(f"version {base} is older than any that is remembered")


def remembered(state: ModelState, version: int, staleness_max: int) -> Grid:
    """The memory of the state that follows.

    Args:
      state: Whose theta becomes a former one.
      version: Of the state that follows; the next is made from bases that are at most
        `staleness_max` older.
      staleness_max: Of the task.
    """
    oldest = version - staleness_max
    parts = [np.array([version], np.int64)]
    last = version
    for former, theta in ((_own_version(state), state.theta), *_former(state)):
        if last <= oldest:
            break
        parts += [np.array([former], np.int64), theta]
        last = former
    return np.concatenate(parts)


def _own_version(state: ModelState) -> int:
    return int(state.memory[0]) if state.memory.size else 0


def _former(state: ModelState) -> list[tuple[int, Grid]]:
    rows = state.memory[1:].reshape(-1, 1 + state.theta.size)
    return [(int(row[0]), row[1:]) for row in rows]
