"""Locks that make a process the only one of its kind in a folder."""

import fcntl
import os
from pathlib import Path

from starling.durable.files import (
    PRIVATE_MODE,
    give_to_owner_of,
    storage_errors,
    write_all,
)
from starling.protocol.errors import ConfigError


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
