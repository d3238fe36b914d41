"""Trusted validators and newest trusted manifest, in one file."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from starling.durable.files import read_if_present, write_atomic
from starling.protocol.chain.light_client import (
    MANIFEST_BYTES_MAX,
    TRUSTED,
    TrustedState,
)
from starling.protocol.errors import ProtocolError
from starling.protocol.schema.msgpack_codec import Structure, binary, structure


class StoredTrust(Structure, frozen=True):
    """Trusted state of a board, as stored.

    Attributes:
      trusted: The light client's state.
      manifest: Packed; empty before the first.
    """

    trusted: TrustedState
    manifest: Annotated[bytes, binary(MANIFEST_BYTES_MAX)]


PROOF_FILE = "current.proof"
"""Beside the model that is used: as `write_progress` writes it."""
_PROGRESS = structure(StoredTrust, MANIFEST_BYTES_MAX + TRUSTED.bytes_max + 1024)


def read_progress(path: Path, pinned: TrustedState) -> StoredTrust:
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
    return StoredTrust(pinned, b"")


def write_progress(path: Path, progress: StoredTrust) -> None:
    """Keeps what is believed now.

    Raises:
      StorageError: If the disk refuses.
    """
    write_atomic(path, _PROGRESS.pack(progress))


def keep_proof(progress: Path, models: Path) -> None:
    """Keeps what proves the model that is about to be used, beside it.

    The newest manifest may be of a version whose parameters never come.

    Args:
      progress: The file of `write_progress`.
      models: Folder of the models.

    Raises:
      StorageError: If the disk refuses.
    """
    content = read_if_present(progress, _PROGRESS.bytes_max)
    if content is not None:
        write_atomic(models / PROOF_FILE, content)
