"""Opens the privacy ledger, and refuses to if anything says that it has lost entries.

The journal itself may be damaged; it may have been emptied, cut off or put back from an
old copy while the rest of the home is newer. Then the home's other parts know of more
than the ledger does: the spool and the proofs name base versions, the index counts
updates that were let go, and the data set names the ledger that counts it. Each of
these is a witness, and a ledger that contradicts one is not used: what was lost cannot
be told from what was never paid. The owner then has everything counted that is still
known, by `starling agent recount`. What an old copy of the whole home has forgotten
contradicts nothing here; the chain knows it (`agent.sync.ledger_reconciliation`).
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from starling.agent.privacy.ledger import PrivacyLedger
from starling.agent.privacy.ledger_entries import LEDGER_ID_BYTES
from starling.agent.runtime.privacy_ledger import dataset_claim
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.agent.runtime.storage.spool import SpoolIndex
from starling.durable.files import read_limited
from starling.durable.journal import Journal
from starling.durable.journal_frames import DamagedJournal
from starling.protocol.chain.light_client import FINAL
from starling.protocol.errors import (
    ConfigError,
    LimitError,
    ProtocolError,
    StorageError,
)
from starling.protocol.ids import TaskId, Version
from starling.protocol.privacy.gaussian_dp import Budget
from starling.protocol.wire.envelope import Envelope
from starling.protocol.wire.message_bodies import CONTRIBUTION, Contribution

JOURNAL_FILE = "privacy.journal"
_NAME = re.compile(r"(\d{1,5})-(\d{1,18})\.(?:proof|upload|upload\.damaged)")


@dataclass(frozen=True)
class OpenedLedger:
    """A ledger that nothing contradicts.

    Attributes:
      journal: Open.
      ledger: What it holds.
      place: Where the data set says whose it is.
    """

    journal: Journal
    ledger: PrivacyLedger
    place: dataset_claim.ClaimLocation


def journal_file(home: AgentHome) -> Path:
    """Path of a home's privacy journal."""
    return home.state / JOURNAL_FILE


def open_ledger(
    home: AgentHome, cap: Budget | None, data: Path, windows: int, index: SpoolIndex
) -> OpenedLedger:
    """Opens a home's privacy ledger.

    Args:
      home: The agent's home.
      cap: The owner's budget.
      data: Folder of the data set.
      windows: Records that one raw sample can stand in.
      index: Of the home's uploads.

    Raises:
      ConfigError: If the journal is damaged or has lost entries, the data set belongs
        to another ledger, or another process has the journal open.
      StorageError: If the disk refuses.
    """
    path = journal_file(home)
    try:
        journal, payloads = Journal.open(path, strict=True)
    except DamagedJournal as error:
        raise _lost(home, str(error)) from error
    try:
        return _checked(home, cap, data, windows, index, journal, payloads)
    except BaseException:
        journal.close()
        raise


def _checked(
    home: AgentHome,
    cap: Budget | None,
    data: Path,
    windows: int,
    index: SpoolIndex,
    journal: Journal,
    payloads: list[bytes],
) -> OpenedLedger:
    path = journal_file(home)
    try:
        ledger = PrivacyLedger.load(cap, payloads)
    except StorageError as error:
        raise _lost(home, f"{path}: {error}") from error
    # One is enough: the recount looks for all of them.
    witness = next(contradictions(home, ledger, index), None)
    if witness is not None:
        raise _lost(home, f"{path}: {witness}, and no entry says that it was paid")
    if not ledger.owner:
        known = dataset_claim.read_claim(data)
        if known is not None and known.home == str(home.path.absolute()):
            raise _lost(
                home, f"{path}: is empty, and {dataset_claim.claim_file(data)} is not"
            )
        ledger, entry = ledger.name(os.urandom(LEDGER_ID_BYTES))
        # Before the claim is written, since an id beside the data that no journal knows
        # would look like an emptied ledger. Another ledger's claim is refused below,
        # and then nothing may be written.
        if known is None:
            journal.append(entry)
    place = dataset_claim.take(data, ledger.owner, home.path)
    # More windows make each past charge dearer: it must be on disk before anything is
    # priced by them.
    ledger, widened = ledger.widen(windows)
    if widened is not None:
        journal.append(widened)
    return OpenedLedger(journal, ledger, place)


def _lost(home: AgentHome, why: str) -> ConfigError:
    return ConfigError(
        f"{why}: the privacy ledger has lost entries, and what they paid must not be "
        "spent again. Put the newest copy of it back, or have all counted that is "
        f"still known: starling agent recount --home {home.path}"
    )


def contradictions(
    home: AgentHome, ledger: PrivacyLedger, index: SpoolIndex
) -> Iterator[str]:
    """Releases that the home shows and its ledger lacks.

    Of a ledger that counts everything as spent nothing can be missing.
    """
    if ledger.spent:
        return
    for path in unpaid(home, ledger):
        yield f"{path} exists"
    let_go, releases = index.let_go(), len(ledger.charges)
    releases += sum(proven.releases for proven in ledger.proven)
    if let_go > releases:
        yield f"{let_go} updates were let go, and it knows of {releases}"


def unpaid(home: AgentHome, ledger: PrivacyLedger) -> list[Path]:
    """Files of the spool and the proofs whose base version the ledger does not have.

    A name says task and base version, not the chain: it is looked at more closely only
    if no chain's entry has them. A proof is not synced, so that one which a power cut
    spoiled says nothing; the spool is.
    """
    paid = {(task, base) for _, task, base in ledger.charges}
    found = []
    for folder in (home.spool, home.proofs):
        for path in sorted(folder.glob("*-*.*")):
            named = base_of(path)
            if named is None:
                continue
            task, base = named
            below = [each for at, each in ledger.below.items() if at[1] == task]
            if (task, base) in paid or base < max(below, default=0):
                continue
            if folder == home.spool or read_proof(path) is not None:
                found.append(path)
    return found


def base_of(path: Path) -> tuple[TaskId, Version] | None:
    """The task and base version that a file of the spool or the proofs is named by."""
    named = _NAME.fullmatch(path.name)
    return None if named is None else (TaskId(int(named[1])), Version(int(named[2])))


def read_proof(path: Path) -> tuple[Envelope, Contribution] | None:
    """The update that a kept proof is of; None if it cannot be read."""
    try:
        proof = FINAL.unpack(read_limited(path, FINAL.bytes_max))
        return proof.transaction, CONTRIBUTION.unpack(proof.transaction.body)
    except (LimitError, ProtocolError, StorageError):
        return None
