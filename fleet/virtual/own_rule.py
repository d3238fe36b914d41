"""A rule of aggregation that whoever simulates wrote: what it returns is looked at."""

from collections.abc import Iterable

import numpy as np

from starling.coordinator.aggregation.server_step import MOMENTUM_MAX, PARAMETER_MAX
from starling.coordinator.aggregation.strategy import (
    Aggregator,
    ModelState,
    WeightedUpdate,
)
from starling.coordinator.aggregation.strategy_registry import AggregationRule
from starling.protocol.errors import ConfigError
from starling.protocol.learning.task import AggregationPolicy

_KEY = "aggregator"
_MOST = {"theta": PARAMETER_MAX, "momentum": MOMENTUM_MAX, "average": PARAMETER_MAX}


def checked_rule(rule: AggregationRule | None) -> AggregationRule | None:
    """The same rule, if any; what no coordinator could keep is refused as it is made.

    Raises:
      ConfigError: If it is no function. What it builds raises it, too, if a state is
        not of int64 and of the model's length, is out of bounds, or has a memory.
    """
    if rule is None:
        return None
    if not callable(rule):
        raise ConfigError("expected a function that builds an Aggregator", key=_KEY)

    def build(policy: AggregationPolicy, noise_variance: int) -> Aggregator:
        made = rule(policy, noise_variance)
        if not isinstance(made, Aggregator):
            raise ConfigError(f"built {made!r:.60}, which is no Aggregator", key=_KEY)

        def apply(
            state: ModelState, updates: Iterable[WeightedUpdate], version: int
        ) -> ModelState:
            found = made.apply(state, updates, version)
            _check(found, state.theta.shape)
            return found

        return Aggregator(made.init, apply)

    # Reports name the rule that was written.
    build.__name__ = getattr(rule, "__name__", type(rule).__name__)
    return build


def _check(found: ModelState, shape: tuple[int, ...]) -> None:
    if not isinstance(found, ModelState):
        raise ConfigError(f"gave {found!r:.60}, which is no ModelState", key=_KEY)
    for name, most in _MOST.items():
        part = getattr(found, name)
        if (
            not isinstance(part, np.ndarray)
            or part.dtype != np.int64
            or part.shape != shape
        ):
            raise ConfigError(f"{name}: expected {shape} int64", key=_KEY)
        if part.size and max(-int(part.min()), int(part.max())) > most:
            raise ConfigError(f"{name}: an entry is beyond {most}", key=_KEY)
    if found.memory.size:
        raise ConfigError("memory: a rule of one's own has none", key=_KEY)
