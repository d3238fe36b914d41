"""A whole fleet on one machine, as processes or in one.

Public: `FleetPlan`, `FleetRun`, `Pace`, `run_virtual`. They are loaded on first use,
so that `starling fleet --help` is quick.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleet.plan import FleetPlan
    from fleet.report import FleetRun
    from fleet.rim.virtual import (  # noqa: TID251 - the public door
        Pace,
        run_virtual,
    )

__all__ = ["FleetPlan", "FleetRun", "Pace", "run_virtual"]

_HOMES = {
    "FleetPlan": "fleet.plan",
    "FleetRun": "fleet.report",
    "Pace": "fleet.rim.virtual",
    "run_virtual": "fleet.rim.virtual",
}


def __getattr__(name: str) -> object:
    """Loads a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(importlib.import_module(_HOMES[name]), name)
