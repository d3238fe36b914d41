"""A maker of stores, in memory and on the disk."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.harness.synthetic_chain import of_nobody, put
from starling.coordinator.chain.storage.chain_store import ChainStore
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from tests.contract.storage.filled_store import (
    Make,
    chain,
)
from tests.unit.coordinator.fixtures.small_chain import SmallChain


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    if request.param == "memory":
        return lambda world: SqliteStore.in_memory(world.genesis)
    return lambda world: SqliteStore.create(tmp_path / "chain", world.genesis)


@pytest.fixture
def long(make: Make) -> Iterator[ChainStore]:
    """A store with a chain that has two snapshots."""
    world = SmallChain()
    world.genesis = of_nobody(4).genesis
    store = make(world)
    with store.transaction():
        for decided in chain():
            put(store, decided)
    yield store
    store.close()
