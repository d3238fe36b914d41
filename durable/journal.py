"""An append-only journal: what `append` returned from is on the disk.

One process has it open at a time. A torn tail is cut off when it is opened, and the log
says so; damage to what was acknowledged is refused. `rewrite` replaces all entries at
once, to compact it.
"""

import fcntl
import logging
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from starling.durable.files import (
    PRIVATE_MODE,
    give_to_owner_of,
    read_limited,
    storage_errors,
    sync_folder,
    write_all,
    write_temporary,
)
from starling.durable.journal_frames import (
    HEAD_BYTES,
    MAGIC,
    SALT_BYTES,
    DamagedJournal,
    frame,
    head,
    scan,
    unfinished_head,
)
from starling.protocol.errors import ConfigError, LimitError, StorageError

JOURNAL_BYTES_MAX = 1 << 30
log = logging.getLogger("starling.durable")


class Journal:
    """An open journal; make one with `Journal.open`."""

    def __init__(self, path: Path, descriptor: int, salt: bytes, end: int) -> None:
        """Takes over a locked file whose last sound frame ends at `end`."""
        self._path = path
        self._descriptor = descriptor
        self._salt = salt
        self._end = end
        self._failed = False

    @classmethod
    def open(cls, path: Path, *, strict: bool = False) -> "tuple[Journal, list[bytes]]":
        """Opens a journal, or begins one, and reads it.

        Args:
          path: The file; its folder must exist.
          strict: Whether a tail of zeros is damage, too. A power cut leaves such tails
            on some file systems; so does a disk that loses what was acknowledged.

        Returns:
          The journal and all payloads in order.

        Raises:
          ConfigError: If another process has it open.
          DamagedJournal: If it is no journal, or an acknowledged entry is damaged; the
            message names the offset.
          StorageError: If the disk refuses.
        """
        with storage_errors(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE_MODE)
            try:
                # Before the head is written: two processes that begin one journal would
                # each write their own salt.
                _lock(descriptor, path)
                give_to_owner_of(path.parent, descriptor)
                _begin(descriptor, path)
                return cls._read(path, descriptor, strict)
            except BaseException:
                os.close(descriptor)
                raise

    @classmethod
    def _read(
        cls, path: Path, descriptor: int, strict: bool
    ) -> "tuple[Journal, list[bytes]]":
        content = read_limited(path, JOURNAL_BYTES_MAX)
        try:
            found = scan(content)
        except DamagedJournal as error:
            raise DamagedJournal(f"{path}: {error}", error.offset) from error
        # A power cut may leave such a tail, and so may a disk that lost entries: a
        # strict journal, which keeps what must not be spent twice, takes it for a loss.
        if found.nulled and strict:
            at = found.sound_bytes
            raise DamagedJournal(f"{path}: ends in zeros from offset {at} on", at)
        salt = content[len(MAGIC) : HEAD_BYTES]
        journal = cls(path, descriptor, salt, found.sound_bytes)
        if found.torn_bytes:
            # Or its rest would lie behind the next entry, and read as damage.
            os.ftruncate(descriptor, found.sound_bytes)
            os.fsync(descriptor)
            log.warning(
                "%s: %d bytes of an entry that was never acknowledged were dropped",
                path,
                found.torn_bytes,
            )
        os.lseek(descriptor, found.sound_bytes, os.SEEK_SET)
        return journal, list(found.payloads)

    @property
    def size_bytes(self) -> int:
        """Length of the file."""
        return self._end

    def append(self, payload: bytes) -> None:
        """Makes one payload durable before it returns.

        Raises:
          LimitError: If it is longer than `journal_frames.PAYLOAD_BYTES_MAX`, or the
            journal would pass `JOURNAL_BYTES_MAX` and wants a `rewrite`.
          StorageError: If the disk refuses. When it is full the journal is as before
            and may be used on; after a failed sync it takes nothing more.
        """
        self.append_many((payload,))

    def append_many(self, payloads: Sequence[bytes]) -> None:
        """Makes several payloads durable with one sync: all of them or none.

        An empty sequence does nothing. Raises as `append`.
        """
        if not payloads:
            return
        if self._failed:
            raise StorageError(f"{self._path}: an earlier sync failed; restart")
        # Framed in memory, so that one write and one sync make all payloads durable
        # together.
        framed = frame(payloads, self._end, self._salt)
        if self._end + len(framed) > JOURNAL_BYTES_MAX:
            raise LimitError(f"{self._path}: journal of {JOURNAL_BYTES_MAX} bytes full")
        with storage_errors(self._path):
            try:
                write_all(self._descriptor, framed)
            except OSError:
                self._cut_back()
                raise
            # Pages of a failed sync may be dropped and a second sync then "succeeds"
            # (PostgreSQL's fsync finding of 2018), so nothing follows a failure.
            self._failed = True
            # Data and length are enough; times need not be on the disk.
            os.fdatasync(self._descriptor)
            self._failed = False
        self._end += len(framed)

    def rewrite(self, payloads: Iterable[bytes]) -> None:
        """Replaces all entries; after a power cut either the old or the new ones.

        Raises:
          StorageError: If the disk refuses; the old entries are then still there.
        """
        # Another salt, so that no frame of the former file can pass for one of this.
        salt = os.urandom(SALT_BYTES)
        content = bytearray(head(salt))
        for payload in payloads:
            content += frame((payload,), len(content), salt)
        with storage_errors(self._path):
            temporary = write_temporary(self._path, bytes(content), PRIVATE_MODE)
            descriptor = os.open(temporary, os.O_RDWR)
            try:
                # Locked before it has the name: no other process comes between.
                _lock_file(descriptor)
                os.lseek(descriptor, 0, os.SEEK_END)
                os.replace(temporary, self._path)  # noqa: PTH105 - tests cut os calls
            except BaseException:
                os.close(descriptor)
                raise
            os.close(self._descriptor)
            self._descriptor, self._salt = descriptor, salt
            self._end = len(content)
            self._failed = True
            # Until the rename is durable, a power cut may bring the old file back,
            # without what is appended from here on.
            sync_folder(self._path.parent)
            self._failed = False

    def close(self) -> None:
        """Closes the file and gives the lock back; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> "Journal":
        """Keeps the journal open for a `with` block."""
        return self

    def __exit__(self, *raised: object) -> None:
        """Closes the journal."""
        self.close()

    def _cut_back(self) -> None:
        self._failed = True
        # The part that was written must not lie before the next entry; where it cannot
        # be cut off, nothing more is appended.
        with suppress(OSError):
            os.ftruncate(self._descriptor, self._end)
            os.lseek(self._descriptor, self._end, os.SEEK_SET)
            self._failed = False


def _begin(descriptor: int, path: Path) -> None:
    """Writes the head of a new journal, or of one whose first sync never ended."""
    if not unfinished_head(os.read(descriptor, HEAD_BYTES + 1)):
        return
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    write_all(descriptor, head(os.urandom(SALT_BYTES)))
    os.fsync(descriptor)
    sync_folder(path.parent)


def _lock_file(descriptor: int) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _lock(descriptor: int, path: Path) -> None:
    try:
        _lock_file(descriptor)
    except BlockingIOError as error:
        raise ConfigError("open in another process", file=str(path)) from error
    # The owner may have rewritten the file between our open and its close.
    if os.fstat(descriptor).st_ino != path.stat().st_ino:
        raise ConfigError("open in another process", file=str(path))
