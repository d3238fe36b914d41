"""Every store of a chain does the same, on disk and in memory."""

import sqlite3
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from benchmarks.harness.synthetic_chain import SyntheticBlock, of_nobody, put
from starling.coordinator.chain.execution.state_machine import genesis_tree
from starling.coordinator.chain.gossip_messages import DECISION, DecidedBlock
from starling.coordinator.chain.storage.chain_store import (
    ChainStore,
    KeptVectorSize,
    StoredUpload,
    StoredVersion,
    TransactionLocation,
)
from starling.coordinator.chain.storage.snapshot import SNAPSHOT_BLOCKS, unpack_bucket
from starling.coordinator.chain.verification import audit
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.protocol.chain.genesis import ValidatorSet
from starling.protocol.chain.light_client import ValidatorSetTransition, pin
from starling.protocol.crypto.state_tree import BUCKETS, StateTree
from starling.protocol.ids import H
from tests.unit.coordinator.fixtures.single_validator import SingleValidator
from tests.unit.coordinator.fixtures.small_chain import MODEL, SmallChain

Make = Callable[[SmallChain], ChainStore]


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    if request.param == "memory":
        return lambda world: SqliteStore.in_memory(world.genesis)
    return lambda world: SqliteStore.create(tmp_path / "chain", world.genesis)


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


def test_new_store_is_at_genesis(make: Make) -> None:
    world = SmallChain()
    store = make(world)
    tip = store.tip()
    assert (tip.header, tip.certificate) == (None, None)
    assert tip.tree.root() == genesis_tree(world.genesis).root()
    store.close()


def test_blocks_and_state_come_back(make: Make) -> None:
    world = SmallChain()
    store = make(world)
    running = fill(store, world)
    tip = store.tip()
    assert tip.header == running.state.header
    assert tip.certificate == running.state.certificate
    assert tip.tree.root() == running.state.tree.root()
    for height in (1, 2, 3):
        assert store.block(height) == running.disk.block(height)
    assert store.block(0) is None
    assert store.block(4) is None
    store.close()


def test_transactions_are_found_by_id(make: Make) -> None:
    world = SmallChain()
    store = make(world)
    running = fill(store, world)
    second = running.blocks()[1]
    places = [store.locate(result.identity) for result in second.results]
    assert places == [TransactionLocation(2, 0), TransactionLocation(2, 1)]
    assert store.locate(H(b"nothing")) is None
    store.close()


def test_uploads_wait_until_a_block_names_them(make: Make) -> None:
    world = SmallChain()
    store = make(world)
    envelopes = [world.register(number) for number in range(3)]
    uploads = [
        StoredUpload(envelope.identity(world.chain_id), envelope, b"blob", 5)
        for envelope in envelopes
    ]
    with store.transaction():
        for upload in uploads:
            store.put_upload(upload)
            store.put_upload(upload)
    running = SingleValidator(world.genesis, world.validators[0])
    running.submit(envelopes[1])
    running.tick(0.0)
    (block,) = running.blocks()
    with store.transaction():
        identities = [result.identity for result in block.results]
        store.put_block(block.block, block.certificate, block.changes, identities)
    assert list(store.uploads_waiting()) == [uploads[0], uploads[2]]
    assert store.upload(uploads[1].transaction) == uploads[1]
    with store.transaction():
        assert store.drop_uploads(0) == 0
        assert store.drop_uploads(1) == 1
        store.drop_upload(uploads[0].transaction)
    assert store.upload(uploads[1].transaction) is None
    assert list(store.uploads_waiting()) == [uploads[2]]
    store.close()


def test_vectors_of_used_updates_stay_while_there_is_room(make: Make) -> None:
    world = SmallChain()
    store = make(world)
    envelopes = [world.register(number) for number in range(9)]
    uploads = [
        StoredUpload(each.identity(world.chain_id), each, bytes(8), 5)
        for each in envelopes
    ]
    running = SingleValidator(world.genesis, world.validators[0])
    running.submit(*envelopes[:8])
    running.tick(0.0)
    (block,) = running.blocks()
    with store.transaction():
        for upload in uploads:
            store.put_upload(upload)
        identities = [result.identity for result in block.results]
        store.put_block(block.block, block.certificate, block.changes, identities)
    assert store.vectors() == KeptVectorSize(9, 72)

    with store.transaction():
        assert store.drop_uploads(1, 72) == 0
        # An eighth is freed at once; what stands in no block stays.
        assert store.drop_uploads(1, 64) == 2
    kept = [store.upload(each.transaction) is not None for each in uploads]
    assert kept == [False] * 2 + [True] * 7
    assert store.vectors() == KeptVectorSize(7, 56)
    with store.transaction():
        store.put_upload(uploads[0])
        assert store.vectors() == KeptVectorSize(8, 64)
        assert store.drop_uploads(0, 8) == 0
        assert store.drop_uploads(1, 8) == 7
    assert store.vectors() == KeptVectorSize(1, 8)
    assert store.upload(uploads[8].transaction) == uploads[8]
    store.close()


