"""Leaves the chain and the models of a virtual fleet as a coordinator's home.

So that whoever looks into a coordinator's home may look into it, too: `starling chain`
and `starling model` read it, and, while the fleet runs, the console.
"""

from pathlib import Path

from starling.coordinator.chain.storage.chain_store import StoredVersion
from starling.coordinator.chain.verification.chain_replay import (
    CheckedBlock,
    check_rows,
    start,
)
from starling.coordinator.health import chain_stall
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.lineage.kept_vectors import (
    CONTENT_KEYS_FILE,
    content_key,
    write_content_keys,
)
from starling.coordinator.runtime.status.host_health import HostHealth
from starling.coordinator.runtime.status.status_document import StatusFile
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.durable.files import storage_errors, write_atomic
from starling.fleet.virtual.virtual_coordinator import VirtualCoordinator
from starling.protocol.chain.genesis import GENESIS, Genesis
from starling.protocol.ids import TaskId

RUNNING, STOPPED = "running", "stopped"
_TASK = TaskId(0)
_READABLE = 0o644


class KeptChain:
    """A coordinator's home that can be read, and not run: it has no keys."""

    def __init__(self, home: Path, genesis: Genesis) -> None:
        """Makes the home, with an empty chain.

        Args:
          home: Its folder, which holds no chain yet.
          genesis: Of the chain.

        Raises:
          StorageError: If the disk refuses.
        """
        folder = CoordinatorHome(home)
        with storage_errors(home):
            folder.state.mkdir(parents=True, exist_ok=True)
        write_atomic(home / "genesis", GENESIS.pack(genesis), _READABLE)
        self._home = folder
        self._store = SqliteStore.create(folder.state / CHAIN_FILE, genesis)
        self._tip = start(genesis)
        self._holds = True
        self._versions: dict[int, StoredVersion] = {}
        self._status: dict[int, StatusFile] = {}

    def close(self) -> None:
        """Lets go of the files."""
        self._store.close()

    def extend(self, kept: VirtualCoordinator) -> None:
        """Writes new blocks and versions.

        Args:
          kept: What is written; each block is checked on the way, and what follows one
            that does not hold is left out.

        Raises:
          StorageError: If the disk refuses.
        """
        with self._store.transaction():
            self._put_blocks(kept)
            self._put_versions(kept)

    def finish(self, kept: VirtualCoordinator) -> None:
        """Writes all that is new, with models and vectors, and what opens these.

        Args:
          kept: See `extend`.

        Raises:
          StorageError: If the disk refuses.
        """
        self.extend(kept)
        with self._store.transaction():
            for digest in kept.store.blobs():
                self._store.put_blob(kept.store.blob(digest) or b"", digest)
            self._store.put_model(_TASK, 0, kept.state.tasks[_TASK].spec.initial)
            for known in kept.store.versions(_TASK):
                model = kept.store.model(_TASK, known.version)
                if model is not None:
                    self._store.put_model(_TASK, known.version, model)
            if (proof := kept.store.proof(_TASK)) is not None:
                self._store.put_proof(_TASK, proof)
            keys = self._put_vectors(kept)
        write_content_keys(self._home.path / CONTENT_KEYS_FILE, keys)

    def write_status(self, kept: VirtualCoordinator, condition: str) -> None:
        """Writes a status as a running coordinator does; its times are virtual.

        Args:
          kept: Of whom.
          condition: `RUNNING` or `STOPPED`.
        """
        if kept.number not in self._status:
            self._status[kept.number] = StatusFile(
                self._home.status, kept.settings, kept.store, kept.tally
            )
        health = HostHealth(self._home.state)
        health.connected()
        now_s, status = kept.world.agenda.now_s, self._status[kept.number]
        found = chain_stall.look(kept.loop.settings, kept.state, now_s, ())
        # Evaluations come when they are done, and change versions of before.
        status.versions_changed()
        status.write(
            kept.state, condition, health.look(()), found, now_s, int(1000 * now_s)
        )

    def _put_blocks(self, kept: VirtualCoordinator) -> None:
        rows = kept.store.rows(self._store.height() + 1) if self._holds else []
        for checked in check_rows(kept.store.genesis, rows, begin=self._tip):
            stored = kept.store.block(self._store.height() + 1)
            # A fleet may have liars: no home is left that `chain verify` refuses.
            if not isinstance(checked, CheckedBlock) or stored is None:
                self._holds = False
                return
            self._store.put_block(
                stored.block, stored.certificate, checked.changes, checked.identities
            )
            self._tip = checked.tip

    def _put_vectors(self, kept: VirtualCoordinator) -> list[tuple[bytes, bytes]]:
        """Writes the vectors of used updates; gives the keys that open them."""
        found: list[tuple[bytes, bytes]] = []
        for upload in kept.store.uploads():
            key = content_key(upload, kept.settings.gate.key)
            if key is not None:
                self._store.put_upload(upload)
                found.append((upload.transaction, key))
        return found

    def _put_versions(self, kept: VirtualCoordinator) -> None:
        for known in kept.store.versions(_TASK):
            if self._versions.get(known.version) == known:
                continue
            self._versions[known.version] = known
            self._store.put_version(known)
            # It may have been evaluated since it was first written.
            if known.loss is not None:
                self._store.put_metrics(
                    _TASK, known.version, known.accuracy, known.loss
                )
