"""Every store of a chain does the same, on disk and in memory."""

from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator.ledger.state import genesis_tree
from coordinator.ledger.storage import (
    Location,
    MemoryStore,
    Store,
    StoredUpload,
    StoredVersion,
)
from coordinator.ledger.wire import DECISION, Decision
from coordinator.rim.store import SqliteStore
from protocol.ids import H
from tests.unit.coordinator.ledger.validator import Running
from tests.unit.coordinator.ledger.world import MODEL, World

Make = Callable[[World], Store]


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    if request.param == "memory":
        return lambda world: MemoryStore(world.genesis)
    return lambda world: SqliteStore.create(tmp_path / "chain", world.genesis)


def fill(store: Store, world: World, blocks: int = 3) -> Running:
    """Decides some blocks and puts them in a store."""
    running = Running(world.genesis, world.validators[0])
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
    world = World()
    store = make(world)
    tip = store.tip()
    assert (tip.header, tip.certificate) == (None, None)
    assert tip.tree.root() == genesis_tree(world.genesis).root()
    store.close()


def test_blocks_and_state_come_back(make: Make) -> None:
    world = World()
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
    world = World()
    store = make(world)
    running = fill(store, world)
    second = running.blocks()[1]
    places = [store.locate(result.identity) for result in second.results]
    assert places == [Location(2, 0), Location(2, 1)]
    assert store.locate(H(b"nothing")) is None
    store.close()


def test_uploads_wait_until_a_block_names_them(make: Make) -> None:
    world = World()
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
    running = Running(world.genesis, world.validators[0])
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


def test_wholes_are_addressed_by_content(make: Make) -> None:
    store = make(World())
    with store.transaction():
        digest = store.put_blob(b"bundle")
        assert store.put_blob(b"bundle") == digest
    assert digest == H(b"bundle")
    assert store.blob(digest) == b"bundle"
    with store.transaction():
        store.drop_blob(digest)
    assert store.blob(digest) is None
    store.close()


def test_versions_models_and_metrics_come_back_in_order(make: Make) -> None:
    store = make(World())
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


def test_evidence_and_notes_are_kept(make: Make) -> None:
    world = World()
    store = make(world)
    known, other = H(b"known"), world.register(0)
    with store.transaction():
        store.put_evidence(known, other)
        store.put_evidence(known, other)
        store.put_note("counter", 5)
        store.put_note("counter", 6)
    assert store.evidence() == ((known, other),)
    assert store.note("counter") == 6
    assert store.note("none") is None
    store.close()


def test_decisions_are_those_of_the_blocks_in_order(make: Make) -> None:
    store = make(World())
    fill(store, World(), blocks=4)
    found = store.decisions(2, 2, 1 << 20)
    assert [DECISION.unpack(one).block.header.height for one in found] == [2, 3]
    stored = store.block(2)
    assert stored is not None
    assert found[0] == DECISION.pack(Decision(stored.block, stored.certificate))
    assert store.decisions(5, 2, 1 << 20) == ()
    store.close()


def test_decisions_stop_at_the_bytes_but_give_one(make: Make) -> None:
    store = make(World())
    fill(store, World(), blocks=4)
    whole = store.decisions(1, 4, 1 << 20)
    assert len(whole) == 4
    assert store.decisions(1, 4, 1) == whole[:1]
    assert store.decisions(1, 4, len(whole[0]) + len(whole[1])) == whole[:2]
    store.close()
