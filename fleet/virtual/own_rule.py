"""Rules that whoever simulates wrote, of aggregation and of selection.

What they return is looked at; what they raise ends the simulation as it is.
"""

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

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
_SELECTOR = "selector"
_SHOWN_MOST = 5
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
    build.__name__ = _name(rule)
    return build


def _name(rule: Callable[..., object]) -> str:
    return getattr(rule, "__name__", type(rule).__name__)


@dataclass(frozen=True)
class WaitingBoard:
    """A board that waits for its turn, as far as it is known before it checks in.

    Attributes:
      board: Its number, from 0.
      device: Its id, as reports name it.
      pledge: Examples that it weighs in each update.
      duration_s: Mean of one training, in virtual time.
      updates: How many it made by now, taken or not.
      staleness: Versions made since the one that its last turn began with; None before
        the first.
      reputation: Expectation in [0, 1] of what the chain says of it.
    """

    board: int
    device: str
    pledge: int
    duration_s: float
    updates: int
    staleness: int | None
    reputation: float


SelectionRule = Callable[[Sequence[WaitingBoard], int], Iterable[int]]
"""From the boards that wait, by number, and the places that are free to the numbers of
the boards that get one."""

CheckedSelection = Callable[[Sequence[WaitingBoard], int, int], list[int]]
"""The same with the fewest places that must be given."""


def checked_selection(rule: SelectionRule | None) -> CheckedSelection | None:
    """The same rule, if any, with a look at whom it takes.

    Raises:
      ConfigError: If it is no function. What is returned raises it, too, if the rule
        takes somebody who does not wait, or twice, too many, or too few.
    """
    if rule is None:
        return None
    given: object = rule
    if not callable(given):
        detail = "expected a function of the boards that wait and the free places"
        raise ConfigError(detail, key=_SELECTOR)

    def choose(waiting: Sequence[WaitingBoard], places: int, least: int) -> list[int]:
        taken = _numbers(rule(tuple(waiting), places))
        _check_taken(taken, [each.board for each in waiting], places, least)
        return taken

    choose.__name__ = _name(rule)
    return choose


def _numbers(found: object) -> list[int]:
    """Numbers of boards, as a rule returned them."""
    detail = f"gave {found!r:.60}; give the numbers of boards, as [0, 3]"
    if isinstance(found, str | bytes) or not isinstance(found, Iterable):
        raise ConfigError(detail, key=_SELECTOR)
    listed = list(found)
    # A mask of True and False would pass for boards 1 and 0.
    if any(isinstance(each, bool | np.bool_) for each in listed):
        raise ConfigError(detail, key=_SELECTOR)
    try:
        return [operator.index(each) for each in listed]
    except TypeError as error:
        raise ConfigError(detail, key=_SELECTOR) from error


def _check_taken(
    taken: Sequence[int], waiting: Sequence[int], places: int, least: int
) -> None:
    wait, known = _listed(waiting), set(waiting)
    detail = ""
    if strangers := [board for board in taken if board not in known]:
        detail = f"took {strangers[0]}, which does not wait: take of {wait}"
    elif len(set(taken)) < len(taken):
        detail = f"took {_listed(taken)}: name each board once"
    elif len(taken) > places:
        detail = f"took {len(taken)} boards: take {places} at most, the second argument"
    elif len(taken) < least:
        detail = f"took {len(taken)} boards, with which no version is made: "
        detail += f"take at least {least} of {wait}"
    if detail:
        raise ConfigError(detail, key=_SELECTOR)


def _listed(boards: Sequence[int]) -> str:
    more = ", ..." if len(boards) > _SHOWN_MOST else ""
    return ", ".join(map(str, boards[:_SHOWN_MOST])) + more


@dataclass(frozen=True)
class OwnRules:
    """Rules in place of a plan's, as they were checked; None for the plan's."""

    aggregator: AggregationRule | None = None
    selector: CheckedSelection | None = None

    def names(self) -> dict[str, str]:
        """As a report's configuration names them."""
        given = {"rule": self.aggregator, _SELECTOR: self.selector}
        return {key: _name(rule) for key, rule in given.items() if rule is not None}


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
