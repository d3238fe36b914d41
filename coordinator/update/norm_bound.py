"""The norm bound: no honest update of the task is longer.

The test is exact, on integers, so that all coordinators agree. It is mandatory: under
noise it is what keeps a single board from drowning all others. With noise the radius is
public: it follows from clip, noise, dimension, codec and the size that the board
pledged.
"""

from functools import lru_cache

import numpy as np

from starling.protocol.errors import NormExceeded
from starling.protocol.learning.task import PrivacyPolicy, TaskSpec, TrainingPolicy
from starling.protocol.learning.vector_codecs import Grid, norm_squared
from starling.protocol.privacy.mechanisms import UNNOISED, update_radius

_TOGETHER = 1 << 16
"""Values that are widened at once."""


def norm_bound(spec: TaskSpec, pledge: int) -> int:
    """The largest norm of an honest update of a pledged size, in units of 2^-24."""
    if spec.privacy.mechanism in UNNOISED:
        return spec.aggregation.norm_max
    radius = _radius(spec.privacy, spec.training, spec.dimension, pledge, spec.codec)
    return min(spec.aggregation.norm_max, radius)


@lru_cache(maxsize=4096)
def _radius(
    privacy: PrivacyPolicy,
    training: TrainingPolicy,
    dimension: int,
    pledge: int,
    codec: int,
) -> int:
    return update_radius(privacy, training, dimension, pledge, codec)


def check_norm(vector: Grid, norm_max: int) -> None:
    """Refuses a vector that is longer than the task allows.

    Args:
      vector: (d,) int64 in units of 2^-24.
      norm_max: The bound, in the same units.

    Raises:
      NormExceeded: If its norm is larger.
    """
    # A float64 sum of d <= 2^26 squares is off by less than one part in 2^25, so that
    # what is clearly below the bound needs no exact arithmetic. Not by `@`: BLAS would
    # wake its threads, at a hundred times the cost.
    about = 0.0
    for start in range(0, vector.size, _TOGETHER):
        real = vector[start : start + _TOGETHER].astype(np.float64)
        about += float(np.einsum("i,i", real, real))
    if about * (1 + 2.0**-20) < float(norm_max) ** 2:
        return
    squared = norm_squared(vector)
    if squared > norm_max * norm_max:
        times = (squared // (norm_max * norm_max)) ** 0.5
        raise NormExceeded(f"norm is over {times:.1f} times the bound")
