"""The owner's way out: have everything counted that is still known to have been paid.

For a ledger that has lost entries, and for a data set that comes from another home. All
of it errs towards having paid more: what is damaged counts as releases of the dearest
kind that is known, and where nothing bounds what was paid, everything counts as spent.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from starling.agent.privacy.ledger import PrivacyLedger
from starling.agent.privacy.ledger_entries import (
    CARRIED,
    LEDGER_ID_BYTES,
    OWNER,
    PROVEN,
    SPENT,
    BudgetSpent,
    CarriedEntry,
    Charge,
    LedgerOwner,
    ProvenReleases,
    rates_of,
    read_entry,
)
from starling.agent.runtime.privacy_ledger import dataset_claim
from starling.agent.runtime.privacy_ledger.label_journal import carry_labels
from starling.agent.runtime.privacy_ledger.ledger_integrity import (
    base_of,
    journal_file,
    read_proof,
    unpaid,
)
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.agent.runtime.storage.spool import SpoolIndex
from starling.durable.files import (
    read_if_present,
    read_limited,
    storage_errors,
    sync_folder,
)
from starling.durable.journal import JOURNAL_BYTES_MAX, Journal
from starling.durable.journal_frames import FRAME_BYTES_MIN, JournalSalvage, salvage
from starling.protocol.errors import ConfigError, DecodeError, LimitError, StorageError
from starling.protocol.ids import ChainId, TaskId, Version
from starling.protocol.learning.task import LABEL_RESPONSE
from starling.protocol.privacy.mechanisms import NONE

_CHARGE_BYTES_MIN = 44
_BASE_MOST = 1 << 40


@dataclass(frozen=True)
class LedgerRecount:
    """Result of a recount.

    Attributes:
      kept: Entries that could still be read.
      added: What was counted besides, a line each.
      aside: Where the journal as it was lies now; None if it was sound.
    """

    kept: int
    added: tuple[str, ...]
    aside: Path | None


@dataclass
class _Book:
    """A journal that is being put together anew."""

    payloads: list[bytes]
    ledger: PrivacyLedger
    added: list[str]
    may_spend: bool = False

    def add(self, payload: bytes, why: str) -> None:
        self.ledger = self.ledger.after(read_entry(payload))
        self.payloads.append(payload)
        self.added.append(why)

    def spend(self, why: str) -> None:
        """Counts everything as spent, if the owner allows it."""
        if self.ledger.spent:
            return
        if not self.may_spend:
            raise ConfigError(
                f"{why}: nothing bounds what was paid. Put the newest copy of the "
                "ledger back, or say --as-fully-spent: then the data set is never "
                "trained on again"
            )
        self.add(SPENT.pack(BudgetSpent(6, why[:200])), f"everything, since {why}")


def recount(
    home: AgentHome,
    data: Path,
    *,
    chain: ChainId | None = None,
    take_data: bool = False,
    origin: Path | None = None,
    as_fully_spent: bool = False,
) -> LedgerRecount:
    """Counts everything that is still known; the agent must not run.

    Args:
      home: Whose ledger.
      data: Folder of the data set.
      chain: Which the board belongs to, if it is enrolled.
      take_data: Whether the data set is to be this ledger's from now on.
      origin: The home that had it; where the data set says by default.
      as_fully_spent: Whether everything counts as spent.

    Raises:
      ConfigError: If the data set is another ledger's and is not to be taken, or
        nothing bounds what was paid and not everything is to count as spent.
      StorageError: If the disk refuses.
    """
    path = journal_file(home)
    content = read_if_present(path, JOURNAL_BYTES_MAX) or b""
    found = salvage(content)
    book, lost = _read(found, may_spend=as_fully_spent)
    kept = len(book.payloads)
    if as_fully_spent:
        book.spend("the owner said so")
    for length in lost:
        _count_lost(book, length)
    _count_witnesses(book, home, chain)
    if not book.ledger.owner:
        identity = os.urandom(LEDGER_ID_BYTES)
        book.add(OWNER.pack(LedgerOwner(1, identity)), "an id for the ledger")
    claim = _claim(data, may_spend=as_fully_spent)
    with ExitStack() as stack:
        theirs = None
        if claim is not None and claim.ledger != book.ledger.owner.hex():
            theirs = _carry(book, home, claim, take_data=take_data, origin=origin)
        if theirs is not None:
            # Held open, and so locked, until the end: no agent may spend from it
            # meanwhile.
            stack.enter_context(theirs)
        aside = _write(path, book, None if lost else kept)
        if theirs is not None and claim is not None:
            count = carry_labels(AgentHome(origin or Path(claim.home)), home)
            book.added += [f"{count} batches of drawn labels"] if count else []
            why = f"its data set was moved to {home.path.absolute()}"
            # Once this journal is written: a power cut in between leaves what was paid
            # in both ledgers, and never in neither.
            theirs.append(SPENT.pack(BudgetSpent(6, why[:200])))
    ours = dataset_claim.DataSetClaim(
        book.ledger.owner.hex(), str(home.path.absolute())
    )
    # Last: until all is counted here the data name the ledger that had them.
    dataset_claim.write_claim(data, ours, home.state)
    return LedgerRecount(kept, tuple(book.added), aside)


def _read(found: JournalSalvage, *, may_spend: bool) -> tuple[_Book, list[int]]:
    """Takes every entry that still makes sense in its place.

    Returns:
      The book, and how long each part is that makes none.
    """
    book, lost = _Book([], PrivacyLedger(None, {}), [], may_spend), []
    for payload in found.payloads:
        try:
            book.ledger = book.ledger.after(read_entry(payload))
        except (ConfigError, DecodeError, LimitError):
            lost.append(FRAME_BYTES_MIN + len(payload))
            continue
        book.payloads.append(payload)
    return book, [*found.lost_bytes, *lost]


def _count_lost(book: _Book, length: int) -> None:
    """Counts a damaged part as charges of the dearest kind that is known."""
    most = max(1, length // (FRAME_BYTES_MIN + _CHARGE_BYTES_MIN))
    _count(book, most, f"{length} damaged bytes")


def _count(
    book: _Book, releases: int, why: str, last: tuple[TaskId, Version] | None = None
) -> None:
    """Counts releases of the dearest kind, and uses up all versions up to the last."""
    charges = list(book.ledger.charges.values())
    # Answers to labels have an account of their own.
    priced = [charge for charge in charges if charge.mechanism != LABEL_RESPONSE]
    dearest = max(priced, key=lambda charge: charge.units, default=None)
    if dearest is None:
        book.spend(f"{why} are lost and no charge is known to measure them by")
        return
    kinds = {charge.mechanism for charge in charges}
    lineage = dearest.slot[:2]
    bases = [charge.base for charge in charges if charge.slot[:2] == lineage]
    task, base = last or (dearest.task, max(bases))
    entry = ProvenReleases(
        3,
        dearest.chain,
        task,
        base + 1,
        releases,
        releases * dearest.units,
        0,
        max(charge.windows for charge in charges),
        sum(1 << kind for kind in kinds if kind != NONE),
        rates_of(charges),
    )
    book.add(PROVEN.pack(entry), f"{why} as {releases} releases of the dearest kind")


def _count_witnesses(book: _Book, home: AgentHome, chain: ChainId | None) -> None:
    """Counts what spool, proofs and index know of and the ledger does not."""
    for path in unpaid(home, book.ledger):
        proof = read_proof(path)
        # Without a proof nothing says what the release cost, and without a chain not
        # where it counts.
        if proof is None or chain is None:
            _count(book, 1, str(path), base_of(path))
            continue
        # The price stands in what the board signed itself.
        body = proof[1]
        below = Version(min(body.version, _BASE_MOST) + 1)
        kinds = 1 << body.mechanism
        rates = rates_of(book.ledger.charges.values())
        entry = ProvenReleases(
            3, chain, body.task, below, 1, body.charge, 0, 1, kinds, rates
        )
        book.add(PROVEN.pack(entry), f"the update that {path} proves")
    index = SpoolIndex(home.state / "index.json", lambda _: None)
    let_go = index.let_go()
    index.close()
    known = len(book.ledger.charges)
    known += sum(proven.releases for proven in book.ledger.proven)
    if let_go > known:
        _count(book, let_go - known, f"{let_go - known} updates that were let go")


def _claim(data: Path, *, may_spend: bool) -> dataset_claim.DataSetClaim | None:
    try:
        return dataset_claim.read_claim(data)
    except ConfigError:
        if not may_spend:
            raise
        return None


def _carry(
    book: _Book,
    home: AgentHome,
    claim: dataset_claim.DataSetClaim,
    *,
    take_data: bool,
    origin: Path | None,
) -> Journal | None:
    """Counts all that the ledger had paid which had the data set before."""
    source = origin or Path(claim.home)
    if source.absolute() == home.path.absolute():
        # Our own ledger, emptied since: what was in it is not known.
        book.spend("the ledger that the data set names was emptied")
        return None
    if not take_data:
        raise ConfigError(
            f"is counted by the ledger of {claim.home}; say --take-data to move the "
            "data set here with all that was paid",
            file=dataset_claim.FILE,
        )
    path = journal_file(AgentHome(source))
    try:
        # Opening would begin a journal where there is none.
        read_limited(path, JOURNAL_BYTES_MAX)
        journal, payloads = Journal.open(path, strict=True)
    except (LimitError, StorageError) as error:
        book.spend(f"{error}: that ledger counts the data set; name it with --from")
        return None
    try:
        _carry_all(book, bytes.fromhex(claim.ledger), payloads)
    except BaseException:
        journal.close()
        raise
    return journal


def _carry_all(book: _Book, ledger: bytes, payloads: Iterable[bytes]) -> None:
    entries = [read_entry(payload) for payload in payloads]
    owners = [entry.ledger for entry in entries if isinstance(entry, LedgerOwner)]
    # Else another data set's ledger, that has paid less, could be named.
    if owners != [ledger]:
        raise ConfigError("--from: is not the home whose ledger counts the data set")
    known = set(_carried(book.payloads))
    for payload, entry in zip(payloads, entries, strict=True):
        if isinstance(entry, LedgerOwner) or (ledger, payload) in known:
            continue
        packed = CARRIED.pack(CarriedEntry(5, ledger, payload))
        book.ledger = book.ledger.after(read_entry(packed))
        book.payloads.append(packed)
    count = sum(isinstance(entry, Charge | ProvenReleases) for entry in entries)
    book.added.append(f"{count} payments of the ledger that had the data set before")


def _carried(payloads: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    for payload in payloads:
        entry = read_entry(payload)
        if isinstance(entry, CarriedEntry):
            yield entry.ledger, entry.payload


def _write(path: Path, book: _Book, kept: int | None) -> Path | None:
    """Replaces the journal, or adds to it if it is sound and so many entries stay."""
    try:
        journal, _ = Journal.open(path, strict=True)
    except StorageError:
        aside = _set_aside(path)
        # The damaged one is kept: it may still tell a person more than a salvage can.
        journal, _ = Journal.open(path)
        with journal:
            journal.append_many(book.payloads)
        return aside
    with journal:
        if kept is not None:
            journal.append_many(book.payloads[kept:])
        else:
            journal.rewrite(book.payloads)
    return None


def _set_aside(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    with storage_errors(path):
        path.rename(aside)
        sync_folder(path.parent)
    return aside
