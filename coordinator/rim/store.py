"""The chain on disk: one SQLite file, written in group commits.

Write-ahead log with full synchronisation: what a transaction put is on the disk when
its `with` block ends. One process writes; others may read meanwhile.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from coordinator.ledger.rows import Row, decision, pack_body, unpack_body
from coordinator.ledger.state import genesis_tree
from coordinator.ledger.storage import (
    Location,
    StoredBlock,
    StoredTip,
    StoredUpload,
    StoredVersion,
    within,
)
from coordinator.rim.schema import (
    FORMAT,
    PAGE_BYTES,
    SCHEMA,
    configure,
    connect,
    storage_errors,
)
from durable.files import sync_folder
from protocol.chain import (
    CERTIFICATE,
    GENESIS,
    HEADER,
    Block,
    Certificate,
    Genesis,
)
from protocol.envelope import ENVELOPE, Envelope
from protocol.errors import ConfigError, ProtocolError, StorageError
from protocol.ids import Digest, H
from protocol.statetree import StateTree
from protocol.task import MODEL_DIGESTS, ModelDigests


class SqliteStore:
    """See `coordinator.ledger.storage.Store` for what the methods do.

    Attributes:
      genesis: What the stored chain started from.
    """

    def __init__(
        self, path: Path, connection: sqlite3.Connection, genesis: Genesis
    ) -> None:
        """Takes over an open connection; make one with `create`, `open` or `read`."""
        self.genesis = genesis
        self._path = path
        self._connection = connection

    @classmethod
    def create(cls, path: Path, genesis: Genesis) -> "SqliteStore":
        """Starts a chain in a new file, which appears whole or not at all.

        Raises:
          ConfigError: If the file exists.
          StorageError: If the disk refuses.
        """
        if path.exists():
            raise ConfigError("a chain is there already", file=str(path))
        unfinished = path.with_name(path.name + ".new")
        with storage_errors(path):
            for left in (unfinished, path.with_name(f"{unfinished.name}-journal")):
                left.unlink(missing_ok=True)
            connection = connect(unfinished)
            connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
            connection.execute("PRAGMA synchronous=FULL")
            connection.executescript(f"BEGIN; {SCHEMA}")
            facts = [("format", b"%d" % FORMAT), ("genesis", GENESIS.pack(genesis))]
            connection.executemany("INSERT INTO facts VALUES (?, ?)", facts)
            entries = genesis_tree(genesis).items()
            connection.executemany("INSERT INTO state VALUES (?, ?)", entries)
            connection.execute("COMMIT")
            connection.close()
            unfinished.replace(path)
            sync_folder(path.parent)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> "SqliteStore":
        """Opens a chain to go on with it.

        Raises:
          ConfigError: If there is none.
          StorageError: If the file is damaged.
        """
        return cls._open(path, "rw")

    @classmethod
    def read(cls, path: Path) -> "SqliteStore":
        """Opens a chain to look at it, also while a coordinator writes it.

        Raises:
          ConfigError, StorageError: As `open`.
        """
        return cls._open(path, "ro")

    @classmethod
    def _open(cls, path: Path, mode: str) -> "SqliteStore":
        if not path.is_file():
            raise ConfigError("there is no chain", file=str(path))
        with storage_errors(path):
            connection = connect(path, mode)
            if mode == "rw":
                configure(connection)
            facts = dict(connection.execute("SELECT name, value FROM facts"))
        if facts.get("format") != b"%d" % FORMAT:
            raise StorageError(f"{path}: format {facts.get('format')!r} is unknown")
        try:
            genesis = GENESIS.unpack(facts.get("genesis", b""))
        except ProtocolError as error:
            raise StorageError(f"{path}: genesis is damaged: {error}") from error
        return cls(path, connection, genesis)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See `Store`."""
        with storage_errors(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Inside, all reads see one moment, whatever another process writes."""
        with storage_errors(self._path):
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.execute("ROLLBACK")

    def _write(self, sql: str, row: Sequence[object]) -> int:
        assert self._connection.in_transaction, "put only inside a transaction"
        return self._connection.execute(sql, row).rowcount

    def put_block(
        self,
        block: Block,
        certificate: Certificate,
        changes: Mapping[bytes, bytes | None],
        identities: Sequence[Digest],
    ) -> None:
        """See `Store`."""
        height = block.header.height
        row = (
            height,
            HEADER.pack(block.header),
            pack_body(block.transactions),
            CERTIFICATE.pack(certificate),
        )
        self._write("INSERT INTO blocks VALUES (?, ?, ?, ?)", row)
        run = self._connection.executemany
        places = [(identity, height, i) for i, identity in enumerate(identities)]
        run("INSERT INTO transactions VALUES (?, ?, ?)", places)
        written = [(key, value) for key, value in changes.items() if value is not None]
        run("INSERT OR REPLACE INTO state VALUES (?, ?)", written)
        removed = [(key,) for key, value in changes.items() if value is None]
        run("DELETE FROM state WHERE key = ?", removed)

    def put_upload(self, upload: StoredUpload) -> None:
        """See `Store`."""
        row = (
            upload.transaction,
            upload.arrived_ms,
            ENVELOPE.pack(upload.update),
            upload.blob,
        )
        self._write(
            "INSERT OR IGNORE INTO uploads (id, arrived_ms, envelope, blob)"
            " VALUES (?, ?, ?, ?)",
            row,
        )

    def drop_uploads(self, height: int) -> int:
        """See `Store`."""
        return self._write(
            "DELETE FROM uploads WHERE EXISTS (SELECT 1 FROM transactions"
            " WHERE transactions.id = uploads.id AND transactions.height <= ?)",
            (height,),
        )

    def drop_upload(self, transaction: bytes) -> None:
        """See `Store`."""
        self._write("DELETE FROM uploads WHERE id = ?", (transaction,))

    def put_blob(self, content: bytes) -> Digest:
        """See `Store`."""
        digest = H(content)
        row = (digest, content)
        self._write("INSERT OR IGNORE INTO blobs (digest, content) VALUES (?, ?)", row)
        return digest

    def drop_blob(self, digest: bytes) -> None:
        """See `Store`."""
        self._write("DELETE FROM blobs WHERE digest = ?", (digest,))

    def put_model(self, task: int, version: int, model: ModelDigests) -> None:
        """See `Store`."""
        row = (task, version, MODEL_DIGESTS.pack(model))
        self._write("INSERT OR REPLACE INTO models VALUES (?, ?, ?)", row)

    def put_version(self, version: StoredVersion) -> None:
        """See `Store`."""
        row = (
            version.task,
            version.version,
            version.time_ms,
            version.updates,
            version.staleness_milli,
            version.charge_max,
            version.accuracy,
            version.loss,
        )
        self._write(
            "INSERT OR IGNORE INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row
        )

    def put_metrics(
        self, task: int, version: int, accuracy: float | None, loss: float
    ) -> None:
        """See `Store`."""
        self._write(
            "UPDATE versions SET accuracy = ?, loss = ? WHERE task = ? AND version = ?",
            (accuracy, loss, task, version),
        )

    def put_evidence(self, known: bytes, other: Envelope) -> None:
        """See `Store`."""
        row = (known, ENVELOPE.pack(other))
        self._write("INSERT OR IGNORE INTO evidence VALUES (?, ?)", row)

    def put_note(self, name: str, value: int) -> None:
        """See `Store`."""
        self._write("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, value))

    def state(self) -> StateTree:
        """The state as it is stored, whatever the last header says of it."""
        with storage_errors(self._path):
            rows = self._connection.execute("SELECT key, value FROM state")
            return StateTree().update(dict(rows))

    def tip(self) -> StoredTip:
        """See `Store`."""
        tree = self.state()
        height = self.height()
        if height == 0:
            return StoredTip(None, None, tree)
        last = self.block(height)
        assert last is not None
        header = last.block.header
        if tree.root() != header.state_root:
            raise StorageError(
                f"{self._path}: the state does not lead to the state_root of height "
                f"{height}; restore the file from a backup, together with the vote "
                "journal beside it"
            )
        return StoredTip(header, last.certificate, tree)

    def height(self) -> int:
        """Of the last block, 0 before the first."""
        row = self._one("SELECT max(height) FROM blocks")
        return int(row[0] or 0)

    def signatures(self) -> int:
        """About how many signatures a check of the whole chain verifies."""
        members = len(self.genesis.validators.members)
        (transactions,) = self._one("SELECT count(*) FROM transactions")
        return int(transactions) + members * self.height()

    def _one(self, sql: str, *values: object) -> Any:  # noqa: ANN401 - as in SQLite
        with storage_errors(self._path):
            return self._connection.execute(sql, values).fetchone()

    def rows(self, first: int = 1, most: int = -1) -> Iterator[Row]:
        """Blocks as they are stored, rising: from a height on, so many or all."""
        with storage_errors(self._path):
            found = self._connection.execute(
                "SELECT height, header, body, certificate FROM blocks"
                " WHERE height >= ? ORDER BY height LIMIT ?",
                (first, most),
            )
            for height, *parts in found:
                if not all(isinstance(part, bytes) for part in parts):
                    raise StorageError(f"{self._path}: block {height} is damaged")
                yield Row(height, *parts)

    def transaction_index(self) -> dict[bytes, Location]:
        """The whole index of transactions, for verification."""
        with storage_errors(self._path):
            rows = self._connection.execute(
                "SELECT id, height, place FROM transactions"
            )
            return {
                identity: Location(height, place) for identity, height, place in rows
            }

    def block(self, height: int) -> StoredBlock | None:
        """See `Store`.

        Raises:
          StorageError: If the row is damaged.
        """
        row = self._one(
            "SELECT header, body, certificate FROM blocks WHERE height = ?", height
        )
        if row is None:
            return None
        header, body, certificate = row
        try:
            block = Block(HEADER.unpack(header), unpack_body(body))
            return StoredBlock(block, CERTIFICATE.unpack(certificate))
        except ProtocolError as error:
            raise StorageError(
                f"{self._path}: block {height} is damaged ({error}); "
                "`starling chain verify` says where"
            ) from error

    def decisions(self, first: int, most: int, bytes_max: int) -> tuple[bytes, ...]:
        """See `Store`."""
        return within(map(decision, self.rows(first, most)), bytes_max)

    def locate(self, transaction: bytes) -> Location | None:
        """See `Store`."""
        row = self._one(
            "SELECT height, place FROM transactions WHERE id = ?", transaction
        )
        return None if row is None else Location(*row)

    def upload(self, transaction: bytes) -> StoredUpload | None:
        """See `Store`."""
        row = self._one(
            "SELECT id, envelope, blob, arrived_ms FROM uploads WHERE id = ?",
            transaction,
        )
        return None if row is None else self._upload(*row)

    def uploads_waiting(self) -> Iterator[StoredUpload]:
        """See `Store`."""
        with storage_errors(self._path):
            rows = self._connection.execute(
                "SELECT uploads.id, envelope, blob, arrived_ms FROM uploads"
                " LEFT JOIN transactions ON transactions.id = uploads.id"
                " WHERE transactions.id IS NULL ORDER BY number"
            )
            for row in rows:
                yield self._upload(*row)

    def _upload(
        self, identity: bytes, envelope: bytes, blob: bytes, arrived_ms: int
    ) -> StoredUpload:
        update = self._envelope(envelope)
        return StoredUpload(Digest(identity), update, blob, arrived_ms)

    def _envelope(self, packed: bytes) -> Envelope:
        try:
            return ENVELOPE.unpack(packed)
        except ProtocolError as error:
            raise StorageError(f"{self._path}: damaged envelope: {error}") from error

    def blob(self, digest: bytes) -> bytes | None:
        """See `Store`.

        Raises:
          StorageError: If it does not hash to its digest.
        """
        row = self._one("SELECT content FROM blobs WHERE digest = ?", digest)
        if row is None:
            return None
        content: bytes = row[0]
        if H(content) != digest:
            raise StorageError(f"{self._path}: blob {digest.hex()} is damaged")
        return content

    def model(self, task: int, version: int) -> ModelDigests | None:
        """See `Store`."""
        row = self._one(
            "SELECT digests FROM models WHERE task = ? AND version = ?",
            task,
            version,
        )
        if row is None:
            return None
        try:
            return MODEL_DIGESTS.unpack(row[0])
        except ProtocolError as error:
            raise StorageError(f"{self._path}: model {version} is damaged") from error

    def versions(self, task: int) -> tuple[StoredVersion, ...]:
        """See `Store`."""
        with storage_errors(self._path):
            rows = self._connection.execute(
                "SELECT * FROM versions WHERE task = ? ORDER BY version", (task,)
            )
            return tuple(StoredVersion(*row) for row in rows)

    def evidence(self) -> tuple[tuple[Digest, Envelope], ...]:
        """See `Store`."""
        with storage_errors(self._path):
            rows = self._connection.execute("SELECT known, other FROM evidence")
            return tuple((Digest(row[0]), self._envelope(row[1])) for row in rows)

    def note(self, name: str) -> int | None:
        """See `Store`."""
        row = self._one("SELECT value FROM notes WHERE name = ?", name)
        return None if row is None else int(row[0])

    def close(self) -> None:
        """See `Store`."""
        self._connection.close()
