"""Setting damaged files aside, so that the other coordinators can replace them."""

from dataclasses import dataclass
from pathlib import Path

from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE, is_damage
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.coordinator.runtime.storage.vote_journal import VOTES_FILE, VoteJournal
from starling.durable.files import storage_errors, sync_folder
from starling.protocol.errors import OperationError, StorageError

_LOG_ENDINGS = ("-wal", "-shm")


@dataclass(frozen=True)
class RecoveryReport:
    """What was found.

    Attributes:
      chain: What is wrong with the chain; None if a start would accept it.
      votes: What is wrong with the journal of own votes; None likewise.
      kept: Where the damaged files lie now.
    """

    chain: str | None
    votes: str | None
    kept: tuple[Path, ...]


def recover(home: CoordinatorHome) -> RecoveryReport:
    """Sets a damaged chain or journal aside; the next start begins without it.

    The chain comes back from the other coordinators. Without the journal the
    coordinator only observes until an operator lets it vote again.

    Raises:
      ConfigError: If the coordinator runs.
      OperationError: If the chain is damaged and nobody else has it.
      StorageError: If the disk refuses.
    """
    votes = _votes_damage(home.state / VOTES_FILE)
    chain = _chain_damage(home.state / CHAIN_FILE)
    if chain is not None and len(home.genesis().validators.members) == 1:
        raise OperationError(
            f"{chain}; nobody else has this chain: restore state/ from a backup"
        )
    kept: list[Path] = []
    if chain is not None:
        names = [CHAIN_FILE, *(CHAIN_FILE + ending for ending in _LOG_ENDINGS)]
        kept += _set_aside(home.state, names)
    if votes is not None:
        kept += _set_aside(home.state, [VOTES_FILE])
    return RecoveryReport(chain, votes, tuple(kept))


def _votes_damage(path: Path) -> str | None:
    if not path.exists():
        return None
    try:
        VoteJournal(path).close()
    except StorageError as error:
        return str(error)
    return None


def _chain_damage(path: Path) -> str | None:
    if not path.exists():
        return None
    try:
        store = SqliteStore.open(path)
        try:
            store.tip()
        finally:
            store.close()
    except StorageError as error:
        if not is_damage(error.__cause__):
            raise
        return str(error)
    return None


def _set_aside(folder: Path, names: list[str]) -> list[Path]:
    """Renames files, all with the same ending that none of them had before."""
    number = 1
    while any((folder / f"{name}.damaged-{number}").exists() for name in names):
        number += 1
    moved = []
    with storage_errors(folder):
        for name in names:
            if (folder / name).exists():
                target = folder / f"{name}.damaged-{number}"
                moved.append((folder / name).replace(target))
        sync_folder(folder)
    return moved
