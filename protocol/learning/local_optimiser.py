"""Local optimiser: how a task tells boards to take their own steps.

Everything is an integer on the wire: `_q24` means units of 2^-24, `_e12` of 10^-12. A
field that the chosen optimiser or schedule does not use says nothing.
"""

from enum import IntEnum
from typing import Annotated

from starling.protocol.schema.msgpack_codec import Structure, uint

_Q24 = 1 << 24
_E12 = 10**12
EPOCHS_MAX = 1000
ACCUMULATION_MAX = 1 << 10
STEPS_MAX = 1 << 20


class OptimiserKind(IntEnum):
    """Optimiser that turns a mean gradient into a step."""

    SGD = 0
    MOMENTUM = 1
    ADAM = 2
    ADAMW = 3


class ScheduleKind(IntEnum):
    """Schedule of the learning rate over the steps of one update."""

    CONSTANT = 0
    STEP = 1
    COSINE = 2


class DescentPolicy(Structure, frozen=True):
    """The optimiser of local steps; the default is plain SGD at a constant rate.

    Attributes:
      optimiser: `OptimiserKind`.
      momentum_q24: Share of the running mean of gradients that stays at a step, below
        1: of MOMENTUM, and beta 1 of ADAM and ADAMW.
      beta2_q24: Share of the running mean of squares that stays, below 1; ADAM, ADAMW.
      epsilon_e12: Added to the root of the mean of squares, above 0; ADAM, ADAMW.
      weight_decay_q24: Added to the gradient, times theta; for ADAMW theta shrinks by
        it, times the learning rate, beside the step.
      prox_q24: mu of FedProx: mu / 2 times the squared way from the base version is
        added to the loss.
      accumulation: Batches whose mean gradient makes one step.
      schedule: `ScheduleKind`.
      warmup: Steps over which the rate rises from 0 to the whole, before the schedule.
      period: Steps after which the rate decays; STEP only.
      decay_q24: What the rate is multiplied with then, at most 1; STEP only.
    """

    optimiser: Annotated[int, uint(max(OptimiserKind))] = OptimiserKind.SGD
    momentum_q24: Annotated[int, uint(_Q24 - 1)] = round(0.9 * _Q24)
    beta2_q24: Annotated[int, uint(_Q24 - 1)] = round(0.999 * _Q24)
    epsilon_e12: Annotated[int, uint(_E12, 1)] = _E12 // 10**8
    weight_decay_q24: Annotated[int, uint(_Q24)] = 0
    prox_q24: Annotated[int, uint(1 << 32)] = 0
    accumulation: Annotated[int, uint(ACCUMULATION_MAX, 1)] = 1
    schedule: Annotated[int, uint(max(ScheduleKind))] = ScheduleKind.CONSTANT
    warmup: Annotated[int, uint(STEPS_MAX)] = 0
    period: Annotated[int, uint(STEPS_MAX, 1)] = 1
    decay_q24: Annotated[int, uint(_Q24)] = _Q24


PLAIN = DescentPolicy()
"""SGD at a constant rate."""


class PersonalPolicy(Structure, frozen=True):
    """A model of its own that a board trains beside the fleet's, and never sends.

    Attributes:
      epochs: Over the board's records after each of its updates; 0 for no such model.
      pull_q24: lambda of Ditto: lambda / 2 times the squared distance from the version
        that the update began at is added to the loss.

    Source: Li et al., ICML 2021, arXiv:2012.04221, algorithm 1.
    """

    epochs: Annotated[int, uint(EPOCHS_MAX)] = 0
    pull_q24: Annotated[int, uint(1 << 32)] = 0


NO_PERSONAL = PersonalPolicy()
"""Boards have the fleet's model alone."""
