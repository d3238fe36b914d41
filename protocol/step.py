"""One step of a core while it is taken: the state and the effects so far.

A core is a function `step(state, event) -> (state, effects)`. Within one call the rules
share a `Step`: they replace its frozen state by `evolve` and append effects, and the
step ends with `result`. It never outlives the call, so that nothing mutable is shared.

Source: The functional core of raft implementations (a `Ready` value for each step);
etcd-io/raft, node.go.
"""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

SettingsT = TypeVar("SettingsT")
StateT = TypeVar("StateT")
EffectT = TypeVar("EffectT")


@dataclass
class Step(Generic[SettingsT, StateT, EffectT]):
    """A step in progress.

    Attributes:
      settings: Constant.
      state: As replaced so far; each value of it is frozen.
      effects: In the order in which they are to be carried out.
    """

    settings: SettingsT
    state: StateT
    effects: list[EffectT] = field(default_factory=list, kw_only=True)

    def emit(self, *effects: EffectT) -> None:
        """Append effects to those that are there."""
        self.effects += effects

    def result(self) -> tuple[StateT, tuple[EffectT, ...]]:
        """State after the step, and its effects in order."""
        return self.state, tuple(self.effects)
