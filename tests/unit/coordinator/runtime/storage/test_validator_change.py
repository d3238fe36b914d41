"""A stored chain whose validators change: checks, snapshots and receipts follow."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.harness.synthetic_chain import SyntheticChain, of_nobody, put
from starling.coordinator.chain.gossip_messages import FrameSubject
from starling.coordinator.chain.storage.snapshot import SNAPSHOT_BLOCKS
from starling.coordinator.chain.verification import audit
from starling.coordinator.chain.verification.receipt import RECEIPT
from starling.coordinator.loop.storage import sync_reader
from starling.coordinator.runtime.storage import receipt_reader
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.coordinator.wire.frames import GIVEN_SNAPSHOT, blocks_key
from starling.protocol.chain.governance import (
    MOTION,
    VALIDATOR_CHANGE,
    GovernanceProposal,
    ValidatorChange,
)
from starling.protocol.chain.light_client import ValidatorSetTransition, pin, task_key
from starling.protocol.errors import OperationError, ProtocolError
from starling.protocol.wire.envelope import MessageKind, sign
from tests.unit.coordinator.fixtures.small_genesis import STRANGER

HEIGHT = SNAPSHOT_BLOCKS + 20
CHANGED = 5
"""Height of the last header of the first set."""


def leave(chain: SyntheticChain) -> GovernanceProposal:
    """Takes the last validator out of the set, approved by the others."""
    content = VALIDATOR_CHANGE.pack(ValidatorChange(None, chain.keys[3].public))
    made = GovernanceProposal(MessageKind.VALSET, 0, 1000, 0, content)
    for key in chain.keys[:3]:
        made = made.approved(key, chain.tip.chain_id)
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("changed")


@pytest.fixture(scope="module")
def store(folder: Path) -> Iterator[SqliteStore]:
    chain = of_nobody(4)
    made = SqliteStore.create(folder / CHAIN_FILE, chain.genesis)
    with made.transaction():
        for decided in chain.grow(3):
            put(made, decided)
        motion = MOTION.pack(leave(chain))
        envelope = sign(STRANGER, chain.tip.chain_id, MessageKind.VALSET, 1, motion)
        put(made, chain.decide([envelope]))
        for decided in chain.grow(HEIGHT - 4):
            put(made, decided)
    yield made
    made.close()


def test_change_is_kept_with_the_header_that_hands_over(store: SqliteStore) -> None:
    (handover,) = store.epochs()
    assert handover.header.height == CHANGED
    assert len(handover.following.members) == 3
    digest = handover.header.next_validators
    assert store.validators(digest) == handover.following
    assert store.validators(bytes(32)) is None


def test_snapshot_after_the_change_is_believed_through_it(store: SqliteStore) -> None:
    manifest = store.manifest(SNAPSHOT_BLOCKS)
    assert manifest is not None
    manifest.check(pin(store.genesis).follow(store.epochs()))
    with pytest.raises(ProtocolError):
        manifest.check(pin(store.genesis))


def test_receipt_leads_from_the_genesis_through_the_change(store: SqliteStore) -> None:
    receipt = receipt_reader.entry(store, task_key(0))
    assert len(receipt.handovers) == 1
    RECEIPT.unpack(RECEIPT.pack(receipt)).check(store.genesis)


def test_receipt_through_more_changes_than_allowed_says_so(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipt_reader, "CHANGES_MAX", 0)
    with pytest.raises(OperationError, match="changed 1 times"):
        receipt_reader.entry(store, task_key(0))


def test_admission_after_the_change_trusts_who_decides_now(
    store: SqliteStore, folder: Path
) -> None:
    (handover,) = store.epochs()
    pinned = receipt_reader.checkpoint(folder, store.genesis)
    assert pinned is not None
    assert (pinned.height, pinned.validators) == (HEIGHT, handover.following)


def test_admission_before_there_is_a_chain_trusts_the_genesis(
    store: SqliteStore, tmp_path: Path
) -> None:
    assert receipt_reader.checkpoint(tmp_path, store.genesis) is None


def test_blocks_that_are_pruned_are_answered_with_the_changes_since(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "first_body", lambda: SNAPSHOT_BLOCKS + 1)

    def ends(first: int) -> tuple[ValidatorSetTransition, ...]:
        answer = sync_reader.blocks(store, blocks_key(first))
        assert answer is not None
        assert answer[0] is FrameSubject.SNAPSHOT
        return GIVEN_SNAPSHOT.unpack(answer[1]).ends

    assert ends(CHANGED) == store.epochs()
    assert ends(CHANGED + 1) == ()


def test_receipt_before_the_change_needs_none(store: SqliteStore) -> None:
    stored = store.block(CHANGED - 2)
    assert stored is not None
    found = audit.audit(store, lambda _: None)
    assert found.fault is None
    identity = next(
        key.hex()
        for key, place in store.transaction_index()
        if place.height == CHANGED - 2
    )
    receipt = receipt_reader.transaction(store, identity)
    assert receipt.handovers == ()
    receipt.check(store.genesis)


def test_pruned_chain_is_checked_through_the_change(store: SqliteStore) -> None:
    with store.transaction():
        store.prune(SNAPSHOT_BLOCKS - 1)
    found = audit.audit(store, lambda _: None)
    assert found.fault is None
    assert (found.tip.height, found.executed_from) == (HEIGHT, SNAPSHOT_BLOCKS + 1)
