"""A party that is not the founder: its two steps, and what it believes of answers."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starling.broker.runtime.token_exchange import answer_by_token
from starling.coordinator.runtime.founding.founding_store import FoundingStore
from starling.coordinator.runtime.founding.party_home import (
    PartyOptions,
    check_certificates,
    complete,
    own_confirmation,
    own_entry,
)
from starling.coordinator.runtime.home import CoordinatorHome
from starling.protocol.chain.founding import (
    CONFIRMATION_FORMAT,
    ENTRY_FORMAT,
    RECORD_FORMAT,
    ROSTER_FORMAT,
    check_record,
    check_roster,
    document,
    read_document,
)
from starling.protocol.chain.founding_messages import (
    FOUNDING_CONFIRMATION,
    FOUNDING_ENTRY,
    FOUNDING_RECORD,
    FOUNDING_ROSTER,
    FoundingRecord,
    FoundingRoster,
)
from starling.protocol.errors import ConfigError, OperationError, ProtocolError
from starling.protocol.wire.enrolment_messages import EnrolmentKind
from starling.protocol.wire.enrolment_token import EnrolmentToken

Ask = Callable[[bytes], bytes]
"""Says something to the founder, and returns its proven answer."""


@dataclass(frozen=True)
class FoundedChain:
    """A founding to which all parties agreed.

    Attributes:
      roster: All parties, and the genesis.
      record: Their consents.
    """

    roster: FoundingRoster
    record: FoundingRecord


def founded_here(home: CoordinatorHome) -> FoundedChain | None:
    """The founding that this folder's chain came from; None if there is no chain.

    Raises:
      ConfigError: If the folder belongs to a chain that was made in another way.
    """
    if not (home.path / "genesis").exists():
        return None
    store = FoundingStore(home.founding)
    roster, record = store.roster(), store.record()
    if roster is None or record is None or roster.genesis != home.genesis():
        raise ConfigError("the folder belongs to a chain already", key="--home")
    return FoundedChain(roster, record)


def join_founding(
    home: CoordinatorHome,
    token: EnrolmentToken,
    asked: PartyOptions,
    wait_s: float,
    say: Callable[[str], None],
) -> FoundedChain:
    """Founds a chain with others, at a founder's broker.

    It goes on where an earlier call ended, at whatever moment that was.

    Args:
      home: The coordinator's folder, which may not be there yet.
      token: As the founder gave it.
      asked: What this party is to be.
      wait_s: For the others, at most.
      say: Told what is waited for.

    Raises:
      ConfigError: If the folder belongs to a chain, or a setting cannot be.
      OperationError: If we are refused, the founder's answer does not hold, or not all
        came in time.
      TransportError: If the founder's broker cannot be reached.
      StorageError: If the disk refuses.
    """
    if (before := founded_here(home)) is not None:
        return before
    until_s = time.monotonic() + wait_s

    def ask(content: bytes) -> bytes:
        # Of one time for both steps.
        left_s = max(0.0, until_s - time.monotonic())
        kind = EnrolmentKind.PARTY
        answer, _ = answer_by_token(token, kind, content, left_s, _no_code, say)
        return answer

    store = FoundingStore(home.founding)
    with store.begin():
        founded = agree(home, store, asked, ask, say)
        complete(home, founded.roster, founded.record, asked)
    return founded


def agree(
    home: CoordinatorHome,
    store: FoundingStore,
    asked: PartyOptions,
    ask: Ask,
    say: Callable[[str], None],
) -> FoundedChain:
    """Takes both steps of a founding, as far as they are not taken yet.

    What is said is on disk before, and what is answered is checked before it is kept.

    Raises:
      ConfigError, OperationError, TransportError, StorageError: As `join_founding`.
    """
    entry = own_entry(home, store, asked)
    roster = store.roster()
    if roster is None:
        say("waits until all parties are in")
        said = document(ENTRY_FORMAT, FOUNDING_ENTRY, entry)
        answer = ask(said)
        with _doubted():
            roster = read_document(ROSTER_FORMAT, FOUNDING_ROSTER, answer)
            # The founder made the genesis: our own entry has to be in it as we signed
            # it.
            check_roster(roster, entry)
        # Kept before we consent: no other roster is ever taken from here on.
        store.put_roster(roster)
    record = store.record()
    if record is None:
        say(f"all {len(roster.entries)} parties are in; waits until all agree")
        given = own_confirmation(home, store, roster, asked.broker)
        said = document(CONFIRMATION_FORMAT, FOUNDING_CONFIRMATION, given)
        answer = ask(said)
        with _doubted():
            record = read_document(RECORD_FORMAT, FOUNDING_RECORD, answer)
            check_record(record, roster)
            check_certificates(roster, record, entry)
        store.put_record(record)
    return FoundedChain(roster, record)


def _no_code(code: str) -> None:
    """An enrolment's code is of no use here: the founding has its own."""
    del code


@contextmanager
def _doubted() -> Iterator[None]:
    """Turns what a founder's answer breaks into a refusal of ours."""
    try:
        yield
    except ProtocolError as error:
        raise OperationError(
            f"the founder's answer does not hold: {error}; nothing is founded, and "
            "nothing was kept of it"
        ) from error
