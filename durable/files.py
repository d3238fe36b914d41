"""Small files that survive a power cut, and the checks around them.

A file is replaced whole or not at all: new file, fsync, rename, fsync of the folder.
One process writes a given file; whoever needs that enforced takes a lock first
(`durable.locks`). What the operating system refuses becomes a `StorageError` that names
the file.

Source: Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014 (why each of
the four steps is needed).
"""

import errno
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from starling.protocol.errors import ConfigError, LimitError, StorageError

PRIVATE_MODE = 0o600
PRIVATE_FOLDER_MODE = 0o700
_ANY_MODE = 0o777
"""What the umask leaves of it."""
_GROUP_OR_OTHERS = 0o077
_FULL = (errno.ENOSPC, errno.EDQUOT)
_OTHER_USER = "run as the user who owns it, or give this user the right to it"
_REMEDIES = {
    errno.EACCES: _OTHER_USER,
    errno.EPERM: _OTHER_USER,
    errno.EROFS: "look at `dmesg`, then mount the disk for writing again",
    errno.EEXIST: "something else is in its place: move that away",
    errno.EISDIR: "a file belongs here: move the folder away",
    errno.ENOTDIR: "something else is in its place: move that away",
    errno.EMFILE: "raise the limit of open files (LimitNOFILE=, ulimit -n)",
    errno.ENFILE: "raise the system's limit of open files (sysctl fs.file-max)",
    errno.EAGAIN: "raise the limit of processes and threads (TasksMax=, ulimit -u)",
    errno.ENOMEM: "free memory, or raise the limit (MemoryMax=)",
}


def refusal(error: OSError) -> str:
    """Message for what the operating system refused, with the operator's remedy."""
    if error.errno in _FULL:
        return "disk full"
    text = error.strerror or str(error)
    remedy = _REMEDIES.get(error.errno or 0)
    return text if remedy is None else f"{text}; {remedy}"


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns what the operating system refuses into a `StorageError` about `path`."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path}: {refusal(error)}") from error


def is_there(path: Path) -> bool:
    """True if there is such a file.

    Raises:
      StorageError: If that cannot be seen, as on a disk that was pulled out.
    """
    with storage_errors(path):
        return path.exists()


def write_all(descriptor: int, content: bytes) -> None:
    """Writes every byte to an open file; plain `os.write` may stop short."""
    view = memoryview(content)
    while view:
        # A view is cut without copying what is left.
        view = view[os.write(descriptor, view) :]


