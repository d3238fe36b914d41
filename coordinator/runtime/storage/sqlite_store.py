"""The chain on disk: one SQLite file, written in group commits.

Write-ahead log with full synchronisation: what a transaction put is on the disk when
its `with` block ends. One process writes; others may read meanwhile.
"""

import sqlite3
from pathlib import Path
from typing import Self

from starling.coordinator.chain.execution.state_machine import genesis_tree
from starling.coordinator.runtime.storage.sqlite_chain import ChainTables
from starling.coordinator.runtime.storage.sqlite_schema import (
    FORMAT,
    PAGE_BYTES,
    SCHEMA,
    WAL_ENDING,
    configure,
    connect,
    storage_errors,
)
from starling.coordinator.runtime.storage.sqlite_work import WorkTables
from starling.durable.files import sync_folder
from starling.protocol.chain.genesis import GENESIS, Genesis
from starling.protocol.errors import ConfigError, ProtocolError, StorageError


class SqliteStore(ChainTables, WorkTables):
    """Implements `coordinator.chain.storage.chain_store.ChainStore`."""

    @classmethod
    def create(cls, path: Path, genesis: Genesis) -> "SqliteStore":
        """Starts a chain in a new file, which appears whole or not at all.

        Raises:
          ConfigError: If the file exists, or a log of another chain of its name.
          StorageError: If the disk refuses.
        """
        if path.exists():
            raise ConfigError("a chain is there already", file=str(path))
        # SQLite would replay it into the new chain, and keep nothing of the old one.
        log = path.with_name(path.name + WAL_ENDING)
        if log.exists():
            text = f"belongs to another chain; move it to where its {path.name} is"
            raise ConfigError(text, file=str(log))
        unfinished = path.with_name(path.name + ".new")
        with storage_errors(path):
            # SQLite would roll an old journal back into a new file of its name.
            for left in (unfinished, path.with_name(f"{unfinished.name}-journal")):
                left.unlink(missing_ok=True)
            connection = connect(unfinished)
            # Before the first table: later it changes nothing.
            connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
            # Its content must be on the disk before the rename that shows it.
            connection.execute("PRAGMA synchronous=FULL")
            _begin(connection, genesis)
            connection.close()
            unfinished.replace(path)
            sync_folder(path.parent)
        return cls.open(path)

    @classmethod
    def in_memory(cls, genesis: Genesis) -> Self:
        """Starts a chain that does not outlive the process, for simulations."""
        connection = sqlite3.connect(":memory:", isolation_level=None)
        _begin(connection, genesis)
        return cls(Path(":memory:"), connection, genesis)

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

    def copy_to(self, path: Path) -> None:
        """Writes all of it into a new file, as it is at one moment.

        Raises:
          StorageError: If the disk refuses, or there is a file.
        """
        with storage_errors(path):
            # One read transaction, so that a running coordinator's file is copied with
            # its log.
            self._connection.execute("VACUUM INTO ?", (str(path),))

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


def _begin(connection: sqlite3.Connection, genesis: Genesis) -> None:
    connection.executescript(f"BEGIN; {SCHEMA}")
    facts = [("format", b"%d" % FORMAT), ("genesis", GENESIS.pack(genesis))]
    connection.executemany("INSERT INTO facts VALUES (?, ?)", facts)
    entries = genesis_tree(genesis).items()
    connection.executemany("INSERT INTO state VALUES (?, ?)", entries)
    connection.execute("COMMIT")
