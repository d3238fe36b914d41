"""Locks that make a process the only one of its kind in a folder."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from starling.durable.files import (
    PRIVATE_MODE,
    give_to_owner_of,
    read_if_present,
    storage_errors,
    write_all,
)
from starling.protocol.errors import ConfigError, LimitError

PROC = Path("/proc")
_PID_BYTES_MAX = 64
_PLACE = 5
"""Where a line of /proc/locks has device and inode; the process stands before it."""


class FileLock:
    """A held lock; the system drops it when the process ends, however it ends."""

    def __init__(self, descriptor: int) -> None:
        """Takes over an open and locked file."""
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Gives the lock back; a second call does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> "FileLock":
        """Holds the lock for a `with` block."""
        return self

    def __exit__(self, *raised: object) -> None:
        """Gives the lock back."""
        self.release()


def lock(path: Path) -> FileLock:
    """Takes the exclusive lock that makes this process the only one of its kind.

    Args:
      path: The lock file; created if missing, holds the owner's process id.

    Raises:
      ConfigError: If another process holds it; names its process id.
      StorageError: If the file cannot be made.
    """
    with storage_errors(path):
        descriptor = _open_lock(path)
        try:
            # On the open file and not by a file's presence, which a crash would leave
            # behind.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Only once the lock is held; before, it is another's process id.
            os.ftruncate(descriptor, 0)
            write_all(descriptor, b"%d\n" % os.getpid())
        except BlockingIOError as error:
            owner = os.read(descriptor, 32).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise ConfigError(
                f"already running as pid {owner or 'unknown'}", file=str(path)
            ) from error
        except OSError:
            os.close(descriptor)
            raise
    return FileLock(descriptor)


def wait_for_lock(path: Path) -> FileLock:
    """Takes an exclusive lock once whoever holds it has given it back.

    Args:
      path: The lock file; created if missing.

    Raises:
      StorageError: If the file cannot be made.
    """
    with storage_errors(path):
        descriptor = _open_lock(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            os.close(descriptor)
            raise
    return FileLock(descriptor)


def named_process(path: Path) -> int:
    """Process that a lock file names; 0 for none.

    After a power cut that number may be anybody's: see `lock_holder`.

    Raises:
      StorageError: If the file cannot be read.
    """
    content = None
    with suppress(LimitError):  # not of our making
        content = read_if_present(path, _PID_BYTES_MAX)
    named = (content or b"").decode("ascii", "replace").strip()
    return int(named) if named.isdigit() else 0


def lock_holder(path: Path, proc: Path = PROC) -> int:
    """Process that holds a lock and stands in its file; 0 for none that shows here.

    Args:
      path: The lock file; not changed.
      proc: Where the kernel shows locks.

    Raises:
      StorageError: If the file cannot be read.
    """
    pid = named_process(path)
    return pid if str(pid) in _holders(path, proc) else 0


def is_locked(path: Path, proc: Path = PROC) -> bool:
    """True while a process holds a lock, be it that its number is not written yet.

    Args:
      path: The lock file; not changed. One that cannot be looked at is not locked.
      proc: Where the kernel shows locks.
    """
    return bool(_holders(path, proc))


def _holders(path: Path, proc: Path) -> set[str]:
    """Processes that hold a lock, as the kernel shows them.

    To try the lock instead could make a process that starts just then believe in
    another one, and would write the asker's number into the file.

    Source: proc(5) on /proc/locks.
    """
    try:
        inode = str(path.stat().st_ino)
        rows = [row.split() for row in (proc / "locks").read_text("utf-8").splitlines()]
    except OSError:
        return set()
    # The device is left out: some file systems show another one there than to `stat`.
    return {
        row[_PLACE - 1]
        for row in rows
        if len(row) > _PLACE
        and row[1] == "FLOCK"
        and row[_PLACE].rpartition(":")[2] == inode
    }


def _open_lock(path: Path) -> int:
    """Opens a lock file; links are not followed, as they could lead root anywhere."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    descriptor = os.open(path, flags, PRIVATE_MODE)
    try:
        give_to_owner_of(path.parent, descriptor)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
