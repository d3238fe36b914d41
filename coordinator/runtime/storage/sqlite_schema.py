"""The chain's SQLite file: its tables and its durability.

Source: sqlite.org/wal.html and pragma.html#pragma_synchronous.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from starling.protocol.errors import StorageError

CHAIN_FILE = "chain.sqlite3"
"""Name of the file in a coordinator's `state/`."""
WAL_ENDING = "-wal"
LOG_ENDINGS = (WAL_ENDING, "-shm")
"""Of the files that SQLite keeps beside it: what is not in it yet, and its index."""
FORMAT = 4
PAGE_BYTES = 8192
# 32 MiB of log between checkpoints: pages that change often reach the file once.
_WAL_PAGES = 4096
_CACHE_KIB = 16 * 1024
# For whoever opens the file while another process begins or recovers its log.
_BUSY_MS = 5000
SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE notes (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE blocks (
    height INTEGER PRIMARY KEY,
    header BLOB NOT NULL,
    body BLOB NOT NULL,
    certificate BLOB NOT NULL
);
CREATE TABLE transactions (
    id BLOB PRIMARY KEY, height INTEGER NOT NULL, place INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE epochs (
    height INTEGER PRIMARY KEY, following BLOB NOT NULL, ending BLOB NOT NULL
);
CREATE TABLE snapshots (
    height INTEGER NOT NULL,
    bucket INTEGER NOT NULL,
    root BLOB NOT NULL,
    content BLOB NOT NULL,
    PRIMARY KEY (height, bucket)
);
CREATE TABLE state (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE uploads (
    number INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    arrived_ms INTEGER NOT NULL,
    envelope BLOB NOT NULL,
    blob BLOB NOT NULL
);
CREATE TABLE blobs (
    number INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, content BLOB NOT NULL
);
CREATE TABLE parts (
    digest BLOB NOT NULL, number INTEGER NOT NULL, content BLOB NOT NULL,
    PRIMARY KEY (digest, number)
);
CREATE TABLE models (
    task INTEGER NOT NULL, version INTEGER NOT NULL, digests BLOB NOT NULL,
    PRIMARY KEY (task, version)
) WITHOUT ROWID;
CREATE TABLE versions (
    task INTEGER NOT NULL,
    version INTEGER NOT NULL,
    time_ms INTEGER NOT NULL,
    updates INTEGER NOT NULL,
    staleness_milli INTEGER NOT NULL,
    charge_max INTEGER NOT NULL,
    accuracy REAL,
    loss REAL,
    PRIMARY KEY (task, version)
) WITHOUT ROWID;
CREATE TABLE evidence (
    known BLOB NOT NULL, other BLOB NOT NULL, PRIMARY KEY (known, other)
) WITHOUT ROWID;
"""

REMEDY = (
    "get it from the other coordinators: starling coordinator recover; or restore it "
    "from a backup, together with the vote journal beside it"
)

_REMEDIES = {
    "unable to open": "copy its folder to where this user may write, and look there",
    "locked": "end the other program that holds it",
    "readonly": "mount the disk for writing, and run as the user who owns it",
}
"""By a part of what SQLite says."""


def is_damage(error: BaseException | None) -> bool:
    """True if an SQLite error is about the file's content, not about the disk."""
    if isinstance(error, sqlite3.OperationalError):
        # A file cut to nothing is an empty database.
        return "no such" in str(error)
    return not isinstance(error, OSError)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns what SQLite raises into a `StorageError` that says what to do."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        remedy = REMEDY if is_damage(error) else _remedy(str(error))
        raise StorageError(f"{path}: {error}; {remedy}") from error
    except sqlite3.DatabaseError as error:
        raise StorageError(f"{path}: {error}; {REMEDY}") from error


def _remedy(text: str) -> str:
    known = [way for part, way in _REMEDIES.items() if part in text]
    return known[0] if known else "free space or fix the disk"


def connect(path: Path, mode: str = "rwc") -> sqlite3.Connection:
    """Opens the file; `mode` is SQLite's: rwc, rw or ro."""
    address = f"{path.absolute().as_uri()}?mode={mode}"
    if mode == "ro" and _is_immutable(path):
        # SQLite could not make the files that it has beside it to read.
        address += "&immutable=1"
    connection = sqlite3.connect(address, uri=True, isolation_level=None)
    connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
    connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
    return connection


def _is_immutable(path: Path) -> bool:
    """True if a file is whole by itself, on a medium that nobody can write to."""
    log = path.with_name(f"{path.name}-wal")
    is_whole = not (log.exists() and log.stat().st_size)
    return is_whole and bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def configure(connection: sqlite3.Connection) -> None:
    """Makes every commit durable, and the log of moderate length."""
    # Commands and the console read while the coordinator writes.
    connection.execute("PRAGMA journal_mode=WAL")
    # At NORMAL a log is synced at checkpoints alone: a power cut would take back what
    # was published.
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint={_WAL_PAGES}")
