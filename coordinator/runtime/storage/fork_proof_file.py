"""The proof that the chain forked, kept over restarts: nothing is decided with it."""

from pathlib import Path

from starling.coordinator.chain.gossip_messages import FORK, ForkProof
from starling.durable.files import read_if_present, write_atomic
from starling.protocol.errors import ProtocolError, StorageError

FORK_FILE = "fork"
"""Name of the file in a coordinator's `state/`."""


def read_fork(state: Path) -> ForkProof | None:
    """Reads the proof; None if the chain did not fork.

    Raises:
      StorageError: If the file is damaged, or the disk refuses.
    """
    path = state / FORK_FILE
    content = read_if_present(path, FORK.bytes_max)
    if content is None:
        return None
    try:
        return FORK.unpack(content)
    except ProtocolError as error:
        raise StorageError(f"{path}: no proof of a fork: {error}") from error


def write_fork(state: Path, payload: bytes) -> None:
    """Keeps a packed proof.

    Raises:
      StorageError: If the disk refuses.
    """
    write_atomic(state / FORK_FILE, payload)
