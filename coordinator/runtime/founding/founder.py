"""The founder's side: entries and consents in, a roster and records out.

Its answers follow from its files alone, so that it may end at any moment, and the
coordinator that runs afterwards still answers those who missed the end.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from starling.coordinator.runtime.founding.founding_store import (
    FoundingStore,
    FoundingTerms,
)
from starling.coordinator.runtime.founding.party_home import (
    check_certificate,
    own_confirmation,
)
from starling.coordinator.runtime.home import CoordinatorHome
from starling.protocol.chain.founding import (
    CONFIRMATION_FORMAT,
    ENTRY_FORMAT,
    RECORD_FORMAT,
    ROSTER_FORMAT,
    check_consent,
    check_signed,
    document,
    read_document,
)
from starling.protocol.chain.founding_messages import (
    FOUNDING_CONFIRMATION,
    FOUNDING_ENTRY,
    FOUNDING_RECORD,
    FOUNDING_ROSTER,
    FOUNDING_VERSION,
    FoundingConfirmation,
    FoundingEntry,
    FoundingRecord,
    FoundingRoster,
    PartyCertificate,
    without_broker,
)
from starling.protocol.chain.genesis import genesis_of
from starling.protocol.errors import OperationError, ProtocolError
from starling.protocol.ids import PublicKey


@dataclass(frozen=True)
class FoundingProgress:
    """Progress of a founding.

    Attributes:
      parties: Number of them.
      present: Names of those whose entry is in, the founder's first.
      agreed: Names of those that consented.
    """

    parties: int
    present: tuple[str, ...]
    agreed: tuple[str, ...]

    def text(self) -> str:
        """For people."""
        if len(self.present) < self.parties:
            shown = ", ".join(self.present)
            return f"{len(self.present)} of {self.parties} parties are in: {shown}"
        shown = ", ".join(self.agreed) or "nobody yet"
        return f"all {self.parties} parties are in; agreed: {shown}"


def party_of(content: bytes) -> PublicKey:
    """The party that says something, proven by its signature.

    Raises:
      ProtocolError: If it is malformed, or an entry that its party did not sign.
    """
    if content.startswith(ENTRY_FORMAT.encode()):
        entry = read_document(ENTRY_FORMAT, FOUNDING_ENTRY, content)
        entry.check()
        return entry.public
    given = read_document(CONFIRMATION_FORMAT, FOUNDING_CONFIRMATION, content)
    check_signed(given.chain, given.consent)
    return given.consent.party


class Founder:
    """The founder's files, and the answers that follow from them."""

    def __init__(self, home: CoordinatorHome) -> None:
        """Names a coordinator's folder; `start_founding` begins a founding there."""
        self._home = home
        self._store = FoundingStore(home.founding)

    def answer(self, content: bytes) -> bytes | None:
        """Answers what a party says.

        Args:
          content: As `party_of` accepted it.

        Returns:
          The roster once all are in, or the record once all agree; None before.

        Raises:
          OperationError: If the party is refused.
          ConfigError: If the authority's key is not here, or a file is damaged.
          StorageError: If the disk refuses.
        """
        terms, own = self._store.terms(), self._store.own()
        if terms is None or own is None:
            raise OperationError("no chain is founded here")
        if content.startswith(ENTRY_FORMAT.encode()):
            entry = read_document(ENTRY_FORMAT, FOUNDING_ENTRY, content)
            roster = self._entered(terms, own, entry)
            if roster is None:
                return None
            return document(ROSTER_FORMAT, FOUNDING_ROSTER, roster)
        given = read_document(CONFIRMATION_FORMAT, FOUNDING_CONFIRMATION, content)
        record = self._confirmed(terms, given)
        return (
            None if record is None else document(RECORD_FORMAT, FOUNDING_RECORD, record)
        )

    def progress(self) -> FoundingProgress | None:
        """Parties that are in, and that agreed; None if no chain is founded here."""
        terms, own = self._store.terms(), self._store.own()
        if terms is None or own is None:
            return None
        present = [own, *self._store.entries()]
        roster = self._store.roster()
        agreed = [
            entry.name
            for entry in present
            if roster is not None
            and self._store.confirmation(entry.public, roster.genesis.chain_id())
        ]
        names = tuple(entry.name for entry in present)
        return FoundingProgress(terms.parties, names, tuple(agreed))

    def own_record(self) -> FoundingRecord | None:
        """The founder's own record, once all agree."""
        roster = self._store.roster()
        return None if roster is None else self._record(roster, roster.founder)

    def _entered(
        self, terms: FoundingTerms, own: FoundingEntry, entry: FoundingEntry
    ) -> FoundingRoster | None:
        roster = self._store.roster()
        if roster is not None:
            # By value: the same party with another entry would not be the one that
            # others agreed to.
            if entry not in roster.entries:
                raise OperationError(_taken(roster, entry))
            return roster
        others = [each for each in self._store.entries() if each.public != entry.public]
        _require_place(terms, [own, *others], entry)
        # In place of its earlier one: until the roster is made a party may think better
        # of it.
        self._store.put_entry(entry)
        # By key, so that the genesis does not depend on who came first.
        entries = sorted([own, *others, entry], key=lambda each: each.public)
        if len(entries) < terms.parties:
            return None
        lost = without_broker(entries)
        if entry in lost:
            self._store.drop_entry(entry)
            hosts = ", ".join(each.name for each in entries if each.broker)
            raise OperationError(f"no party {entry.at!r} runs a broker: {hosts} do")
        # Somebody else's `--at` names no broker: it is told once its own entry is
        # looked at.
        if lost:
            return None
        return self._all_in(terms, own, entries)

    def _all_in(
        self, terms: FoundingTerms, own: FoundingEntry, entries: list[FoundingEntry]
    ) -> FoundingRoster:
        try:
            genesis = genesis_of(
                entries,
                own.fleet,
                time.time_ns() // 10**6,
                terms.fault_model,
                terms.heartbeat_s,
                terms.economy,
            )
            roster = FoundingRoster(
                FOUNDING_VERSION, genesis, own.public, tuple(entries)
            )
            # Packed once here, so that what is too large for the wire is found before
            # it is kept.
            FOUNDING_ROSTER.pack(roster)
        except ProtocolError as error:
            raise OperationError(f"these parties make no genesis: {error}") from error
        self._store.put_roster(roster)
        return roster

    def _confirmed(
        self, terms: FoundingTerms, given: FoundingConfirmation
    ) -> FoundingRecord | None:
        roster = self._store.roster()
        if roster is None or given.chain != roster.genesis.chain_id():
            raise OperationError(
                "that is a consent to another founding, which was given up; remove "
                "the folder `founding` in your coordinator's home, and run this again"
            )
        try:
            self._check(roster, given)
        except ProtocolError as error:
            raise OperationError(f"the consent does not hold: {error}") from error
        # The founder's own consent is made with the first one of another party.
        own_confirmation(self._home, self._store, roster, Path(terms.broker))
        # The first one stands: its certificates may be in a record already.
        if self._store.confirmation(given.consent.party, given.chain) is None:
            self._store.put_confirmation(given)
        return self._record(roster, given.consent.party)

    def _check(self, roster: FoundingRoster, given: FoundingConfirmation) -> None:
        party = check_consent(roster, given.consent)
        certified = [each.party for each in given.certificates]
        others = [each for each in roster.entries if each != party]
        # In the roster's order, and none of a party that runs no broker.
        if certified != [each.public for each in others if party.broker]:
            raise ProtocolError("its broker does not certify each other party once")
        for holder, each in zip(others, given.certificates, strict=False):
            check_certificate(each.certificate, party, holder)

    def _record(
        self, roster: FoundingRoster, party: PublicKey
    ) -> FoundingRecord | None:
        chain = roster.genesis.chain_id()
        given = [
            self._store.confirmation(each.public, chain) for each in roster.entries
        ]
        known = [each for each in given if each is not None]
        if len(known) < len(roster.entries):
            return None
        certificates = tuple(
            PartyCertificate(each.consent.party, mine.certificate)
            for each in known
            for mine in each.certificates
            if mine.party == party
        )
        consents = tuple(each.consent for each in known)
        return FoundingRecord(FOUNDING_VERSION, chain, consents, certificates)


