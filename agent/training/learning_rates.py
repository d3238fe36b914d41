"""Learning rates over the local steps of one update.

A schedule is a function from the number of a step, counted from 0, to a factor in
[0, 1]; every update starts anew. Warm-up comes first, the schedule counts from its end.

Source: Loshchilov and Hutter 2017, arXiv:1608.03983, equation 5 without restarts
(cosine); Goyal et al. 2017, arXiv:1706.02677, section 2.2 (linear warm-up).
"""

import math
from collections.abc import Callable, Mapping

from starling.protocol.learning.local_optimiser import DescentPolicy, ScheduleKind
from starling.protocol.learning.task import Q24

Schedule = Callable[[int], float]


def constant(policy: DescentPolicy, steps: int) -> Schedule:
    """1 at every step."""
    return lambda number: 1.0


def step(policy: DescentPolicy, steps: int) -> Schedule:
    """`decay` once more after every `period` steps."""
    decay = policy.decay_q24 / Q24
    return lambda number: float(decay ** (number // policy.period))


def cosine(policy: DescentPolicy, steps: int) -> Schedule:
    """Half a cosine from 1 at the first step towards 0 behind the last."""
    return lambda number: (1.0 + math.cos(math.pi * min(number / steps, 1.0))) / 2.0


SCHEDULES: Mapping[int, Callable[[DescentPolicy, int], Schedule]] = {
    ScheduleKind.CONSTANT: constant,
    ScheduleKind.STEP: step,
    ScheduleKind.COSINE: cosine,
}
"""Every schedule, by its number on the wire."""


def learning_rates(policy: DescentPolicy, whole: float, steps: int) -> Schedule:
    """The learning rate of each step.

    Args:
      policy: With the schedule and its warm-up.
      whole: The rate that factors multiply.
      steps: Of one update, all epochs; at least 1.

    Returns:
      From the number of a step, counted from 0, to its rate. With a warm-up of m steps
      the first m are 1/m, 2/m, ... m/m of the whole.
    """
    factor = SCHEDULES[policy.schedule](policy, max(1, steps - policy.warmup))

    def rate(number: int) -> float:
        if number < policy.warmup:
            return whole * (number + 1) / policy.warmup
        return whole * factor(number - policy.warmup)

    return rate
