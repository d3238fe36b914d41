"""The spool: packed uploads on disk until a proof lets them go, and their index.

A file is written whole, synced, before any of it is sent; it holds what the agent must
know of it and then the upload. The index is a TinyDB document of what is only
convenient to know (receipts, outcomes, the count of starts); it is rebuilt from the
folder and from what else the agent knows if it is ever lost.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from tinydb import TinyDB, where
from tinydb.queries import QueryInstance

from starling.agent.step.effects import SpoolEntry
from starling.durable.atomic_tinydb import AtomicStorage, StorageCondition
from starling.durable.files import (
    read_limited,
    storage_errors,
    sync_folder,
    write_atomic,
)
from starling.protocol.errors import ProtocolError, StorageError
from starling.protocol.ids import ChainId, H
from starling.protocol.schema.msgpack_codec import (
    Structure,
    binary,
    structure,
)
from starling.protocol.wire.chunks import CHUNK, CHUNK_BYTES, Chunk
from starling.protocol.wire.envelope import Envelope
from starling.protocol.wire.message_bodies import UPLOAD, UPLOAD_BYTES_MAX

SUFFIX = ".upload"
_FILE_BYTES_MAX = UPLOAD_BYTES_MAX + 1024
_BOOT_LEAP = 1 << 16
_COUNTER_BITS = 32


class _SpoolFile(Structure, frozen=True):
    """Contents of a spool file; `content` last, so that its chunks can be found."""

    entry: SpoolEntry
    content: Annotated[bytes, binary(UPLOAD_BYTES_MAX, 1)]


_SPOOL_FILE = structure(_SpoolFile, _FILE_BYTES_MAX)


@dataclass(frozen=True)
class SpooledUpload:
    """An upload found in the spool.

    Attributes:
      entry: What is known of it.
      boot: Which start of the agent signed it.
    """

    entry: SpoolEntry
    boot: int


class Spool:
    """A folder of uploads, one file per task and base version."""

    def __init__(self, folder: Path) -> None:
        """Uses an existing folder."""
        self._folder = folder

    def _path(self, entry: SpoolEntry) -> Path:
        return self._folder / f"{entry.task}-{entry.base}{SUFFIX}"

    def load(
        self, chain: ChainId, report: Callable[[str], None]
    ) -> list[SpooledUpload]:
        """All sound uploads, by task and base version.

        Args:
          chain: Whose envelopes they must hold.
          report: Told of each file that is damaged; it is set aside.
        """
        found = []
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            try:
                found.append(_read(path, chain))
            except ProtocolError as error:
                # Not deleted: its name remains a witness that this base version was
                # paid for (`agent.runtime.privacy_ledger.ledger_integrity`).
                path.rename(path.with_name(path.name + ".damaged"))
                report(f"{path}: set aside: {error}")
        return sorted(found, key=lambda item: (item.entry.task, item.entry.base))

    def write(self, entry: SpoolEntry, content: bytes) -> None:
        """Keeps an upload; it is durable when this returns.

        Raises:
          StorageError: If the disk refuses, or another upload has its place.
        """
        path = self._path(entry)
        packed = _SPOOL_FILE.pack(_SpoolFile(entry, content))
        # A base version is signed once: other bytes in this place would be two releases
        # for one charge.
        if path.exists() and read_limited(path, _FILE_BYTES_MAX) != packed:
            raise StorageError(f"{path}: another update for the same base version")
        write_atomic(path, packed)

    def renew(self, entry: SpoolEntry, lease: Envelope) -> SpoolEntry:
        """Replaces the lease of an upload, durably; the signed update stays.

        Returns:
          What the spool has now.

        Raises:
          StorageError: If the disk refuses, or the file is damaged.
        """
        path = self._path(entry)
        try:
            stored = _SPOOL_FILE.unpack(read_limited(path, _FILE_BYTES_MAX))
            upload = UPLOAD.unpack(stored.content)
        except ProtocolError as error:
            raise StorageError(f"{path}: damaged: {error}") from error
        content = UPLOAD.pack(replace(upload, lease=lease))
        renewed = replace(entry, digest=H(content), size=len(content))
        write_atomic(path, _SPOOL_FILE.pack(_SpoolFile(renewed, content)))
        return renewed

    def chunk(self, entry: SpoolEntry, index: int) -> bytes:
        """One packed chunk of an upload.

        Raises:
          StorageError: If the file is missing or shorter than it was.
        """
        path = self._path(entry)
        with storage_errors(path), path.open("rb") as file:
            # From the end, where the content lies: a chunk is read without the rest of
            # the file.
            start = path.stat().st_size - entry.size + index * CHUNK_BYTES
            file.seek(start)
            data = file.read(min(CHUNK_BYTES, entry.size - index * CHUNK_BYTES))
        return CHUNK.pack(Chunk(entry.digest, entry.size, index, data))

    def delete(self, entry: SpoolEntry) -> None:
        """Removes an upload; one that is not there is no error."""
        path = self._path(entry)
        with storage_errors(path):
            path.unlink(missing_ok=True)
            sync_folder(self._folder)


def _read(path: Path, chain: ChainId) -> SpooledUpload:
    stored = _SPOOL_FILE.unpack(read_limited(path, _FILE_BYTES_MAX))
    entry = stored.entry
    upload = UPLOAD.unpack(stored.content)
    # All of it is checked once at the start, so that single chunks need no check later.
    expected = (H(stored.content), len(stored.content), upload.update.identity(chain))
    if (entry.digest, entry.size, entry.update) != expected:
        raise ProtocolError("does not hold the upload that it names")
    return SpooledUpload(entry, upload.update.counter >> _COUNTER_BITS)


_NO_OUTCOMES = ("boot", "released")


class SpoolIndex:
    """Index of the spool: starts, receipts, outcomes."""

    def __init__(self, path: Path, report: Callable[[str], None]) -> None:
        """Opens the document, or begins one.

        Args:
          path: The file.
          report: Told of damage.

        Raises:
          StorageError: If the disk refuses.
        """
        self._database = TinyDB(path, storage=AtomicStorage, on_damage=report)
        self._damaged = self._database.storage.condition in (  # type: ignore[attr-defined] # TinyDB types it as its base class
            StorageCondition.LOST,
            StorageCondition.RESTORED,
        )
        self._agent = self._database.table("agent")
        self._uploads = self._database.table("uploads")

    def next_boot(self, seen: int) -> int:
        """Counts this start, durably.

        Args:
          seen: The highest count that is known from elsewhere.

        Returns:
          More than any count before; far more if the document was damaged.
        """
        row = self._agent.get(where("name") == "boot")
        known = int(row["count"]) if isinstance(row, dict) else 0
        # Far more starts than a restored copy can be behind: a counter that comes again
        # is refused as a replay.
        leap = _BOOT_LEAP if self._damaged else 1
        boot = max(known, seen) + leap
        self._agent.upsert({"name": "boot", "count": boot}, where("name") == "boot")
        return boot

    def leap(self, boot: int) -> None:
        """Counts the starts from here, durably."""
        self._agent.upsert({"name": "boot", "count": boot}, where("name") == "boot")

    def note_released(self, unix_s: float) -> None:
        """Notes when an update left last, by the wall clock."""
        row = {"name": "released", "count": int(unix_s)}
        self._agent.upsert(row, where("name") == "released")

    def since_released_s(self, unix_s: float) -> float | None:
        """Seconds since an update left last; None if none did.

        A clock that went back since then says 0: the wait begins anew.
        """
        row = self._agent.get(where("name") == "released")
        if not isinstance(row, dict):
            return None
        return max(0.0, unix_s - int(row["count"]))

    def mark_accepted(self, entry: SpoolEntry) -> None:
        """Notes that a coordinator has given its receipt."""
        # By the update's id, and not by its place: a receipt for another update of the
        # same version is none for this one.
        self._uploads.upsert({"update": entry.update.hex()}, self._is(entry))

    def mark_gone(self, entry: SpoolEntry, outcome: str) -> None:
        """Counts an upload that was let go as "final" or "stale"."""
        self._uploads.remove(self._is(entry))
        count = self.outcomes().get(outcome, 0) + 1
        row = {"name": outcome, "count": count}
        self._agent.upsert(row, where("name") == outcome)

    def is_accepted(self, entry: SpoolEntry) -> bool:
        """True if a receipt for exactly this update was noted."""
        return self._uploads.contains(self._is(entry))

    def outcomes(self) -> dict[str, int]:
        """Number of uploads that left the spool, by outcome."""
        return {
            str(row["name"]): int(row["count"])
            for row in self._agent.all()
            if row["name"] not in _NO_OUTCOMES
        }

    def let_go(self) -> int:
        """Number of uploads that left the spool; each had been paid for."""
        return sum(self.outcomes().values())

    @staticmethod
    def _is(entry: SpoolEntry) -> QueryInstance:
        query: QueryInstance = where("update") == entry.update.hex()
        return query

    def close(self) -> None:
        """Closes the document."""
        self._database.close()
