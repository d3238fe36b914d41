"""Stores of a long chain: snapshots, pruned blocks, and an audit of both."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.harness.synthetic_chain import of_nobody, put
from starling.coordinator.chain.storage.chain_store import (
    ChainStore,
    TransactionLocation,
)
from starling.coordinator.chain.storage.snapshot import SNAPSHOT_BLOCKS, unpack_bucket
from starling.coordinator.chain.verification import audit
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.protocol.chain.genesis import ValidatorSet
from starling.protocol.chain.light_client import ValidatorSetTransition, pin
from starling.protocol.crypto.state_tree import BUCKETS, StateTree
from tests.contract.storage.filled_store import (
    LONG,
    chain,
)


def test_snapshots_are_of_the_certified_states(long: ChainStore) -> None:
    assert long.snapshots() == (SNAPSHOT_BLOCKS, 2 * SNAPSHOT_BLOCKS)
    for height in long.snapshots():
        manifest = long.manifest(height)
        assert manifest is not None
        manifest.check(pin(long.genesis))
        assert manifest.header == chain()[height - 1].prepared.block.header
        packed = long.buckets(height, 0, 1 << 30)
        state: dict[bytes, bytes | None] = {}
        for number, one in enumerate(packed):
            state.update(unpack_bucket(one, number, manifest.buckets[number]))
        assert StateTree().update(state).root() == manifest.header.state_root
    assert long.manifest(5) is None
    assert long.buckets(5, 0, 1 << 30) == ()


def test_buckets_stop_at_the_bytes_but_give_one(long: ChainStore) -> None:
    whole = long.buckets(SNAPSHOT_BLOCKS, 0, 1 << 30)
    assert len(whole) == BUCKETS
    assert long.buckets(SNAPSHOT_BLOCKS, 7, 0) == whole[7:8]
    assert long.buckets(SNAPSHOT_BLOCKS, BUCKETS, 1 << 30) == ()


def test_pruned_blocks_keep_their_headers(long: ChainStore) -> None:
    tip = long.tip()
    gone, kept = (chain()[height - 1] for height in (50, 51))
    with long.transaction():
        long.prune(50)
        long.prune(40)
    assert long.first_body() == 51
    assert long.block(50) is None
    header = long.header(50)
    assert header is not None
    assert header.header == gone.prepared.block.header
    assert long.locate(gone.prepared.execution.results[0].identity) is None
    assert long.locate(
        kept.prepared.execution.results[0].identity
    ) == TransactionLocation(51, 0)
    assert long.decisions(50, 5, 1 << 20) == ()
    assert len(long.decisions(51, 5, 1 << 20)) == 5
    assert long.tip() == tip


def test_last_block_is_never_pruned(long: ChainStore) -> None:
    with long.transaction():
        long.prune(10 * LONG)
    assert long.first_body() == LONG
    assert long.block(LONG) is not None


def test_chain_goes_on_from_an_adopted_snapshot(long: ChainStore) -> None:
    height = SNAPSHOT_BLOCKS
    manifest = long.manifest(height)
    assert manifest is not None
    state: dict[bytes, bytes] = {}
    for number, one in enumerate(long.buckets(height, 0, 1 << 30)):
        state.update(unpack_bucket(one, number, manifest.buckets[number]))
    with long.transaction():
        long.adopt(manifest, (), state)
    tip = long.tip()
    assert (tip.header, tip.certificate) == (manifest.header, manifest.certificate)
    assert tip.tree.root() == manifest.header.state_root
    assert (long.first_body(), long.snapshots()) == (height + 1, (height,))
    assert long.header(height - 1) is None
    with long.transaction():
        for decided in chain()[height : 2 * height]:
            put(long, decided)
    assert long.tip().header == chain()[2 * height - 1].prepared.block.header
    assert long.snapshots() == (height, 2 * height)


def test_adopted_snapshot_brings_the_changes_of_the_set_before_it(
    long: ChainStore,
) -> None:
    height = SNAPSHOT_BLOCKS
    manifest = long.manifest(height)
    assert manifest is not None
    old = chain()[4]
    alone = ValidatorSet(long.genesis.validators.members[:1])
    end = ValidatorSetTransition(old.prepared.block.header, old.certificate, alone)
    with long.transaction():
        long.adopt(manifest, (end,), {})
    assert long.epochs() == (end,)


@pytest.mark.parametrize("pruned", [0, 1, 700, SNAPSHOT_BLOCKS], ids=str)
def test_audit_of_a_pruned_chain_executes_from_the_snapshot(
    tmp_path: Path, pruned: int
) -> None:
    store = SqliteStore.create(tmp_path / "chain", of_nobody(4).genesis)
    with store.transaction():
        for decided in chain():
            put(store, decided)
        store.prune(pruned)
    found = audit.audit(store, lambda _: None)
    store.close()
    assert found.fault is None
    assert found.tip.height == LONG
    assert found.bodies_from == pruned + 1
    assert found.executed_from == (SNAPSHOT_BLOCKS + 1 if pruned else 1)


def _damage_header(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE blocks SET header = zeroblob(9) WHERE height = 30")


def _lose_header(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM blocks WHERE height = 30")


def _swap_certificate(connection: sqlite3.Connection) -> None:
    connection.execute(
        "UPDATE blocks SET certificate ="
        " (SELECT certificate FROM blocks WHERE height = 31) WHERE height = 30"
    )


def _damage_body(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE blocks SET body = x'90' WHERE height = 900")


def _damage_snapshot(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE snapshots SET content = zeroblob(3) WHERE bucket = 9")


def _lose_bucket(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM snapshots WHERE bucket = 9")


def _swap_root(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE snapshots SET root = zeroblob(32) WHERE bucket = 9")


def _prune_past_the_snapshot(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE notes SET value = 1500 WHERE name = 'first_body'")


@pytest.mark.parametrize(
    ("damage", "height", "field"),
    [
        (_damage_header, 30, "header"),
        (_lose_header, 31, "header"),
        (_swap_certificate, 30, "header"),
        (_damage_body, 900, "header"),
        (_damage_snapshot, SNAPSHOT_BLOCKS, "snapshot"),
        (_lose_bucket, SNAPSHOT_BLOCKS, "snapshot"),
        (_swap_root, SNAPSHOT_BLOCKS, "snapshot"),
        (_prune_past_the_snapshot, SNAPSHOT_BLOCKS + 1, "transactions"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_audit_of_a_damaged_pruned_chain_names_the_place(
    tmp_path: Path,
    damage: Callable[[sqlite3.Connection], None],
    height: int,
    field: str,
) -> None:
    store = SqliteStore.create(tmp_path / "chain", of_nobody(4).genesis)
    with store.transaction():
        for decided in chain()[: SNAPSHOT_BLOCKS + 1]:
            put(store, decided)
        store.prune(700)
        damage(store._connection)
    fault = audit.audit(store, lambda _: None).fault
    store.close()
    assert fault is not None
    assert (fault.height, fault.field) == (height, field)
