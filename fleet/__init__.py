"""A whole fleet on one machine, as processes or in one.

Public: the names in `__all__`, loaded on first use, so that `starling fleet --help` is
quick.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starling.fleet.plan import FleetPlan
    from starling.fleet.report.run_report import FleetRun

    # All are pure to whoever calls them.
    from starling.fleet.runtime.simulation import (  # noqa: TID251 - the public door
        PlanOptions,
        Simulation,
        SimulationOptions,
        simulate,
    )
    from starling.fleet.runtime.virtual_run import Pace, run_virtual  # noqa: TID251 - the public door
    from starling.fleet.virtual.own_rule import WaitingBoard

__all__ = [
    "FleetPlan",
    "FleetRun",
    "Pace",
    "PlanOptions",
    "Simulation",
    "SimulationOptions",
    "WaitingBoard",
    "run_virtual",
    "simulate",
]

_HOMES = {
    "FleetPlan": "starling.fleet.plan",
    "FleetRun": "starling.fleet.report.run_report",
    "Pace": "starling.fleet.runtime.virtual_run",
    "PlanOptions": "starling.fleet.runtime.simulation",
    "Simulation": "starling.fleet.runtime.simulation",
    "SimulationOptions": "starling.fleet.runtime.simulation",
    "WaitingBoard": "starling.fleet.virtual.own_rule",
    "run_virtual": "starling.fleet.runtime.virtual_run",
    "simulate": "starling.fleet.runtime.simulation",
}


def __getattr__(name: str) -> object:
    """Loads a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(importlib.import_module(_HOMES[name]), name)
