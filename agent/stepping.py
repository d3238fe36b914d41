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

from agent.mechanism import Step, draw_sample, private_sum, sampled_sum
from agent.work import Real, Work
from protocol.errors import NormExceeded
from protocol.noise import noise_grid
from protocol.task import MICRO, Q24
from protocol.vectors import SCALE_BITS, VALUE_BITS, Draw, GridVector, to_grid


def noised_steps(
    step_at: Callable[[Real], Step],
    work: Work,
    ready: Callable[[], None],
    draw: Draw,
) -> GridVector:
    """Trains as the task's schedule says.

    Args:
      step_at: The private gradient at given parameters.
      work: Its order's privacy says how often, how many and how noisy.
      ready: Called once, before the first random number.
      draw: Cryptographically secure random bytes, for samples and noise.

    Returns:
      (d,) on the grid of 2^-24.

    Raises:
      ConfigError: If clip, sigma or d are out of bounds.
      NonFinite: If the model has no finite gradient at an all-zero record.
      NormExceeded: If the way is too long for the wire.
    """
    x, y, theta, order = work.x, work.y, work.theta, work.order
    privacy = order.privacy
    expected = order.pledge * privacy.sampling_micro / MICRO
    rate = order.training.learning_rate_q24 / Q24
    grid = noise_grid(privacy.clip_q24, privacy.sigma_micro, theta.size)
    # Nothing is chosen: what can fail for the model's sake fails before it is paid for.
    sampled_sum(step_at(theta), x, y, np.zeros(0, np.int64), work.micro_batch)
    ready()
    total = np.zeros(theta.size, np.int64)
    way, moved = np.zeros(theta.size, np.float64), theta
    for _ in range(privacy.steps):
        chosen = draw_sample(len(x), privacy.sampling_micro, draw)
        clipped = sampled_sum(step_at(moved), x, y, chosen, work.micro_batch)
        noised = private_sum(clipped, privacy.clip_q24, privacy.sigma_micro, draw)
        if int(np.abs(noised.values).max()) >= (1 << VALUE_BITS) // privacy.steps:
            raise NormExceeded("noised sums do not fit together")
        total += noised.values
        way = np.ldexp(total.astype(np.float64), grid.exponent) * (rate / expected)
        moved = (theta - way).astype(np.float32)
    return GridVector(to_grid(order.pledge * way), -SCALE_BITS)
