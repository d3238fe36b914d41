"""The tables of what goes into the chain and what comes out of it."""

from collections.abc import Iterator

from starling.coordinator.chain.storage.chain_store import (
    KeptVectorSize,
    StoredUpload,
    StoredVersion,
    most_kept,
)
from starling.coordinator.runtime.storage.sqlite_schema import storage_errors
from starling.coordinator.runtime.storage.sqlite_tables import SqliteTables
from starling.protocol.errors import ProtocolError, StorageError
from starling.protocol.ids import Digest, H
from starling.protocol.learning.task import MODEL_DIGESTS, ModelDigests
from starling.protocol.wire.envelope import ENVELOPE, Envelope

_FAILURES = "evaluation failures/"
"""Begins the names of notes that count them, for each version."""
_PROOF = "proof of the best/"
"""Begins the names of the facts that hold it, for each task."""


class WorkTables(SqliteTables):
    """Implements `coordinator.chain.storage.chain_store.ChainStore`."""

    _usage: KeptVectorSize | None = None
    """Counted once; only this connection writes."""

    def put_upload(self, upload: StoredUpload) -> None:
        """See `ChainStore`."""
        row = (
            upload.transaction,
            upload.arrived_ms,
            ENVELOPE.pack(upload.update),
            upload.blob,
        )
        added = self._write(
            "INSERT OR IGNORE INTO uploads (id, arrived_ms, envelope, blob)"
            " VALUES (?, ?, ?, ?)",
            row,
        )
        if added and self._usage is not None:
            size_bytes = self._usage.size_bytes + len(upload.blob)
            self._usage = KeptVectorSize(self._usage.count + 1, size_bytes)

    def drop_uploads(self, height: int, bytes_kept: int = 0) -> int:
        """See `ChainStore`."""
        # Asked often, and the query below goes through all uploads.
        if bytes_kept and self.vectors().size_bytes <= bytes_kept:
            return 0
        # Of a long column SQLite knows the length without reading it.
        dropped = self._write(
            "DELETE FROM uploads WHERE EXISTS (SELECT 1 FROM transactions"
            " WHERE transactions.id = uploads.id AND transactions.height <= ?)"
            " AND number IN (SELECT number FROM (SELECT number, SUM(LENGTH(blob))"
            " OVER (ORDER BY number DESC) AS newer FROM uploads) WHERE newer > ?)",
            (height, most_kept(bytes_kept)),
        )
        if dropped:
            self._usage = None
        return dropped

    def vectors(self) -> KeptVectorSize:
        """See `ChainStore`."""
        if self._usage is None:
            count, size_bytes = self._one(
                "SELECT COUNT(*), COALESCE(SUM(LENGTH(blob)), 0) FROM uploads"
            )
            self._usage = KeptVectorSize(count, size_bytes)
        return self._usage

    def drop_upload(self, transaction: bytes) -> None:
        """See `ChainStore`."""
        self._usage = None
        self._write("DELETE FROM uploads WHERE id = ?", (transaction,))

    def put_blob(self, content: bytes, digest: Digest | None = None) -> Digest:
        """See `ChainStore`."""
        digest = H(content) if digest is None else digest
        row = (digest, content)
        self._write("INSERT OR IGNORE INTO blobs (digest, content) VALUES (?, ?)", row)
        return digest

    def put_part(self, digest: Digest, number: int, part: bytes) -> None:
        """See `ChainStore`."""
        row = (digest, number, part)
        # Parts of a whole blob may not change any more: it was checked with those it
        # has.
        if not self.has_blob(digest):
            self._write("INSERT OR REPLACE INTO parts VALUES (?, ?, ?)", row)

    def join_parts(self, digest: Digest) -> None:
        """See `ChainStore`."""
        # Empty: its content stays in the parts, and is not written a second time.
        sql = "INSERT OR IGNORE INTO blobs (digest, content) VALUES (?, x'')"
        self._write(sql, (digest,))

    def drop_parts(self) -> None:
        """See `ChainStore`."""
        # What a crash left behind of blobs that were never whole.
        sql = "DELETE FROM parts WHERE digest NOT IN (SELECT digest FROM blobs)"
        self._write(sql, ())

    def drop_blob(self, digest: bytes) -> None:
        """See `ChainStore`."""
        self._write("DELETE FROM blobs WHERE digest = ?", (digest,))
        self._write("DELETE FROM parts WHERE digest = ?", (digest,))

    def put_model(self, task: int, version: int, model: ModelDigests) -> None:
        """See `ChainStore`."""
        row = (task, version, MODEL_DIGESTS.pack(model))
        self._write("INSERT OR REPLACE INTO models VALUES (?, ?, ?)", row)

    def put_version(self, version: StoredVersion) -> None:
        """See `ChainStore`."""
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
        # A version that is noted again keeps the metrics that it has.
        self._write(
            "INSERT OR IGNORE INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row
        )

    def put_metrics(
        self, task: int, version: int, accuracy: float | None, loss: float
    ) -> None:
        """See `ChainStore`."""
        self._write(
            "UPDATE versions SET accuracy = ?, loss = ? WHERE task = ? AND version = ?",
            (accuracy, loss, task, version),
        )

    def put_proof(self, task: int, proof: bytes) -> None:
        """See `ChainStore`."""
        row = (f"{_PROOF}{task}", proof)
        self._write("INSERT OR REPLACE INTO facts VALUES (?, ?)", row)

    def put_failure(self, task: int, version: int) -> None:
        """See `ChainStore`."""
        self._write(
            "INSERT INTO notes VALUES (?, 1)"
            " ON CONFLICT (name) DO UPDATE SET value = value + 1",
            (f"{_FAILURES}{task}/{version}",),
        )

    def put_evidence(self, known: bytes, other: Envelope) -> None:
        """See `ChainStore`."""
        row = (known, ENVELOPE.pack(other))
        self._write("INSERT OR IGNORE INTO evidence VALUES (?, ?)", row)

    def drop_evidence(self, known: bytes, other: Envelope) -> None:
        """See `ChainStore`."""
        row = (known, ENVELOPE.pack(other))
        self._write("DELETE FROM evidence WHERE known = ? AND other = ?", row)

    def upload(self, transaction: bytes) -> StoredUpload | None:
        """See `ChainStore`."""
        row = self._one(
            "SELECT id, envelope, blob, arrived_ms FROM uploads WHERE id = ?",
            transaction,
        )
        return None if row is None else self._upload(*row)

    def has_upload(self, transaction: bytes) -> bool:
        """True if an upload is kept; it is not read."""
        return self._one("SELECT 1 FROM uploads WHERE id = ?", transaction) is not None

    def uploads(self) -> Iterator[StoredUpload]:
        """All uploads that are kept, oldest first."""
        with storage_errors(self._path):
            rows = self._connection.execute(
                "SELECT id, envelope, blob, arrived_ms FROM uploads ORDER BY number"
            )
            for row in rows:
                yield self._upload(*row)

    def uploads_waiting(self) -> Iterator[StoredUpload]:
        """See `ChainStore`."""
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

    def blob(self, digest: bytes) -> bytes | None:
        """See `ChainStore`.

        Raises:
          StorageError: If it does not hash to its digest.
        """
        row = self._one("SELECT content FROM blobs WHERE digest = ?", digest)
        if row is None:
            return None
        # Checked at each reading: a flash card gives other bytes back without an error.
        content: bytes = row[0] or self._joined(digest)
        if H(content) != digest:
            raise StorageError(f"{self._path}: blob {digest.hex()} is damaged")
        return content

    def _joined(self, digest: bytes) -> bytes:
        sql = "SELECT content FROM parts WHERE digest = ? ORDER BY number"
        with storage_errors(self._path):
            rows = self._connection.execute(sql, (digest,)).fetchall()
        return b"".join(row[0] for row in rows)

    def blobs(self) -> tuple[Digest, ...]:
        """Digests of all blobs."""
        with storage_errors(self._path):
            rows = self._connection.execute("SELECT digest FROM blobs")
            return tuple(Digest(digest) for (digest,) in rows)

    def has_blob(self, digest: bytes) -> bool:
        """See `ChainStore`."""
        return self._one("SELECT 1 FROM blobs WHERE digest = ?", digest) is not None

    def model(self, task: int, version: int) -> ModelDigests | None:
        """See `ChainStore`."""
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

    def proof(self, task: int) -> bytes | None:
        """See `ChainStore`."""
        row = self._one("SELECT value FROM facts WHERE name = ?", f"{_PROOF}{task}")
        return None if row is None else bytes(row[0])

    def versions(self, task: int) -> tuple[StoredVersion, ...]:
        """See `ChainStore`."""
        with storage_errors(self._path):
            rows = self._connection.execute(
                "SELECT versions.*, COALESCE(value, 0) FROM versions"
                " LEFT JOIN notes ON name = ? || task || '/' || version"
                " WHERE task = ? ORDER BY version",
                (_FAILURES, task),
            )
            return tuple(StoredVersion(*row) for row in rows)

    def evidence(self) -> tuple[tuple[Digest, Envelope], ...]:
        """See `ChainStore`."""
        with storage_errors(self._path):
            rows = self._connection.execute("SELECT known, other FROM evidence")
            return tuple((Digest(row[0]), self._envelope(row[1])) for row in rows)
