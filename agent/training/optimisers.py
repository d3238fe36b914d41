"""Optimisers of flat parameter vectors: what turns mean gradients into steps.

An optimiser is a pair of functions. `init` gives the state before the first step,
`apply(state, gradient, theta, rate)` the state and the parameters after one; neither
changes its arguments. State and parameters are float32, as the graphs are.

Letters: `d` parameters, `w` the parameters, `g` the mean gradient, `t` steps so far.

Source: Polyak 1964 (momentum, in PyTorch's form); Kingma and Ba 2015, arXiv:1412.6980,
algorithm 1 (Adam); Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2 (AdamW);
Li et al. 2020, arXiv:1812.06127, equation 2 (FedProx).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from starling.protocol.learning.local_optimiser import DescentPolicy, OptimiserKind
from starling.protocol.learning.task import E12, Q24

Real = NDArray[np.float32]


@dataclass(frozen=True)
class OptimiserState:
    """State of an optimiser between steps.

    Attributes:
      steps: t.
      moments: Running means, each (d,) float32: none for SGD, one for momentum, of
        gradients and of their squares for Adam.
    """

    steps: int
    moments: tuple[Real, ...]


@dataclass(frozen=True)
class Optimiser:
    """A pair of functions; see the module's text.

    Attributes:
      init: From d to the state before the first step.
      apply: From state, gradient (d,), parameters (d,) and learning rate to the state
        and the parameters after the step. What is not finite stays so.
    """

    init: Callable[[int], OptimiserState]
    apply: Callable[[OptimiserState, Real, Real, float], tuple[OptimiserState, Real]]


def _zeros(moments: int) -> Callable[[int], OptimiserState]:
    def init(dimension: int) -> OptimiserState:
        means = [np.zeros(dimension, np.float32) for _ in range(moments)]
        return OptimiserState(0, tuple(means))

    return init


def sgd(policy: DescentPolicy) -> Optimiser:
    """Gives w - rate (g + decay w)."""
    decay = np.float32(policy.weight_decay_q24 / Q24)

    def apply(
        state: OptimiserState, gradient: Real, theta: Real, rate: float
    ) -> tuple[OptimiserState, Real]:
        step = np.float32(rate) * _decayed(gradient, theta, decay)
        return OptimiserState(state.steps + 1, ()), _left(theta, step)

    return Optimiser(_zeros(0), apply)


def momentum(policy: DescentPolicy) -> Optimiser:
    """Gives w - rate m, where m becomes momentum m + g + decay w."""
    share = np.float32(policy.momentum_q24 / Q24)
    decay = np.float32(policy.weight_decay_q24 / Q24)

    def apply(
        state: OptimiserState, gradient: Real, theta: Real, rate: float
    ) -> tuple[OptimiserState, Real]:
        mean = share * state.moments[0]
        mean += _decayed(gradient, theta, decay)
        after = OptimiserState(state.steps + 1, (mean,))
        return after, _left(theta, np.float32(rate) * mean)

    return Optimiser(_zeros(1), apply)


def adam(policy: DescentPolicy) -> Optimiser:
    """Adam; weight decay is part of the gradient."""
    decay = np.float32(policy.weight_decay_q24 / Q24)

    def apply(
        state: OptimiserState, gradient: Real, theta: Real, rate: float
    ) -> tuple[OptimiserState, Real]:
        slope = _decayed(gradient, theta, decay)
        after, step = _adam_step(policy, state, slope, rate)
        return after, _left(theta, step)

    return Optimiser(_zeros(2), apply)


def adamw(policy: DescentPolicy) -> Optimiser:
    """Adam; weight decay shrinks the parameters beside the step."""
    decay = policy.weight_decay_q24 / Q24

    def apply(
        state: OptimiserState, gradient: Real, theta: Real, rate: float
    ) -> tuple[OptimiserState, Real]:
        after, step = _adam_step(policy, state, gradient, rate)
        return after, _left(np.float32(1.0 - rate * decay) * theta, step)

    return Optimiser(_zeros(2), apply)


OPTIMISERS: Mapping[int, Callable[[DescentPolicy], Optimiser]] = {
    OptimiserKind.SGD: sgd,
    OptimiserKind.MOMENTUM: momentum,
    OptimiserKind.ADAM: adam,
    OptimiserKind.ADAMW: adamw,
}
"""Every optimiser, by its number on the wire."""


def proximal(gradient: Real, theta: Real, base: Real, pull_q24: int) -> Real:
    """The gradient with a proximal term, g + mu (w - base).

    Args:
      gradient: (d,) float32, mean over a batch.
      theta: (d,) float32, where it was taken.
      base: (d,) float32, the version that steps are drawn back to.
      pull_q24: mu of FedProx, lambda of Ditto, in units of 2^-24; 0 leaves the
        gradient as it is.
    """
    if pull_q24 == 0:
        return gradient
    return gradient + np.float32(pull_q24 / Q24) * (theta - base)


def _left(theta: Real, step: Real) -> Real:
    """Theta after a step, in the step's memory."""
    return np.subtract(theta, step, out=step)


def _decayed(gradient: Real, theta: Real, decay: np.float32) -> Real:
    return gradient + decay * theta if decay else gradient


def _adam_step(
    policy: DescentPolicy, state: OptimiserState, gradient: Real, rate: float
) -> tuple[OptimiserState, Real]:
    beta1, beta2 = policy.momentum_q24 / Q24, policy.beta2_q24 / Q24
    steps = state.steps + 1
    # In place where an array is ours: passes over memory are what a step costs.
    mean, part = np.float32(beta1) * state.moments[0], np.float32(1 - beta1) * gradient
    mean += part
    square = np.float32(beta2) * state.moments[1]
    np.multiply(np.float32(1 - beta2), gradient, out=part)
    part *= gradient
    square += part
    # Corrections in float64: 1 - beta^t loses its digits in float32.
    root = np.sqrt(square)
    root *= np.float32((1 - beta2**steps) ** -0.5)
    root += np.float32(policy.epsilon_e12 / E12)
    step = np.multiply(np.float32(rate / (1 - beta1**steps)), mean, out=part)
    step /= root
    return OptimiserState(steps, (mean, square)), step
