"""FedAdam, FedYogi and FedAdagrad: each parameter goes at its own rate.

    m = beta1 m + (1 - beta1) D
    v = beta2 v + (1 - beta2) D^2                  Adam
    v = v - (1 - beta2) D^2 sign(v - D^2)          Yogi
    v = v + D^2                                    Adagrad
    theta = theta - rho eta m / (sqrt(max(v - s, 0)) + epsilon)

`D = sum w S / sum w n` is the buffer's weighted mean and `rho = sum w n / sum n` its
mean weight by staleness, at most 1: a quotient of moments forgets how long its
gradients were, so that the weights of late buffers must shorten the step itself. beta1
is the server's momentum, `beta2 = 0.99` and `epsilon = 0.001`, with which v begins as
`epsilon^2`. `s` is what known noise has added to v: it takes the
same steps as v, fed with the variance of the noise in D. Without it the noise, which is
alike in all parameters, would hide how these differ, and Adam would be plain descent.
What is left of v after Yogi's unequal steps is more than without noise, never less, so
that its steps are shorter.

v and s are in units of 2^-48. D is held within 2^30 (64 a parameter) and v within 2^61,
so that no sum leaves int64; m is within 2^30, eta 2^24 m 2^8 within 2^62. The root is
rounded down, the step once. The memory is s, then v; an empty one is version 0's.

Source: Reddi et al., "Adaptive Federated Optimization", ICLR 2021, Algorithm 2; Wang
et al., "FADAS: Towards Federated Adaptive Asynchronous Optimization", ICML 2024,
Algorithm 2 (a rate that falls with the delay); Tang,
Shpilevskiy, Lecuyer, "DP-AdamBC: Your DP-Adam Is Actually DP-SGD (Unless You Apply Bias
Correction)", AAAI 2024, Algorithm 1 (the noise's variance subtracted).
"""

from collections.abc import Callable, Iterable

import numpy as np

from starling.coordinator.aggregation.integer_rounding import (
    divide_each_half_even,
    divide_half_even,
    multiply_q16,
    ratio_half_even,
    root_floor,
)
from starling.coordinator.aggregation.server_step import (
    WeightedSum,
    held,
    initial_state,
    moved,
)
from starling.coordinator.aggregation.strategy import (
    Aggregator,
    ModelState,
    WeightedUpdate,
)
from starling.protocol.errors import AggregationError
from starling.protocol.learning.task import Q15, Q16, Q24, AggregationPolicy
from starling.protocol.learning.vector_codecs import Grid

EPSILON = round(0.001 * Q24)
_FRESH_Q16 = Q16 - round(0.99 * Q16)
_MEAN_MAX = 1 << 30
_SQUARE_MAX = 1 << 61
_RATE_SHIFT = 8
_SecondMoment = Callable[[Grid, Grid], Grid]
"""v and D^2 to the next v."""


def fedadam(policy: AggregationPolicy, noise_variance: int = 0) -> Aggregator:
    """Adam at the server.

    Source: Reddi et al., ICLR 2021, Algorithm 2 (FedAdam); DP-AdamBC, Algorithm 1.
    """
    return _adaptive(policy, noise_variance, _adam)


def fedyogi(policy: AggregationPolicy, noise_variance: int = 0) -> Aggregator:
    """Yogi at the server: v moves by what a square is, and not by how far it is off.

    Source: Reddi et al., ICLR 2021, Algorithm 2 (FedYogi).
    """
    return _adaptive(policy, noise_variance, _yogi)


def fedadagrad(policy: AggregationPolicy, noise_variance: int = 0) -> Aggregator:
    """Adagrad at the server: v only grows.

    Source: Reddi et al., ICLR 2021, Algorithm 2 (FedAdagrad).
    """
    return _adaptive(policy, noise_variance, _adagrad)


def adaptive_words(dimension: int) -> int:
    """The memory, in integers of 8 bytes."""
    return 1 + dimension


def _adaptive(
    policy: AggregationPolicy, noise_variance: int, second_moment: _SecondMoment
) -> Aggregator:
    """A strategy with a second moment; `noise_variance` is of one update, 2^-48."""

    def apply(
        state: ModelState, updates: Iterable[WeightedUpdate], version: int
    ) -> ModelState:
        del version
        buffer = WeightedSum(state.theta.size)
        for _ in buffer.drain(updates):
            pass
        mean = held(_weighted(buffer), _MEAN_MAX)
        noise = ratio_half_even(noise_variance * buffer.squares, buffer.weight**2)
        memory = _remembered(state)
        squares = np.concatenate([[min(noise, _MEAN_MAX**2)], mean * mean])
        memory = held(second_moment(memory, squares), _SQUARE_MAX)
        fresh = Q16 - policy.momentum_q16
        kept = multiply_q16(state.momentum, policy.momentum_q16)
        momentum = held(kept + multiply_q16(mean, fresh), _MEAN_MAX)
        root = root_floor(np.maximum(memory[1:] - memory[0], 0))
        rate = policy.learning_rate_q16 << _RATE_SHIFT
        rate = ratio_half_even(rate * buffer.weight, Q15 * buffer.examples)
        step = divide_each_half_even(momentum * rate, root + EPSILON)
        return moved(policy, state, step, momentum, memory)

    return Aggregator(initial_state, apply)


def _weighted(buffer: WeightedSum) -> Grid:
    if buffer.weight == 0:
        raise AggregationError("there is no update")
    return divide_half_even(buffer.total, buffer.weight)


def _remembered(state: ModelState) -> Grid:
    if state.memory.size:
        return state.memory
    start = np.full(adaptive_words(state.theta.size), EPSILON**2, np.int64)
    start[0] = 0
    return start


def _adam(v: Grid, square: Grid) -> Grid:
    return v + multiply_q16(square - v, _FRESH_Q16)


def _yogi(v: Grid, square: Grid) -> Grid:
    return v + multiply_q16(np.sign(square - v) * square, _FRESH_Q16)


def _adagrad(v: Grid, square: Grid) -> Grid:
    return v + square
