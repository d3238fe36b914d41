"""Client selection: every check-in draws a number, and the lowest gets the lease.

A policy turns a uniform draw into a place in [0, 1). That makes a weighted choice
without replacement cost no more than a uniform one, and nobody has to be sorted anew.

Source: Efraimidis and Spirakis, "Weighted random sampling with a reservoir", IPL 2006
(a place of 1 - u^(1/w) for a weight w).
"""

from collections.abc import Callable

from starling.protocol.wire.message_bodies import CheckIn

Selection = Callable[[CheckIn, float], float]
"""From a check-in and a uniform draw in [0, 1) to a place in [0, 1)."""


def uniform(check_in: CheckIn, drawn: float) -> float:
    """Every board has the same chance, whatever it says of itself."""
    del check_in
    return drawn


SELECTIONS: dict[str, Selection] = {"uniform": uniform}
"""By the name that a configuration gives."""