def _require_place(
    terms: FoundingTerms, present: list[FoundingEntry], entry: FoundingEntry
) -> None:
    """Refuses an entry beside those that are there.

    Raises:
      OperationError: If there is no place for it.
    """
    shown = ", ".join(each.name for each in present)
    if len(present) >= terms.parties:
        raise OperationError(
            f"this founding has its {terms.parties} parties: {shown}; if one of them "
            "is not wanted, the founder begins again: init --parties N --anew"
        )
    if entry.fleet != present[0].fleet:
        raise OperationError(f"this founding is of the fleet {present[0].fleet!r}")
    if any(each.name == entry.name for each in present):
        raise OperationError(f"another party is called {entry.name!r}: give --name")
    places = [(one.host, one.port) for each in present for one in each.broker]
    if any((one.host, one.port) in places for one in entry.broker):
        raise OperationError(
            f"another party's broker is at {entry.broker[0].host}:"
            f"{entry.broker[0].port}: give --host, or take --at in place of --broker"
        )


def _taken(roster: FoundingRoster, entry: FoundingEntry) -> str:
    shown = ", ".join(each.name for each in roster.entries)
    if roster.entry_of(entry.public) is not None:
        return (
            f"the founding is complete, and {entry.name} is in it with another entry; "
            "the founder begins again: coordinator init --parties N --anew"
        )
    return f"the founding has its {len(roster.entries)} parties: {shown}"
