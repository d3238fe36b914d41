"""A coordinator's chain is looked up as far back as it was kept."""

from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.fleet.runtime.processes.stored_receipts import StoredChain
from tests.contract.storage.filled_store import fill
from tests.unit.coordinator.fixtures.small_chain import SmallChain


def looked_up(store: SqliteStore) -> StoredChain:
    return StoredChain(
        "coordinator", store.height(), store.first_body(), store, frozenset()
    )


def test_block_whose_body_was_dropped_is_known_by_its_header() -> None:
    world = SmallChain()
    store = SqliteStore.in_memory(world.genesis)
    running = fill(store, world)
    decided = {each.block.header.height: each for each in running.blocks()}
    (first, *_) = decided[1].results
    before = looked_up(store)
    assert before.place(first.identity) == (1, 0)

    with store.transaction():
        store.prune(1)

    chain = looked_up(store)
    assert chain.first_body == 2
    assert chain.block_id(1) == decided[1].block.header.block_id()
    assert chain.block_id(2) == before.block_id(2)
    assert chain.block_id(store.height() + 1) is None
    assert chain.place(first.identity) is None
