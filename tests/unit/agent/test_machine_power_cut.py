"""Power cuts at every effect: nothing is paid or signed twice, and learning goes on.

Also where the data set has paid for another kind of noise before, so that its ledger
is kept at a Renyi order.
"""

from dataclasses import replace
from functools import cache

import pytest

from starling.agent.privacy.ledger import PrivacyLedger
from starling.protocol.ids import TaskId, Version
from starling.protocol.learning.task import E12, MICRO, Q24, PrivacyPolicy, TrainingMode
from starling.protocol.privacy.gaussian_dp import Budget
from starling.protocol.privacy.mechanisms import (
    DEVICE_LAPLACE,
    GAUSSIAN,
    RECORD_DPSGD,
    RECORD_GAUSSIAN,
    calibrate,
    equivalent_charge,
    release_costs,
)
from tests.unit.agent.agent_harness import BoardHarness, Disk, PowerCut, connected
from tests.unit.agent.fake_coordinator import CAP, CHAIN, FakeCoordinator, task_spec

_BUDGET = Budget(3.0, 1e-5)
_EARLIER = Version(1000)


def _policy(mechanism: int) -> PrivacyPolicy:
    """Five releases for epsilon 3."""
    schedule = (MICRO // 10, 4) if mechanism == RECORD_DPSGD else (MICRO, 1)
    sigma = calibrate(mechanism, _BUDGET, 5, *schedule)
    charge = 0
    if mechanism not in GAUSSIAN:
        costs = release_costs(mechanism, sigma, *schedule, 1)
        charge = equivalent_charge(costs, 5, _BUDGET.delta)
    return PrivacyPolicy(
        mechanism, Q24, sigma, 3 * MICRO, E12 // 10**5, 5, *schedule, charge
    )


LIVES = {
    "gaussian": (None, RECORD_GAUSSIAN),
    "laplace after sampled steps": (RECORD_DPSGD, DEVICE_LAPLACE),
    "sampled steps after gaussian": (RECORD_GAUSSIAN, RECORD_DPSGD),
}
"""What another task was paid for before, and what this one asks for."""


def _start(name: str) -> tuple[Disk, FakeCoordinator]:
    """A disk with its past, and the side that the board speaks to."""
    before, mechanism = LIVES[name]
    disk = Disk()
    if before is not None:
        ledger = PrivacyLedger.load(CAP, [])
        _, _, entry = ledger.charge((CHAIN, TaskId(7), _EARLIER), _policy(before))
        disk.journal.append(entry)
    spec = task_spec(_policy(mechanism))
    if mechanism == RECORD_DPSGD:
        local = replace(spec.training, mode=TrainingMode.LOCAL)
        spec = replace(spec, training=local)
    return disk, FakeCoordinator(spec)


def _life(disk: Disk, meadow: FakeCoordinator, cut: int | None) -> BoardHarness:
    """One start of a board, to its end or to the power cut."""
    board = BoardHarness(disk, meadow, lambda number: number == cut)
    connected(board)
    board.run(lambda: meadow.head >= 2)
    return board


@cache
def _effects(name: str) -> int:
    return _life(*_start(name), None).effects_done


@pytest.mark.parametrize(
    ("name", "cut"), [(name, cut) for name in LIVES for cut in range(_effects(name))]
)
def test_power_cut_before_any_effect_signs_no_second_update_and_learning_goes_on(
    name: str, cut: int
) -> None:
    disk, meadow = _start(name)
    with pytest.raises(PowerCut):
        _life(disk, meadow, cut)

    board = _life(disk, meadow, None)

    assert meadow.head >= 2
    assert all(len(found) == 1 for found in meadow.updates.values())
    assert set(board.noised) <= disk.charged()
    assert len(disk.charges()) == len(disk.charged())
    assert 0 < PrivacyLedger.load(CAP, disk.journal).epsilon() <= CAP.epsilon
