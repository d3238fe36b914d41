from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from starling.coordinator.aggregation.server_step import initial_state
from starling.coordinator.aggregation.strategy import PackedModel, pack_model
from starling.coordinator.chain.verification.receipt import RECEIPT, Receipt, StateEntry
from starling.coordinator.loop.storage.persistence import (
    ANCHOR_EVERY,
    ANCHORS_KEPT,
    Persistence,
)
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.coordinator.runtime.storage.vote_journal import VoteJournal
from starling.coordinator.step.effects import (
    DropUpload,
    StoreMetrics,
    StoreModel,
    StoreUpload,
    StoreVersion,
)
from starling.protocol.chain.light_client import version_key
from starling.protocol.crypto.state_tree import StateTree
from starling.protocol.ids import TaskId, Version
from tests.unit.coordinator.fixtures.single_coordinator import (
    CHAIN_ID,
    GENESIS,
    board,
    lease_for,
)
from tests.vectors import protocol_samples as samples

NOW_MS = 7


@pytest.fixture
def store() -> SqliteStore:
    return SqliteStore.in_memory(GENESIS)


@pytest.fixture
def persistence(store: SqliteStore, tmp_path: Path) -> Persistence:
    return Persistence(store, VoteJournal(tmp_path / "votes"), 0, versions_kept=2)


def model(number: int) -> PackedModel:
    return pack_model(initial_state(np.full(3, number, np.int64)))


def final(number: int) -> list[StoreModel | StoreVersion]:
    task, version = TaskId(0), Version(number)
    return [
        StoreModel(task, version, model(number)),
        StoreVersion(task, version, 2, 500, 9),
    ]


def test_commit_versions_keeps_the_bytes_of_the_newest_only(
    persistence: Persistence, store: SqliteStore
) -> None:
    for number in (1, 2, 3):
        persistence.commit(final(number), NOW_MS)

    assert kept(store, range(1, 4)) == [2, 3]
    # The momentum is zero in all of them, so that the newest still needs its bytes.
    assert store.blob(model(1).digests().momentum) is not None
    assert [each.version for each in store.versions(0)] == [1, 2, 3]


def tried(number: int, accuracy: float) -> StoreMetrics:
    return StoreMetrics(TaskId(0), Version(number), accuracy, 1.0 - accuracy)


def proof(number: int) -> Receipt:
    """Of a version, under a header of its own."""
    key = version_key(0, number)
    tree = StateTree().update({key: b"digest"})
    header = replace(samples.HEADER, height=number, state_root=tree.root())
    entry = StateEntry(header, samples.certify(header), tree.prove(key))
    return Receipt((), None, entry)


def test_commit_metrics_keeps_the_proof_of_the_best(
    persistence: Persistence, store: SqliteStore, tmp_path: Path
) -> None:
    scores = {1: 0.3, 2: 0.9, 3: 0.4}
    for number, accuracy in scores.items():
        metrics = replace(tried(number, accuracy), proof=proof(number))
        persistence.commit([*final(number), metrics], NOW_MS)
    assert store.proof(0) == RECEIPT.pack(proof(2))
    assert store.proof(1) is None

    again = Persistence(store, VoteJournal(tmp_path / "others"), 0, versions_kept=2)
    worse, better = (replace(tried(n, n / 10), proof=proof(n)) for n in (4, 10))
    again.commit([*final(4), worse], NOW_MS)
    assert store.proof(0) == RECEIPT.pack(proof(2))
    again.commit([*final(10), better], NOW_MS)
    assert store.proof(0) == RECEIPT.pack(proof(10))


def test_commit_metrics_without_a_proof_leaves_the_one_that_is_kept(
    persistence: Persistence, store: SqliteStore
) -> None:
    first = replace(tried(1, 0.3), proof=proof(1))
    persistence.commit([*final(1), first, *final(2), tried(2, 0.9)], NOW_MS)

    assert store.proof(0) == RECEIPT.pack(proof(1))


