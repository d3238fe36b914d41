"""A whole fleet on one machine, as processes or in one.

Public: `FleetPlan`, `Pace`, `VirtualRun`, `run_virtual`. They are loaded on first use,
so that `starling fleet --help` is quick.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleet.plan import FleetPlan
    from fleet.rim.virtual import (  # noqa: TID251 - the public door
        Pace,
        VirtualRun,
        run_virtual,
    )

__all__ = ["FleetPlan", "Pace", "VirtualRun", "run_virtual"]

_HOMES = {
    "FleetPlan": "fleet.plan",
    "Pace": "fleet.rim.virtual",
    "VirtualRun": "fleet.rim.virtual",
    "run_virtual": "fleet.rim.virtual",
}


def __getattr__(name: str) -> object:
    """Loads a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(importlib.import_module(_HOMES[name]), name)
