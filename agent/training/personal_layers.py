"""Parameters that stay on the board: trained with the others, never sent.

They move by the very vector that the others are sent in, after clipping and noise. What
the board keeps is thus a function of what the mechanism released and of nothing else,
and the charge that was paid for that vector covers every later update, whose gradients
the kept parameters shape. A head trained on exact gradients would not be covered: one
record could change it, and through it the gradients of all others.

Letters: `d` parameters, `k` of them local.

Source: Arivazhagan et al. 2019, arXiv:1912.00818 (personalisation layers); Dwork and
Roth 2014, proposition 2.1 (post-processing).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starling.agent.training.trainer_messages import TrainingOrder
from starling.protocol.learning.task import Q24, TrainingMode
from starling.protocol.learning.vector_codecs import GridVector

Real = NDArray[np.float32]


def merged(theta: Real, own: Real | None, places: Sequence[slice]) -> Real:
    """The fleet's parameters with the board's own in their places.

    Args:
      theta: (d,) float32.
      own: (k,) float32; None or an array of another length leaves theta as it is.
      places: `protocol.model.parameter_layout.local_slices`.

    Returns:
      (d,) float32, a copy where anything differs.
    """
    count = sum(place.stop - place.start for place in places)
    if own is None or not count or own.size != count:
        return theta
    whole, start = theta.copy(), 0
    for place in places:
        size = place.stop - place.start
        whole[place] = own[start : start + size]
        start += size
    return whole


def own_part(vector: NDArray[np.generic], places: Sequence[slice]) -> NDArray[Any]:
    """Personal part of a (d,) vector, (k,)."""
    return np.concatenate([vector[place] for place in places])


def shared_part(vector: GridVector, places: Sequence[slice]) -> GridVector:
    """The vector with zeros where the board's own parameters are."""
    values = vector.values.copy()
    for place in places:
        values[place] = 0
    return GridVector(values, vector.exponent)


def moved(
    theta: Real, vector: GridVector, order: TrainingOrder, places: Sequence[slice]
) -> Real:
    """The board's own parameters after an update.

    Args:
      theta: (d,) float32 that the update was trained from, merged.
      vector: (d,) the update, protected, before anything is taken out of it.
      order: With the pledge, which an update is multiplied with, and in mode GRADIENT
        the learning rate of the step.
      places: `protocol.model.parameter_layout.local_slices`.

    Returns:
      (k,) float32; as before where the step is not finite.
    """
    rate = 1.0
    if order.training.mode == TrainingMode.GRADIENT:
        rate = order.training.learning_rate_q24 / Q24
    before = own_part(theta, places)
    step = np.ldexp(own_part(vector.values, places).astype(float), vector.exponent)
    after = (before - step * (rate / order.pledge)).astype(np.float32)
    kept: Real = np.where(np.isfinite(after), after, before)
    return kept
