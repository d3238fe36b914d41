"""The service on a board: trains on its own data and sends what may leave it.

Public: `Trainer`, `open_trainer`, `with_head`. They are loaded on first use, since the
agent's own process has no room for numpy.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starling.agent.trainer.engines.engine_registry import open_trainer  # noqa: TID251 - the public door
    from starling.agent.trainer.personal_layers_file import with_head  # noqa: TID251 - the public door
    from starling.agent.training.training_inputs import Trainer

__all__ = ["Trainer", "open_trainer", "with_head"]

_HOMES = {
    "Trainer": "starling.agent.training.training_inputs",
    "open_trainer": "starling.agent.trainer.engines.engine_registry",
    "with_head": "starling.agent.trainer.personal_layers_file",
}


def __getattr__(name: str) -> object:
    """Loads a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(importlib.import_module(_HOMES[name]), name)
