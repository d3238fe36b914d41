"""A TinyDB storage that a power cut leaves whole: for small, rebuildable documents.

Every write makes a new file, syncs it, keeps the old one as `.bak` and renames. A file
that does not parse or does not match its digest is set aside as `.damaged` and the
backup is used; if that is damaged too the document is empty and its owner rebuilds it.
TinyDB's own storage overwrites its file in place and is lost by a torn write.
"""

import hashlib
import json
import os
from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path
from typing import Any

from tinydb.storages import Storage

from starling.durable.files import (
    read_if_present,
    storage_errors,
    sync_folder,
    write_temporary,
)
from starling.protocol.errors import LimitError

DOCUMENT_BYTES_MAX = 4 << 20
"""About a thousand records; more belongs in SQLite."""

Tables = dict[str, dict[str, Any]]


class StorageCondition(Enum):
    """Condition of the storage when it was opened."""

    NEW = auto()
    SOUND = auto()
    RESTORED = auto()
    """The last write was lost; the one before it counts."""
    LOST = auto()
    """File and backup are damaged; the owner must rebuild the content."""


class AtomicStorage(Storage):
    """Keeps one TinyDB document: `TinyDB(path, storage=AtomicStorage)`.

    Attributes:
      condition: What was found when it was opened.
    """

    def __init__(
        self, path: Path | str, on_damage: Callable[[str], None] | None = None
    ) -> None:
        """Opens a document, or begins one at the first write.

        Args:
          path: The file; its folder must exist. One process opens it at a time.
          on_damage: Told in one line what was damaged and what was done about it.

        Raises:
          StorageError: If the disk refuses.
        """
        super().__init__()
        self._path = Path(path)
        self._backup = self._path.with_name(self._path.name + ".bak")
        self._report = on_damage
        self._content: bytes | None = None
        self.condition = self._open()

    def read(self) -> Tables | None:
        """The tables as last written; a fresh copy. None if there are none."""
        return None if self._content is None else _tables(self._content)

    def write(self, data: Tables) -> None:
        """Makes the tables durable before it returns.

        Raises:
          LimitError: If they are longer than `DOCUMENT_BYTES_MAX` as JSON.
          StorageError: If the disk refuses; the last tables still count.
        """
        content = _document(data)
        if len(content) > DOCUMENT_BYTES_MAX:
            raise LimitError(f"{self._path}: document of {len(content)} bytes")
        with storage_errors(self._path):
            # Synced before either rename: a file must not take the name before its
            # bytes are on the disk.
            temporary = write_temporary(self._path, content)
            if self._path.exists():
                # A power cut between the two renames leaves the backup alone, which the
                # next opening restores.
                os.replace(self._path, self._backup)  # noqa: PTH105 - tests cut os calls
            os.replace(temporary, self._path)  # noqa: PTH105 - tests cut os calls
            sync_folder(self._path.parent)
        self._content = content

    def _open(self) -> StorageCondition:
        content = _read(self._path)
        if content is not None and _tables(content) is not None:
            self._content = content
            return StorageCondition.SOUND
        backup = _read(self._backup)
        if content is None and backup is None:
            return StorageCondition.NEW
        if content is not None:
            # Set aside, or the next write would put it over the sound backup.
            with storage_errors(self._path):
                damaged = self._path.with_name(self._path.name + ".damaged")
                os.replace(self._path, damaged)  # noqa: PTH105 - tests cut os calls
        if backup is not None and _tables(backup) is not None:
            self._content = backup
            self._write_report("damaged or missing; restored from its backup")
            return StorageCondition.RESTORED
        self._write_report("damaged, and so is its backup; it starts empty")
        return StorageCondition.LOST

    def _write_report(self, fact: str) -> None:
        if self._report is not None:
            self._report(f"{self._path}: {fact}")


def _read(path: Path) -> bytes | None:
    try:
        return read_if_present(path, DOCUMENT_BYTES_MAX)
    except LimitError:
        # Longer than anything that `write` makes, so it is damaged.
        return b""


def _document(tables: Tables) -> bytes:
    # One encoding for equal tables, or the comparison on reading would fail.
    body = json.dumps(tables, sort_keys=True, separators=(",", ":"))
    digest = hashlib.blake2b(body.encode(), digest_size=16).hexdigest()
    return f'{{"digest":"{digest}","tables":{body}}}\n'.encode()


def _tables(content: bytes) -> Tables | None:
    """The tables of a document; None if it is damaged."""
    try:
        document = json.loads(content)
        tables: Tables = document["tables"]
        # Written anew and compared: so the digest, the order and every byte are checked
        # in one step.
        sound = _document(tables) == content
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return tables if sound else None
