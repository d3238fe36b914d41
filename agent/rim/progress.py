"""Whom the board trusts, and the newest manifest that it believed, in one file."""

from dataclasses import dataclass, replace
from pathlib import Path

from durable.files import read_if_present, write_atomic
from protocol.codec import binary, structure
from protocol.errors import ProtocolError
from protocol.light import MANIFEST_BYTES_MAX, TRUSTED, Trusted


@dataclass(frozen=True)
class Progress:
    """What a board believes.

    Attributes:
      trusted: The light client's state.
      manifest: Packed; empty before the first.
    """

    trusted: Trusted
    manifest: bytes


_PROGRESS = structure(
    Progress,
    MANIFEST_BYTES_MAX + TRUSTED.bytes_max + 1024,
    TRUSTED.schema,
    binary(MANIFEST_BYTES_MAX),
)


def read_progress(path: Path, pinned: Trusted) -> Progress:
    """Reads what was believed before.

    A file that is missing, damaged or of another chain gives what is pinned again: all
    of it can be proven anew from there. So does one that knows less, of a board that is
    enrolled anew since it missed too much.

    Args:
      path: Of the file.
      pinned: What the admission says.

    Raises:
      StorageError: If the disk refuses.
    """
    try:
        content = read_if_present(path, _PROGRESS.bytes_max)
        if content is not None:
            progress = _PROGRESS.unpack(content)
            if progress.trusted.chain_id == pinned.chain_id:
                if progress.trusted.height < pinned.height:
                    return replace(progress, trusted=pinned)
                return progress
    except ProtocolError:
        pass
    return Progress(pinned, b"")


def write_progress(path: Path, progress: Progress) -> None:
    """Keeps what is believed now.

    Raises:
      StorageError: If the disk refuses.
    """
    write_atomic(path, _PROGRESS.pack(progress))
