"""The founder's command: a token for the others, and answers until all agree."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from starling.broker.broker_settings import reachable_host
from starling.broker.runtime.broker_home import BrokerHome
from starling.broker.runtime.pinned_authority import fetch_authority, fingerprint
from starling.coordinator.runtime.enrolment.enrolment_store import (
    ClaimState,
    EnrolmentStore,
)
from starling.coordinator.runtime.enrolment.new_token import issue_token
from starling.coordinator.runtime.enrolment.registrar_threads import newcomers_answered
from starling.coordinator.runtime.founding.founder import Founder
from starling.coordinator.runtime.founding.founding_store import (
    FoundingStore,
    FoundingTerms,
)
from starling.coordinator.runtime.founding.party import FoundedChain, founded_here
from starling.coordinator.runtime.founding.party_home import (
    PartyOptions,
    complete,
    own_entry,
)
from starling.coordinator.runtime.home import CoordinatorHome
from starling.protocol.chain.founding import CONFIRMATION_FORMAT, check_record
from starling.protocol.chain.genesis import FaultModel
from starling.protocol.errors import (
    ConfigError,
    DecodeError,
    OperationError,
    TransportError,
)
from starling.protocol.wire.enrolment_messages import EnrolmentKind
from starling.protocol.wire.enrolment_token import letters, token_from_line

POLL_S = 0.1
LINGER_S = 10.0
"""For which the others are still answered once all agree; later the coordinator is."""
_FLUSH_S = 1.0
_CRASH_PARTIES_MAX = 3


@dataclass(frozen=True)
class FounderOptions:
    """Options of `init` for the founder.

    Attributes:
      party: What it is itself, with a broker.
      terms: Of the founding.
      life_s: How long a token for the others is good.
      anew: Whether to forget who came before.
    """

    party: PartyOptions
    terms: FoundingTerms
    life_s: int
    anew: bool = False


def host_founding(
    home: CoordinatorHome,
    asked: FounderOptions,
    wait_s: float,
    show_token: Callable[[str], None],
    say: Callable[[str], None],
) -> FoundedChain:
    """Founds a chain with others who come to our broker.

    It goes on where an earlier call ended, at whatever moment that was. Once all agreed
    `asked.anew` makes another token alone, for a party that did not hear of it in time:
    the coordinator that runs tells it.

    Args:
      home: The coordinator's folder, which may not be there yet.
      asked: What is to be founded.
      wait_s: For the others, at most.
      show_token: Called with the line for the others, which is secret.
      say: Told who is in.

    Raises:
      ConfigError: If the folder belongs to a chain, a founding with other terms was
        begun, or a setting cannot be.
      OperationError: If not all came in time.
      StorageError: If the disk refuses.
    """
    before = founded_here(home)
    assert asked.party.broker is not None, "the founder has a broker"
    broker, store = BrokerHome(asked.party.broker), FoundingStore(home.founding)
    with store.begin():
        if before is not None:
            if asked.anew:
                show_token(_new_token(store, broker, asked))
            return before
        if asked.anew:
            _forget(home, store, broker)
        _begin(home, store, asked)
        founder = Founder(home)
        # Once all agreed, whoever did not hear of it has a token.
        if founder.own_record() is None:
            show_token(_token(store, broker, asked))
            _look_for_listener(broker, say)
        with newcomers_answered(home, broker):
            founded = _all_agreed(home, store, founder, wait_s, say)
            # While the others are still answered: who lost its answer asks again
            # meanwhile.
            complete(home, founded.roster, founded.record, asked.party)
            _linger(broker, asked.terms.parties - 1)
    return founded


def _begin(home: CoordinatorHome, store: FoundingStore, asked: FounderOptions) -> None:
    crash = asked.terms.fault_model == FaultModel.CRASH
    if crash and asked.terms.parties > _CRASH_PARTIES_MAX:
        raise ConfigError("crash is for 2 or 3 parties", key="--fault-model")
    economy, parties = asked.terms.economy, asked.terms.parties
    given = parties * (economy.operator_grant + economy.validator_deposit)
    if given > economy.supply:
        raise ConfigError("grants and deposits exceed it", key="--supply")
    known = store.terms()
    if known is not None and known != asked.terms:
        raise ConfigError(
            f"a founding of {known.parties} with other terms was begun here; give the "
            "same, or --anew to begin again",
            file=str(store.path),
        )
    # The entry before the terms: only with both is there a founding to answer for.
    own_entry(home, store, asked.party)
    store.put_terms(asked.terms)


def _forget(home: CoordinatorHome, store: FoundingStore, broker: BrokerHome) -> None:
    if store.own() is not None and Founder(home).own_record() is not None:
        raise ConfigError("all agreed already; run this without it", key="--anew")
    line = store.token()
    with suppress(DecodeError, OperationError):
        if line is not None:
            identity = token_from_line(line).identity
            EnrolmentStore(broker.path).remove_token(letters(identity))
    store.forget()


def _token(store: FoundingStore, broker: BrokerHome, asked: FounderOptions) -> str:
    """The line for the others: the one that was made before, while it is good."""
    line, tokens = store.token(), EnrolmentStore(broker.path).tokens()
    if line is not None:
        with suppress(DecodeError):
            record = tokens.get(token_from_line(line).identity)
            if record is not None and record.is_good(time.time()):
                return line
    token = _new_token(store, broker, asked)
    store.put_token(token)
    return token


def _new_token(store: FoundingStore, broker: BrokerHome, asked: FounderOptions) -> str:
    own = store.own()
    assert own is not None, "begun"
    host, uses = own.broker[0].host, asked.terms.parties - 1
    token, _ = issue_token(broker, host, EnrolmentKind.PARTY, uses, asked.life_s)
    return token.to_line()


def _look_for_listener(broker: BrokerHome, say: Callable[[str], None]) -> None:
    settings = broker.require_settings()
    authority = fingerprint(broker.authority_certificate)
    try:
        fetch_authority(reachable_host(settings), settings.enrol_port, authority)
    except (TransportError, OperationError) as error:
        run = f"starling broker run --home {broker.path}"
        say(f"nobody can come yet: {error}; run: {run}")


def _all_agreed(
    home: CoordinatorHome,
    store: FoundingStore,
    founder: Founder,
    wait_s: float,
    say: Callable[[str], None],
) -> FoundedChain:
    until_s, said = time.monotonic() + wait_s, ""
    while (record := founder.own_record()) is None:
        progress = founder.progress()
        assert progress is not None, "begun"
        text = progress.text()
        if text != said:
            say(text)
            said = text
        if time.monotonic() >= until_s:
            raise OperationError(
                f"{text}, after {wait_s:.0f} s; run this again to go on"
            )
        time.sleep(POLL_S)
    roster = store.roster()
    assert roster is not None, "there is a record"
    # As every other party does, though these are files of our own: a damaged one starts
    # no chain.
    check_record(record, roster)
    store.put_record(record)
    return FoundedChain(roster, record)


def _linger(broker: BrokerHome, others: int) -> None:
    """Goes on until all others were sent their record, for a while at most."""
    store, until_s = EnrolmentStore(broker.path), time.monotonic() + LINGER_S
    while time.monotonic() < until_s:
        told = [
            claim
            for claim in store.claims()
            if claim.document.startswith(CONFIRMATION_FORMAT)
            and claim.state is ClaimState.ADMITTED
        ]
        if len(told) >= others:
            break
        time.sleep(POLL_S)
    # What is on disk as told may still be on its way through the broker.
    time.sleep(_FLUSH_S)
