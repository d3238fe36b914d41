"""Leaves the chain and the models of a virtual fleet as a coordinator's home.

So that whoever looks into a coordinator's home may look into it, too: `starling chain`
and `starling model` read it.
"""

from pathlib import Path

from starling.coordinator.chain.storage.block_rows import BlockRow, pack_body
from starling.coordinator.chain.storage.chain_store import StoredVersion
from starling.coordinator.chain.verification.chain_replay import (
    CheckedBlock,
    check_rows,
)
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.durable.files import storage_errors, write_atomic
from starling.fleet.virtual.virtual_coordinator import VirtualCoordinator
from starling.protocol.chain.blocks import CERTIFICATE, HEADER
from starling.protocol.chain.genesis import GENESIS

_TASK = 0
_READABLE = 0o644


def keep_chain(home: Path, kept: VirtualCoordinator) -> bool:
    """Writes a coordinator's home that can be read, and not run: it has no keys.

    Args:
      home: Its folder, which holds no chain yet.
      kept: What is written; each block is checked on the way.

    Returns:
      Whether the whole chain holds; what holds of it is written.

    Raises:
      StorageError: If the disk refuses.
    """
    folder = CoordinatorHome(home)
    with storage_errors(home):
        folder.state.mkdir(parents=True, exist_ok=True)
    write_atomic(home / "genesis", GENESIS.pack(kept.genesis), _READABLE)
    store = SqliteStore.create(folder.state / CHAIN_FILE, kept.genesis)
    try:
        with store.transaction():
            sound = _put_blocks(store, kept)
            _put_models(store, kept)
    finally:
        store.close()
    return sound


def _put_blocks(store: SqliteStore, kept: VirtualCoordinator) -> bool:
    rows = [
        BlockRow(
            block.header.height,
            HEADER.pack(block.header),
            pack_body(block.transactions),
            CERTIFICATE.pack(certificate),
        )
        for block, certificate in kept.chain
    ]
    checks = check_rows(kept.genesis, rows)
    for (block, certificate), checked in zip(kept.chain, checks, strict=False):
        if not isinstance(checked, CheckedBlock):
            return False
        store.put_block(block, certificate, checked.changes, checked.identities)
    return True


def _put_models(store: SqliteStore, kept: VirtualCoordinator) -> None:
    for content in kept.wholes.values():
        store.put_blob(content)
    for version, digests in kept.models.items():
        store.put_model(_TASK, version, digests)
    for known in kept.versions:
        store.put_version(
            StoredVersion(
                _TASK,
                known.version,
                int(1000 * known.at_s),
                known.updates,
                known.staleness_milli,
                known.charge_max,
                known.accuracy,
                known.loss,
            )
        )
