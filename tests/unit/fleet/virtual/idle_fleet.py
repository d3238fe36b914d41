"""A virtual fleet whose boards send zeros at once, with several coordinators."""

from collections.abc import Callable
from functools import cache

import numpy as np

from starling.coordinator.task_file.task_settings import publication
from starling.fleet import FleetPlan
from starling.fleet.faults.board_faults import board_faults
from starling.fleet.faults.fault_timeline import timeline
from starling.fleet.presets import DataShares, task_settings
from starling.fleet.runtime.training_material import prepare
from starling.fleet.virtual.committee import CommitteeShape
from starling.fleet.virtual.fleet_shape import FleetShape
from starling.fleet.virtual.virtual_fleet import VirtualFleet
from starling.fleet.virtual.workload import Workload, ZeroWorkload

BOARDS, BUFFER, REST_S = 4, 2, 1.0


@cache
def _bundle() -> bytes:
    return prepare(FleetPlan(devices=BOARDS, buffer=BUFFER, privacy="none")).bundle


def fleet_of(
    coordinators: int = 4,
    fault: str = "",
    *,
    brokers: int = 1,
    seed: int = 1,
    labour: Workload | None = None,
) -> VirtualFleet:
    """A fleet whose task is being published; `labour` in the place of zeros."""
    plan = FleetPlan(devices=BOARDS, buffer=BUFFER, privacy="none")
    task = publication(
        task_settings(plan, DataShares((64,), 143, 143)), _bundle(), "task"
    )
    faults = timeline(fault, coordinators)
    about_boards = board_faults(fault, BOARDS)
    committee = CommitteeShape(coordinators, brokers, faults=faults)
    shape = FleetShape(
        BOARDS,
        3,
        False,
        (1.0,) * BOARDS,
        rest_s=REST_S,
        committee=committee,
        board_faults=about_boards,
    )
    rng = np.random.default_rng(seed)
    work = labour or ZeroWorkload(143)
    return VirtualFleet(shape, task, work, rng.bytes, rng)


def drive(fleet: VirtualFleet, done: Callable[[], bool], within_s: float) -> None:
    """Lets virtual time pass until something is so."""
    until_s = fleet.agenda.now_s + within_s
    while not done():
        assert fleet.agenda.now_s < until_s, f"version {fleet.version}"
        assert fleet.advance()


def wait(fleet: VirtualFleet, until_s: float) -> None:
    """Lets virtual time pass until so long after the task was open."""
    drive(fleet, lambda: fleet.versions.head >= 0, 30.0)
    drive(fleet, lambda: fleet.elapsed_s >= until_s, until_s + 30.0)


def said(fleet: VirtualFleet) -> list[str]:
    """Everything that began, ended and was found out."""
    return [event.text for event in fleet.snapshot(fleet.elapsed_s).events]
