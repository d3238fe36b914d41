"""SCAFFOLD's control variates: what a board corrects its local steps with.

Boards whose data differ walk apart. Each keeps a variate, its guess of its own mean
gradient, and the server the mean of all; a step takes the board's own out of the
gradient and the server's in. A board that took `steps` steps of plain SGD guesses anew
from the way that it went.

The change of the variate is a second vector that is released beside the update, so that
this does not go together with a privacy mechanism. The wire carries neither it nor the
server's variate yet; an evaluation in one process can use these functions as they are.

Letters: `d` parameters.

Source: Karimireddy et al. 2020, arXiv:1910.06378, algorithm 1, option II.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocol.errors import OperationError
from protocol.mechanisms import NONE

Real = NDArray[np.float32]


@dataclass(frozen=True)
class Variates:
    """The two control variates, each (d,) float32; zeros before the first update.

    Attributes:
      server: Mean of all boards' variates.
      own: This board's.
    """

    server: Real
    own: Real


def corrected(gradient: Real, variates: Variates) -> Real:
    """The gradient of a step, (d,): what is the board's own out, what is all's in."""
    return gradient - variates.own + variates.server


def renewed(
    variates: Variates, way: NDArray[np.float64], rates: float, mechanism: int
) -> Real:
    """The board's variate after its local steps.

    Args:
      variates: Those that corrected the steps.
      way: (d,), parameters before less parameters after.
      rates: The learning rates of all steps, added up; above 0.
      mechanism: Of the task's privacy.

    Returns:
      (d,) float32; what the server needs is its difference to the variate before.

    Raises:
      OperationError: With a privacy mechanism, which the second vector would break.
    """
    if mechanism != NONE:
        raise OperationError("control variates are a second release; not with privacy")
    return (variates.own - variates.server + way / rates).astype(np.float32)
