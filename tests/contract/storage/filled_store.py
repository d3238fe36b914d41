"""Stores of a coordinator with some blocks in them."""

from collections.abc import Callable
from functools import cache

from benchmarks.harness.synthetic_chain import SyntheticBlock, of_nobody
from starling.coordinator.chain.storage.chain_store import ChainStore
from starling.coordinator.chain.storage.snapshot import SNAPSHOT_BLOCKS
from tests.unit.coordinator.fixtures.single_validator import SingleValidator
from tests.unit.coordinator.fixtures.small_chain import SmallChain

Make = Callable[[SmallChain], ChainStore]


def fill(store: ChainStore, world: SmallChain, blocks: int = 3) -> SingleValidator:
    """Decides some blocks and puts them in a store."""
    running = SingleValidator(world.genesis, world.validators[0])
    for height in range(blocks):
        now_s = float(height)
        running.submit(world.register(height), now_s=now_s)
        if height == 1:
            running.submit(world.publish(), now_s=now_s)
        running.tick(now_s)
    for effect in running.blocks():
        identities = [result.identity for result in effect.results]
        with store.transaction():
            store.put_block(
                effect.block, effect.certificate, effect.changes, identities
            )
    return running


LONG = 2 * SNAPSHOT_BLOCKS + 40


@cache
def chain() -> list[SyntheticBlock]:
    """The blocks of `long`."""
    return list(of_nobody(4).grow(LONG))
