"""Shared base of the chain's SQLite tables: one connection, one transaction."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starling.coordinator.runtime.storage.sqlite_schema import storage_errors
from starling.protocol.chain.genesis import Genesis
from starling.protocol.errors import ProtocolError, StorageError
from starling.protocol.wire.envelope import ENVELOPE, Envelope


class SqliteTables:
    """An open file.

    Attributes:
      genesis: What the stored chain started from.
    """

    def __init__(
        self, path: Path, connection: sqlite3.Connection, genesis: Genesis
    ) -> None:
        """Takes over an open connection."""
        self.genesis = genesis
        self._path = path
        self._connection = connection

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See `ChainStore`."""
        with storage_errors(self._path):
            # A plain BEGIN takes the lock at its first write, and may then fail half
            # way.
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                # SQLite ends some by itself, as when the disk is full.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def one_moment(self) -> Iterator[None]:
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

    def _one(self, sql: str, *values: object) -> Any:  # noqa: ANN401 - as in SQLite
        with storage_errors(self._path):
            return self._connection.execute(sql, values).fetchone()

    def _envelope(self, packed: bytes) -> Envelope:
        try:
            return ENVELOPE.unpack(packed)
        except ProtocolError as error:
            raise StorageError(f"{self._path}: damaged envelope: {error}") from error

    def close(self) -> None:
        """See `ChainStore`."""
        self._connection.close()
