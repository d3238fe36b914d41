"""Client selection: every check-in draws a number, and the lowest gets the lease.

A uniform draw becomes a place in [0, 1), by the weight of its board. That makes a
weighted choice without replacement cost no more than a uniform one, and nobody has to
be sorted anew. One check-in in ten draws as if its weight were the largest that there
is, so that at least a tenth of the leases go to boards of any kind: slow boards and
rare data are heard.

Source: Efraimidis and Spirakis, "Weighted random sampling with a reservoir", IPL 2006
(a place of 1 - u^(1/w) for a weight w); algorithm 1 (Select_Client) of LL-BCFL for the
weight, see `protocol.learning.selection_policy`.
"""

from collections.abc import Callable

from starling.protocol.learning.selection_policy import (
    EQUAL_CHANCES,
    SelectionPolicy,
    composite_ppm,
)
from starling.protocol.wire.message_bodies import PPM, CheckIn

UNIFORM_SHARE = 0.1
"""Share of check-ins that draw with the largest weight."""

Selection = Callable[[SelectionPolicy, CheckIn, int, float], float]
"""From a task's weights, a check-in, its board's reputation in parts per million and a
uniform draw in [0, 1) to a place in [0, 1)."""


def by_task(
    policy: SelectionPolicy, check_in: CheckIn, reputation_ppm: int, drawn: float
) -> float:
    """The weights that the task names."""
    if policy == EQUAL_CHANCES:
        return drawn
    if drawn < UNIFORM_SHARE:
        # Spread again over all places, so that this draw is uniform, too.
        return drawn / UNIFORM_SHARE
    said = check_in.resources_ppm, check_in.timeliness_ppm, check_in.budget_ppm
    weight = max(1, composite_ppm(policy, said, reputation_ppm)) / PPM
    fresh = (drawn - UNIFORM_SHARE) / (1.0 - UNIFORM_SHARE)
    # A weight of nothing has the last place, whatever it draws.
    place: float = 1.0 - (1.0 - fresh) ** (1.0 / weight)
    # Rounding may give 1.0, which is no place.
    return min(place, _LAST)


def uniform(
    policy: SelectionPolicy, check_in: CheckIn, reputation_ppm: int, drawn: float
) -> float:
    """Every board has the same chance, whatever the task or the board says."""
    del policy, check_in, reputation_ppm
    return drawn


SELECTIONS: dict[str, Selection] = {"task": by_task, "uniform": uniform}
"""By the name that a configuration gives."""
_LAST = 1.0 - 2.0**-53
