"""Seeds of mixed faults: what must never happen does not, and learning goes on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from starling.agent.privacy.ledger import PrivacyLedger
from starling.coordinator.chain.state import board_records
from tests.sim.campaign import CUTS_PLAN, losses, run

SEEDS = 200
SEEDS_PER_TEST = 10
SOAK_SEEDS = 4000
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_fleet_in_mixed_faults_keeps_the_law_and_goes_on(first: int) -> None:
    outcomes = [run(seed) for seed in range(first, first + SEEDS_PER_TEST)]

    assert sum(outcome.crashes for outcome in outcomes) > 0


@pytest.mark.soak
@pytest.mark.parametrize("first", range(SEEDS, SEEDS + SOAK_SEEDS, 100))
def test_fleet_in_many_more_seeds_keeps_the_law(first: int) -> None:
    heads = [run(seed).head for seed in range(first, first + 100)]

    assert min(heads) >= 0


@pytest.mark.parametrize("boards", range(1, CUTS_PLAN.boards))
def test_fleet_of_which_some_lose_their_updates_goes_on(boards: int) -> None:
    assert losses(boards).head > 1


def test_fleet_of_which_all_lose_their_updates_goes_on_and_counts_what_they_paid() -> (
    None
):
    world = losses(CUTS_PLAN.boards)

    store = world.coordinator.store
    for board in world.boards:
        record = board_records.board(store, board.settings.key.identity)
        assert record is not None
        paid = PrivacyLedger.load(board.cap, board.disk.journal).charges.values()
        first = next(iter(paid)).units
        assert record.charge >= (record.updates + 1) * first


def test_seed_run_twice_gives_one_trace() -> None:
    assert run(7).trace == run(7).trace


def test_seed_under_another_hash_seed_gives_the_same_trace() -> None:
    program = "from tests.sim.campaign import run; print(run(7).trace, run(11).trace)"

    traces = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(traces) == 1
