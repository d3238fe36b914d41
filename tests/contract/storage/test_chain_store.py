"""One suite for a coordinator's stores: blocks, uploads, blobs, versions, evidence."""

from starling.coordinator.chain.execution.state_machine import genesis_tree
from starling.coordinator.chain.gossip_messages import DECISION, DecidedBlock
from starling.coordinator.chain.storage.chain_store import (
    KeptVectorSize,
    StoredUpload,
    StoredVersion,
    TransactionLocation,
)
from starling.protocol.ids import H
from tests.contract.storage.filled_store import (
    Make,
    fill,
)
from tests.unit.coordinator.fixtures.single_validator import SingleValidator
from tests.unit.coordinator.fixtures.small_chain import SmallChain
from tests.unit.coordinator.fixtures.small_task import MODEL


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


def test_proof_of_the_best_takes_the_place_of_the_one_before(make: Make) -> None:
    store = make(SmallChain())
    with store.transaction():
        store.put_proof(0, b"first")
        store.put_proof(0, b"better")
        store.put_proof(12, b"another task")
    assert store.proof(0) == b"better"
    assert store.proof(12) == b"another task"
    assert store.proof(1) is None
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