def test_wholes_are_addressed_by_content(make: Make) -> None:
    store = make(SmallChain())
    with store.transaction():
        digest = store.put_blob(b"bundle")
        assert store.put_blob(b"bundle") == digest
    assert digest == H(b"bundle")
    assert store.blob(digest) == b"bundle"
    assert store.has_blob(digest)
    with store.transaction():
        store.drop_blob(digest)
    assert store.blob(digest) is None
    assert not store.has_blob(digest)
    with store.transaction():
        assert store.put_blob(b"named", H(b"named")) == H(b"named")
    assert store.blob(H(b"named")) == b"named"
    store.close()


def test_whole_in_parts_is_there_once_they_are_joined(make: Make) -> None:
    store = make(SmallChain())
    digest = H(b"a bundle")
    with store.transaction():
        store.put_part(digest, 1, b"undle")
        store.put_part(digest, 0, b"a b")
    assert store.blob(digest) is None
    assert not store.has_blob(digest)
    with store.transaction():
        store.join_parts(digest)
    assert store.blob(digest) == b"a bundle"
    with store.transaction():
        # Again, and after a start: it stands.
        store.put_part(digest, 0, b"another")
        store.join_parts(digest)
        store.put_blob(b"a bundle")
        store.drop_parts()
    assert store.blob(digest) == b"a bundle"
    with store.transaction():
        store.drop_blob(digest)
    assert store.blob(digest) is None
    store.close()


def test_parts_that_were_not_joined_are_forgotten(make: Make) -> None:
    store = make(SmallChain())
    digest = H(b"a bundle")
    with store.transaction():
        store.put_part(digest, 0, b"torn ")
        store.put_part(digest, 1, b"torn")
    with store.transaction():
        store.drop_parts()
    with store.transaction():
        store.put_part(digest, 0, b"a bundle")
        store.join_parts(digest)
    assert store.blob(digest) == b"a bundle"
    store.close()


def test_versions_models_and_metrics_come_back_in_order(make: Make) -> None:
    store = make(SmallChain())
    with store.transaction():
        for number in (2, 0, 1):
            store.put_version(StoredVersion(0, number, 10, 4, 1500, 9))
        store.put_version(StoredVersion(1, 0, 10, 4, 0, 0))
        store.put_metrics(0, 1, 0.5, 0.25)
        store.put_metrics(0, 2, None, 0.75)
        store.put_metrics(7, 7, None, 0.75)
        store.put_model(0, 1, MODEL)
    assert store.versions(0) == (
        StoredVersion(0, 0, 10, 4, 1500, 9),
        StoredVersion(0, 1, 10, 4, 1500, 9, 0.5, 0.25),
        StoredVersion(0, 2, 10, 4, 1500, 9, None, 0.75),
    )
    assert store.model(0, 1) == MODEL
    assert store.model(0, 2) is None
    store.close()


def test_failures_of_a_version_are_counted(make: Make) -> None:
    store = make(SmallChain())
    with store.transaction():
        store.put_version(StoredVersion(0, 1, 10, 4, 1500, 9))
        store.put_version(StoredVersion(0, 11, 10, 4, 1500, 9))
        store.put_failure(0, 1)
        store.put_failure(0, 1)
        store.put_failure(7, 7)
        store.put_metrics(0, 11, None, 0.75)
    assert store.versions(0) == (
        StoredVersion(0, 1, 10, 4, 1500, 9, failures=2),
        StoredVersion(0, 11, 10, 4, 1500, 9, None, 0.75),
    )
    store.close()


def test_evidence_is_kept_once(make: Make) -> None:
    world = SmallChain()
    store = make(world)
    known, other = H(b"known"), world.register(0)
    with store.transaction():
        store.put_evidence(known, other)
        store.put_evidence(known, other)
    assert store.evidence() == ((known, other),)
    store.close()


def test_evidence_is_dropped_by_pair(make: Make) -> None:
    world = SmallChain()
    store = make(world)
    known, other, third = H(b"known"), world.register(0), world.register(1)
    with store.transaction():
        store.put_evidence(known, other)
        store.put_evidence(known, third)
        store.drop_evidence(known, other)
        store.drop_evidence(H(b"unknown"), third)
    assert store.evidence() == ((known, third),)
    store.close()


def test_decisions_are_those_of_the_blocks_in_order(make: Make) -> None:
    store = make(SmallChain())
    fill(store, SmallChain(), blocks=4)
    found = store.decisions(2, 2, 1 << 20)
    assert [DECISION.unpack(one).block.header.height for one in found] == [2, 3]
    stored = store.block(2)
    assert stored is not None
    assert found[0] == DECISION.pack(DecidedBlock(stored.block, stored.certificate))
    assert store.decisions(5, 2, 1 << 20) == ()
    store.close()


def test_decisions_stop_at_the_bytes_but_give_one(make: Make) -> None:
    store = make(SmallChain())
    fill(store, SmallChain(), blocks=4)
    whole = store.decisions(1, 4, 1 << 20)
    assert len(whole) == 4
    assert store.decisions(1, 4, 1) == whole[:1]
    assert store.decisions(1, 4, len(whole[0]) + len(whole[1])) == whole[:2]
    store.close()


LONG = 2 * SNAPSHOT_BLOCKS + 40


@cache
def chain() -> list[SyntheticBlock]:
    """The blocks of `long`."""
    return list(of_nobody(4).grow(LONG))


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
