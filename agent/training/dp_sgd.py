"""Several noised local steps on Poisson samples: differentially private SGD.

Every step draws a sample, sums its clipped gradients, adds discrete Gaussian noise and
moves; the update is the way that was gone, times the pledge, so that the server's sum
over sum of pledges is federated averaging. All that is released follows from the noised
sums, which are kept as exact integers.

Source: Abadi et al. 2016, arXiv:1607.00133, algorithm 1; Mironov, Talwar, Zhang 2019,
arXiv:1908.10530 (Poisson sampling, fixed expected size as divisor).
"""

from collections.abc import Callable

import numpy as np

from starling.agent.privacy.noise_mechanisms import draw_sample, private_sum
from starling.agent.training.gradient_clipping import Clip, Gradient, clipped_sum
from starling.agent.training.training_inputs import Real, TrainingInputs
from starling.protocol.errors import NormExceeded
from starling.protocol.learning.task import MICRO, Q24
from starling.protocol.learning.vector_codecs import (
    SCALE_BITS,
    VALUE_BITS,
    Draw,
    GridVector,
    to_grid,
)
from starling.protocol.privacy.noise_grid import noise_grid


def noised_steps(
    gradient_at: Callable[[Real], Gradient],
    work: TrainingInputs,
    kind: str,
    draw: Draw,
) -> tuple[GridVector, int]:
    """Trains as the task's schedule says.

    Args:
      gradient_at: The gradient of one record at given parameters.
      work: Its order's privacy says how often, how many and how noisy.
      kind: One of `protocol.privacy.clipping_functions.CLIPPINGS`.
      draw: Cryptographically secure random bytes, for samples and noise.

    Returns:
      (d,) on the grid of 2^-24; and how often a record that was drawn gave no gradient,
      which stays on the board.

    Raises:
      ConfigError: If clip, sigma or d are out of bounds.
      NormExceeded: If the way is too long for the wire.
    """
    theta, order = work.theta, work.order
    privacy = order.privacy
    # The expected size of a sample under the pledge is public; dividing by the size
    # that was drawn would tell it.
    weight_micro = order.pledge * privacy.sampling_micro
    rate = order.training.learning_rate_q24 / Q24
    grid = noise_grid(privacy.clip_q24, privacy.sigma_micro, theta.size)
    clip = Clip(privacy.clip_q24, kind, grid.exponent)
    total = np.zeros(theta.size, np.int64)
    way, moved, unusable = np.zeros(theta.size, np.float64), theta, 0
    for _ in range(privacy.steps):
        chosen = draw_sample(len(work.x), privacy.sampling_micro, draw)
        found = clipped_sum(gradient_at(moved), work, chosen, clip)
        unusable += found.unusable
        noised = private_sum(
            found.total(), privacy.clip_q24, privacy.sigma_micro, weight_micro, draw
        )
        # Before adding: so many steps of at most this size cannot leave the range.
        if int(np.abs(noised.values).max()) >= (1 << VALUE_BITS) // privacy.steps:
            raise NormExceeded("noised sums do not fit together")
        total += noised.values
        way = np.ldexp(total.astype(np.float64), grid.exponent)
        way *= rate * MICRO / weight_micro
        moved = (theta - way).astype(np.float32)
    return GridVector(to_grid(order.pledge * way), -SCALE_BITS), unusable
