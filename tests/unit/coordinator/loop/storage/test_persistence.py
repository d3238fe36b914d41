from pathlib import Path

import numpy as np
import pytest

from starling.coordinator.aggregation.server_step import initial_state
from starling.coordinator.aggregation.strategy import PackedModel, pack_model
from starling.coordinator.chain.storage.memory_store import MemoryStore
from starling.coordinator.loop.storage.persistence import Persistence
from starling.coordinator.runtime.storage.vote_journal import VoteJournal
from starling.coordinator.step.effects import (
    DropUpload,
    StoreModel,
    StoreUpload,
    StoreVersion,
)
from starling.protocol.ids import TaskId, Version
from tests.unit.coordinator.fixtures.single_coordinator import (
    CHAIN_ID,
    GENESIS,
    board,
    lease_for,
)

NOW_MS = 7


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(GENESIS)


@pytest.fixture
def persistence(store: MemoryStore, tmp_path: Path) -> Persistence:
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
    persistence: Persistence, store: MemoryStore
) -> None:
    for number in (1, 2, 3):
        persistence.commit(final(number), NOW_MS)

    kept = [store.blob(model(number).digests().theta) for number in (1, 2, 3)]
    assert [content is not None for content in kept] == [False, True, True]
    # The momentum is zero in all of them, so that the newest still needs its bytes.
    assert store.blob(model(1).digests().momentum) is not None
    assert [each.version for each in store.versions(0)] == [1, 2, 3]


def test_commit_upload_refused_by_the_chain_is_forgotten(
    persistence: Persistence, store: MemoryStore
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
    persistence: Persistence, store: MemoryStore
) -> None:
    persistence.commit([], NOW_MS)

    assert store.versions(0) == ()
