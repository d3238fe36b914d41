"""Leaves the chain and the models of a virtual fleet as a coordinator's home.

So that whoever looks into a coordinator's home may look into it, too: `starling chain`
and `starling model` read it.
"""

from pathlib import Path

from starling.coordinator.chain.verification.chain_replay import (
    CheckedBlock,
    check_rows,
)
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.coordinator.runtime.tracing.kept_vectors import (
    CONTENT_KEYS_FILE,
    content_key,
    write_content_keys,
)
from starling.durable.files import storage_errors, write_atomic
from starling.fleet.virtual.virtual_coordinator import VirtualCoordinator
from starling.protocol.chain.genesis import GENESIS
from starling.protocol.ids import TaskId

_TASK = TaskId(0)
_READABLE = 0o644


def keep_chain(home: Path, kept: VirtualCoordinator) -> None:
    """Writes a coordinator's home that can be read, and not run: it has no keys.

    Args:
      home: Its folder, which holds no chain yet.
      kept: What is written; each block is checked on the way, and what follows one
        that does not hold is left out.

    Raises:
      StorageError: If the disk refuses.
    """
    folder = CoordinatorHome(home)
    with storage_errors(home):
        folder.state.mkdir(parents=True, exist_ok=True)
    write_atomic(home / "genesis", GENESIS.pack(kept.store.genesis), _READABLE)
    store = SqliteStore.create(folder.state / CHAIN_FILE, kept.store.genesis)
    try:
        with store.transaction():
            _put_blocks(store, kept)
            _put_models(store, kept)
            keys = _put_vectors(store, kept)
    finally:
        store.close()
    write_content_keys(home / CONTENT_KEYS_FILE, keys)


def _put_blocks(store: SqliteStore, kept: VirtualCoordinator) -> None:
    checks = check_rows(kept.store.genesis, kept.rows())
    for height, checked in enumerate(checks, 1):
        stored = kept.store.block(height)
        if not isinstance(checked, CheckedBlock) or stored is None:
            return
        store.put_block(
            stored.block, stored.certificate, checked.changes, checked.identities
        )


def _put_vectors(
    store: SqliteStore, kept: VirtualCoordinator
) -> list[tuple[bytes, bytes]]:
    """Stores the vectors of used updates; gives the keys that open them."""
    found = []
    for upload in kept.store.uploads():
        key = content_key(upload, kept.settings.gate.key)
        if key is not None:
            store.put_upload(upload)
            found.append((upload.transaction, key))
    return found


def _put_models(store: SqliteStore, kept: VirtualCoordinator) -> None:
    for content in kept.store.blobs():
        store.put_blob(content)
    store.put_model(_TASK, 0, kept.state.tasks[_TASK].spec.initial)
    for known in kept.store.versions(_TASK):
        store.put_version(known)
        model = kept.store.model(_TASK, known.version)
        if model is not None:
            store.put_model(_TASK, known.version, model)
