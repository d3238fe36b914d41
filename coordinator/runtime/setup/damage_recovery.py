"""Setting damaged files aside, so that the other coordinators can replace them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from starling.coordinator.chain.verification.audit import (
    AuditResult,
    Observe,
    audit,
    unobserved,
)
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.signature_pool import SignaturePool
from starling.coordinator.runtime.storage.sqlite_schema import (
    CHAIN_FILE,
    LOG_ENDINGS,
    REMEDY,
    is_damage,
)
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.coordinator.runtime.storage.vote_journal import VOTES_FILE, VoteJournal
from starling.durable.files import storage_errors, sync_folder
from starling.durable.journal_frames import DamagedJournal
from starling.protocol.errors import OperationError, StorageError

_ALONE_MAX = 20_000
"""Signatures that one process checks before another one has started."""


@dataclass(frozen=True)
class RecoveryReport:
    """Findings of a recovery.

    Attributes:
      chain: What is wrong with the chain; None if all of it holds.
      votes: What is wrong with the journal of own votes; None likewise.
      kept: Where the damaged files lie now.
    """

    chain: str | None
    votes: str | None
    kept: tuple[Path, ...]

    def text(self) -> str:
        """Text of it, for people, with what is lost and what to do."""
        lines = [line for line in (self.chain, self.votes) if line is not None]
        if self.chain is not None:
            lines.append(
                "the chain comes back from the other coordinators at the next start; "
                "lost are updates that were in no block yet, model bytes and metrics"
            )
        if self.votes is not None:
            lines.append(
                "without its votes it only observes, until: starling coordinator resume"
            )
        lines += [f"kept as {path}" for path in self.kept]
        return "\n".join(lines) or "nothing is damaged"


def recover(home: CoordinatorHome) -> RecoveryReport:
    """Sets a damaged chain or journal aside; the next start begins without it.

    The whole chain is checked, as `starling chain verify` does: a start looks at its
    end alone. It comes back from the other coordinators. Without the journal the
    coordinator only observes until an operator lets it vote again.

    Args:
      home: The coordinator's folder.

    Raises:
      ConfigError: If the coordinator runs.
      OperationError: If the chain is damaged and nobody else has it.
      StorageError: If the disk refuses.
    """
    # First the journal: its lock refuses while the coordinator runs.
    votes = _votes_damage(home.state / VOTES_FILE)
    chain = _chain_damage(home.state / CHAIN_FILE)
    if chain is not None and len(home.genesis().validators.members) == 1:
        raise OperationError(
            f"{chain}; nobody else has this chain: restore state/ from a backup"
        )
    kept: list[Path] = []
    if chain is not None:
        logs = [CHAIN_FILE + ending for ending in LOG_ENDINGS]
        kept += _set_aside(home.state, logs, CHAIN_FILE)
    if votes is not None:
        kept += _set_aside(home.state, [], VOTES_FILE)
    return RecoveryReport(chain, votes, tuple(kept))


def _votes_damage(path: Path) -> str | None:
    if not path.exists():
        return None
    try:
        VoteJournal(path).close()
    except DamagedJournal as error:
        return str(error)
    return None


def _chain_damage(path: Path) -> str | None:
    if not path.exists():
        return None
    try:
        store = SqliteStore.open(path)
        try:
            # Its root first, which is quick, before all blocks are executed again.
            store.tip()
            fault = audit_store(store, lambda _height: None).fault
        finally:
            store.close()
    except StorageError as error:
        if not is_damage(error.__cause__):
            raise
        return str(error)
    if fault is None:
        return None
    return f"{path}: height {fault.height}, {fault.field}: {fault.detail}; {REMEDY}"


def audit_store(
    store: SqliteStore,
    progress: Callable[[int], None],
    observe: Observe = unobserved,
) -> AuditResult:
    """Checks a chain from its genesis on, with other processes where that is faster.

    Args:
      store: The open chain.
      progress: Told each height that holds.
      observe: Who looks at the executed blocks.
    """
    with store.one_moment():
        many = store.signatures() >= _ALONE_MAX
        with SignaturePool(store.genesis, None if many else 0) as pool:
            return audit(store, progress, pool.ahead, observe)


def _set_aside(folder: Path, logs: list[str], name: str) -> list[Path]:
    """Renames files, all with the same ending that none of them had before."""
    number = 1
    names = [name, *logs]
    while any((folder / f"{each}.damaged-{number}").exists() for each in names):
        number += 1
    moved = []
    with storage_errors(folder):
        # The logs first: one that a power cut left beside no chain would be replayed
        # into the next chain of this name.
        for each in (*logs, name):
            if (folder / each).exists():
                target = folder / f"{each}.damaged-{number}"
                moved.append((folder / each).replace(target))
                sync_folder(folder)
    return sorted(moved)