def sync_folder(folder: Path) -> None:
    """Makes renames, creations and removals inside a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_temporary(
    path: Path, content: bytes, mode: int = PRIVATE_MODE, *, sync: bool = True
) -> Path:
    """Writes, and syncs if asked, the file that will take the place of `path`.

    The name is fixed, so that a crash leaves at most one, which the next write reuses.

    Returns:
      The temporary file's path, in the folder of `path`.

    Raises:
      OSError: As the system says; nothing is left behind.
    """
    if not path.name:
        # An empty argument is the folder that we are in.
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    temporary = path.with_name(f".{path.name}.tmp")
    # A link in this place could lead a process of root to any file.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    descriptor = os.open(temporary, flags, mode)
    try:
        # Neither the umask nor an older temporary file may decide the mode.
        os.fchmod(descriptor, mode)
        give_to_owner_of(path.parent, descriptor)
        write_all(descriptor, content)
        if sync:
            os.fsync(descriptor)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise
    finally:
        os.close(descriptor)
    return temporary


def write_atomic(path: Path, content: bytes, mode: int = PRIVATE_MODE) -> None:
    """Replaces a file; after a power cut it holds the old or the new content.

    Args:
      path: The file; its folder must exist.
      content: All of the new content.
      mode: Permission bits of the new file, whatever the umask.

    Raises:
      StorageError: If the disk refuses; the old content is then still there.
    """
    with storage_errors(path):
        temporary = write_temporary(path, content, mode)
        # After the sync of the content and before that of the folder: in any other
        # order a power cut may leave an empty file under the name.
        os.replace(temporary, path)  # noqa: PTH105 - the tests cut the power at os calls
        sync_folder(path.parent)


def replace_unsynced(path: Path, content: bytes, mode: int = PRIVATE_MODE) -> None:
    """Replaces a file that can be made again, and is never seen half written.

    Args:
      path: The file; its folder must exist.
      content: All of the new content.
      mode: Permission bits of the new file, whatever the umask.

    Raises:
      StorageError: If the disk refuses; the old content is then still there.
    """
    with storage_errors(path):
        write_temporary(path, content, mode, sync=False).replace(path)


@contextmanager
def erasing(path: Path) -> Iterator[None]:
    """Overwrites a secret file with zeros after the block has removed or replaced it.

    Only afterwards, so that a power cut never leaves zeros under the name. On a plain
    disk this is the end of the old content. Flash cards write elsewhere what is written
    over, and some file systems copy on write: there the old content stays until the
    block is erased, and only encryption of the whole disk helps.

    Raises:
      StorageError: If the file is missing or the disk refuses.
    """
    with storage_errors(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        yield
        with storage_errors(path):
            # A block that ended early may have left the secret in its place, and in
            # use.
            if os.fstat(descriptor).st_nlink == 0:
                write_all(descriptor, bytes(os.fstat(descriptor).st_size))
                os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_limited(path: Path, bytes_max: int) -> bytes:
    """Reads a file of at most `bytes_max` bytes.

    Raises:
      LimitError: If it is longer; at most one byte too many is read.
      StorageError: If it is missing or cannot be read.
    """
    with storage_errors(path), path.open("rb") as file:
        # `read` sets aside what it is asked for: a small file under a large limit would
        # cost the limit.
        size = os.fstat(file.fileno()).st_size
        content = file.read(min(size, bytes_max) + 1)
    if len(content) > bytes_max:
        raise LimitError(f"{path}: more than {bytes_max} bytes")
    return content


def read_if_present(path: Path, bytes_max: int) -> bytes | None:
    """Reads like `read_limited`; a file that does not exist gives None."""
    try:
        return read_limited(path, bytes_max)
    except StorageError as error:
        # No look beforehand: the file may go between the two.
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


def read_configured(path: Path, bytes_max: int) -> bytes | None:
    """Reads like `read_if_present` what an operator puts there.

    Raises:
      ConfigError: If it is longer, or no file: starting again would not help.
      StorageError: If it cannot be read.
    """
    try:
        return read_if_present(path, bytes_max)
    except LimitError as error:
        raise ConfigError(f"more than {bytes_max} bytes", file=str(path)) from error
    except StorageError as error:
        if isinstance(error.__cause__, IsADirectoryError | NotADirectoryError):
            raise ConfigError("a file belongs here", file=str(path)) from error
        raise


def require_private(path: Path) -> None:
    """Refuses a secret file that others than its owner can touch.

    Raises:
      ConfigError: With the command that puts it right.
      StorageError: If the file is missing.
    """
    with storage_errors(path):
        mode = path.stat().st_mode
    if mode & _GROUP_OR_OTHERS:
        raise ConfigError(
            f"readable by others (mode {mode & 0o777:04o}); run: chmod 600 {path}",
            file=str(path),
        )


def require_writable(folder: Path) -> None:
    """Refuses a folder that this process cannot make files in.

    Raises:
      StorageError: With what the system would say, and its remedy.
    """
    if os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return
    with storage_errors(folder):
        is_read_only = os.statvfs(folder).f_flag & os.ST_RDONLY
        number = errno.EROFS if is_read_only else errno.EACCES
        raise OSError(number, os.strerror(number))


@contextmanager
def private_files() -> Iterator[None]:
    """Makes files in the block private to their owner, whichever library makes them."""
    # SQLite and others make files beside the one that they are given, with modes of
    # their own.
    before = os.umask(_GROUP_OR_OTHERS)
    try:
        yield
    finally:
        os.umask(before)


def make_private(folder: Path, leave: Collection[str] = ()) -> list[Path]:
    """Takes a folder, and all that is in it, from its group and from others.

    Links are not followed, and what belongs to another user stays as it is.

    Args:
      folder: What to begin with.
      leave: Names of subfolders of `folder` whose files stay as they are.

    Returns:
      What was changed.

    Raises:
      StorageError: If the disk refuses.
    """
    changed = []
    with storage_errors(folder):
        for place, folders, files in os.walk(folder):
            here = Path(place)
            # The subfolder itself is closed all the same; what is inside is then out of
            # reach.
            is_left = here.parent == folder and here.name in leave
            kept = [] if is_left else [here / name for name in sorted(files)]
            if is_left:
                folders.clear()
            changed += [path for path in (here, *kept) if _close(path)]
    return changed


def _close(path: Path) -> bool:
    status = path.lstat()
    mode = stat.S_IMODE(status.st_mode)
    is_ours = status.st_uid == os.geteuid() and not stat.S_ISLNK(status.st_mode)
    if is_ours and mode & _GROUP_OR_OTHERS:
        path.chmod(mode & ~_GROUP_OR_OTHERS)
        return True
    return False


def destroy(path: Path) -> None:
    """Overwrites a secret, syncs that, and removes it.

    What the medium keeps elsewhere, as flash memory and snapshots do, is out of reach.

    Raises:
      StorageError: If the file is missing or the disk refuses.
    """
    with storage_errors(path):
        size = path.stat().st_size
        descriptor = os.open(path, os.O_WRONLY)
        try:
            # Random bytes, which no file system compresses or stores as a hole.
            write_all(descriptor, os.urandom(size))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        path.unlink()
        sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Makes a folder for its owner alone, and what is missing above it.

    As a file, a folder that root makes in another user's belongs to that user.

    Raises:
      StorageError: If the disk refuses, or a file is in the way.
    """
    with storage_errors(folder):
        missing = [each for each in (folder, *folder.parents) if not each.is_dir()]
        # From the top down. Only the folder itself is private: those above may be
        # shared.
        for each in reversed(missing):
            mode = PRIVATE_FOLDER_MODE if each == folder else _ANY_MODE
            each.mkdir(mode, exist_ok=True)
            descriptor = os.open(each, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                give_to_owner_of(each.parent, descriptor)
            finally:
                os.close(descriptor)


def free_bytes(path: Path) -> int:
    """Bytes that this process may still write where `path` lies.

    Raises:
      StorageError: If the path does not exist.
    """
    with storage_errors(path):
        status = os.statvfs(path)
    # Not `f_bfree`, which counts what is kept back for root.
    return status.f_bavail * status.f_frsize


def give_to_owner_of(folder: Path, descriptor: int) -> None:
    """Gives a file or folder that root makes in another user's folder to that user.

    A command run as root would otherwise keep the service of that folder out. A file
    with a second name may be any file that the owner of the folder led root to.
    """
    if os.geteuid() != 0:
        return
    found, owner = os.fstat(descriptor), folder.stat()
    is_file = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
    is_new = found.st_uid == 0 and (is_file or stat.S_ISDIR(found.st_mode))
    if is_new and owner.st_uid != 0:
        # Root of a container may not, where the owner has no number inside.
        with suppress(OSError):
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
