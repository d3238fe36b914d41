"""A board's disk is put back from an old copy: the chain knows what it paid.

What no board may do is still forbidden: `Law` remembers every life of a board, so that
a base version that is signed in two of them is found.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import pytest

from starling.agent.loop.memory_store import MemoryAgentStore
from starling.agent.privacy.ledger import PrivacyLedger
from starling.coordinator.chain.state import board_records
from starling.protocol.chain.board_statement import BoardRecord as Record
from starling.protocol.learning.task import MICRO
from starling.protocol.privacy.gaussian_dp import (
    Budget,
    charge_from_sigma,
    epsilon_from_charge,
)
from tests.sim.campaign import LIVENESS_S, SETTLE_S
from tests.sim.simulator.board_node import BoardNode
from tests.sim.simulator.fleet_world import CHAIN, FleetWorld, Plan

SEEDS = range(4)


def _whole(old: MemoryAgentStore, now: MemoryAgentStore) -> MemoryAgentStore:
    return old


def _without_journal(old: MemoryAgentStore, now: MemoryAgentStore) -> MemoryAgentStore:
    return replace(deepcopy(old), journal=[])


def _ledger_only(old: MemoryAgentStore, now: MemoryAgentStore) -> MemoryAgentStore:
    return replace(now, journal=old.journal)


def _cut_in_the_middle(
    old: MemoryAgentStore, now: MemoryAgentStore
) -> MemoryAgentStore:
    return replace(now, journal=now.journal[: len(now.journal) // 2])


def _empty(old: MemoryAgentStore, now: MemoryAgentStore) -> MemoryAgentStore:
    return MemoryAgentStore()


def _all_but_the_ledger(
    old: MemoryAgentStore, now: MemoryAgentStore
) -> MemoryAgentStore:
    return replace(deepcopy(old), journal=now.journal)


COPIES: dict[str, Callable[[MemoryAgentStore, MemoryAgentStore], MemoryAgentStore]] = {
    "all of an old copy": _whole,
    "an old copy without its journal": _without_journal,
    "the journal of an old copy": _ledger_only,
    "a journal cut in the middle": _cut_in_the_middle,
    "an emptied home": _empty,
    "all but the journal": _all_but_the_ledger,
}


def _record(world: FleetWorld, board: BoardNode) -> Record:
    found = board_records.board(world.coordinator.store, board.settings.key.identity)
    assert found is not None
    return found


def _ledger(board: BoardNode) -> PrivacyLedger:
    return PrivacyLedger.load(board.cap, board.disk.journal)


def _grow(world: FleetWorld, versions: int) -> None:
    assert world.reach(world.head + versions, LIVENESS_S)
    assert world.settle(SETTLE_S)


def _put_back(world: FleetWorld, board: BoardNode, disk: MemoryAgentStore) -> None:
    board.end()
    board.disk = disk
    world.law.restored(board)
    board.boot()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", COPIES)
def test_home_put_back_counts_what_the_chain_proves_and_learning_goes_on(
    name: str, seed: int
) -> None:
    world = FleetWorld(seed, Plan())
    board = world.boards[0]
    _grow(world, 2)
    old = deepcopy(board.disk)
    _grow(world, 4)
    before = _record(world, board)
    assert before.updates > len(PrivacyLedger.load(None, old.journal).charges)

    _put_back(world, board, COPIES[name](old, board.disk))
    _grow(world, 6)

    ledger = _ledger(board)
    assert ledger.stated(CHAIN) >= before.paid
    assert ledger.releases(CHAIN) >= before.updates
    assert _record(world, board).updates > before.updates
    world.law.at_the_end(world.coordinator, world.boards, list(world.law.accepted))


@pytest.mark.parametrize("seed", SEEDS)
def test_home_put_back_again_and_again_never_passes_the_cap(seed: int) -> None:
    world = FleetWorld(seed, Plan())
    board = world.boards[0]
    each = charge_from_sigma(2 * MICRO)
    board.cap = Budget(epsilon_from_charge(6 * each, 1e-5) + 1e-6, 1e-5)
    board.end()
    board.boot()
    _grow(world, 2)
    old = deepcopy(board.disk)

    for _ in range(4):
        _grow(world, 4)
        _put_back(world, board, deepcopy(old))
    _grow(world, 4)

    assert each < _record(world, board).charge <= 6 * each