def kept(store: SqliteStore, numbers: range) -> list[int]:
    return [n for n in numbers if store.blob(model(n).digests().theta) is not None]


def test_commit_versions_keeps_the_best_until_a_better_one_comes(
    persistence: Persistence, store: SqliteStore
) -> None:
    scores = {1: 0.3, 2: 0.9, 3: 0.4, 4: 0.5, 5: 0.6}
    for number, accuracy in scores.items():
        persistence.commit([*final(number), tried(number, accuracy)], NOW_MS)
    assert kept(store, range(1, 6)) == [2, 4, 5]
    # All have the momentum of zeros: it must outlive those that go.
    assert store.blob(model(2).digests().momentum) is not None

    persistence.commit([*final(6), tried(6, 0.95)], NOW_MS)

    assert kept(store, range(1, 7)) == [5, 6]
    assert store.blob(model(6).digests().momentum) is not None


def test_commit_versions_keeps_some_old_ones_for_a_trace_to_begin_from(
    persistence: Persistence, store: SqliteStore
) -> None:
    newest = (ANCHORS_KEPT + 1) * ANCHOR_EVERY
    for number in range(1, newest + 1):
        persistence.commit(final(number), NOW_MS)

    anchors = [*range(2 * ANCHOR_EVERY, newest + 1, ANCHOR_EVERY)]
    assert len(anchors) == ANCHORS_KEPT
    assert kept(store, range(1, newest + 1)) == sorted({*anchors, newest - 1})
    # All have the momentum of zeros: it must outlive those that go.
    assert store.blob(model(newest).digests().momentum) is not None


def test_commit_versions_after_a_restart_knows_the_best(
    persistence: Persistence, store: SqliteStore, tmp_path: Path
) -> None:
    for number, accuracy in ((1, 0.3), (2, 0.9), (3, 0.4)):
        persistence.commit([*final(number), tried(number, accuracy)], NOW_MS)

    votes = VoteJournal(tmp_path / "others")
    again = Persistence(store, votes, 0, versions_kept=2)
    for number in (4, 5):
        again.commit([*final(number), tried(number, 0.1)], NOW_MS)
    assert kept(store, range(1, 6)) == [2, 4, 5]
    again.commit([*final(6), tried(6, 0.99)], NOW_MS)

    assert kept(store, range(1, 7)) == [5, 6]


@pytest.mark.parametrize("restarted", [False, True])
def test_commit_metrics_of_a_version_that_is_gone_leave_the_best_that_is_kept(
    persistence: Persistence, store: SqliteStore, tmp_path: Path, restarted: bool
) -> None:
    persistence.commit([*final(1), *final(2), *final(3)], NOW_MS)
    persistence.commit([tried(2, 0.8)], NOW_MS)
    persistence.commit([*final(4), *final(5)], NOW_MS)

    # Its evaluation took as long as all of them.
    persistence.commit([tried(1, 0.9)], NOW_MS)
    if restarted:
        votes = VoteJournal(tmp_path / "others")
        persistence = Persistence(store, votes, 0, versions_kept=2)
    persistence.commit([*final(6), tried(6, 0.1)], NOW_MS)

    assert kept(store, range(1, 7)) == [2, 5, 6]


def test_commit_upload_refused_by_the_chain_is_forgotten(
    persistence: Persistence, store: SqliteStore
) -> None:
    sender = board(1)
    upload = sender.upload(lease_for(sender.device))
    identity = upload.update.identity(CHAIN_ID)

    persistence.commit([StoreUpload(identity, upload.update, upload.blob)], NOW_MS)
    waiting = [stored.transaction for stored in store.uploads_waiting()]
    persistence.commit([DropUpload(identity)], NOW_MS)

    assert waiting == [identity]
    assert list(store.uploads_waiting()) == []


def test_commit_nothing_touches_nothing(
    persistence: Persistence, store: SqliteStore
) -> None:
    persistence.commit([], NOW_MS)

    assert store.versions(0) == ()
