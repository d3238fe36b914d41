"""A party's own side: its entry, its consent, and its folder once all agree."""

import os
from dataclasses import dataclass
from pathlib import Path

from starling.broker.broker_settings import reachable_host
from starling.broker.certificate_reader import from_pem, read_certificate, to_pem
from starling.broker.runtime.broker_home import BrokerHome
from starling.coordinator.config import BrokerEndpointSettings
from starling.coordinator.runtime.founding.founding_store import (
    FoundingStore,
    party_id,
)
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.operations.board_admission import advertised_host
from starling.coordinator.runtime.setup.broker_joining import keep_certificate
from starling.coordinator.runtime.setup.genesis_setup import (
    GenesisOptions,
    identify,
    join_own_broker,
    own_broker_values,
    write_first_config,
)
from starling.coordinator.runtime.setup.peer_invitations import (
    Invitation,
    PeerBroker,
    keep_peer,
)
from starling.durable.files import read_limited, write_atomic
from starling.protocol.chain.founding import sign_consent, sign_entry
from starling.protocol.chain.founding_messages import (
    FOUNDING_VERSION,
    NONCE_BYTES,
    FoundingConfirmation,
    FoundingEntry,
    FoundingRecord,
    FoundingRoster,
    PartyBroker,
    PartyCertificate,
)
from starling.protocol.chain.genesis import GENESIS
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import ConfigError, ProofError, ProtocolError
from starling.protocol.ids import SIGNATURE_BYTES, H

_PEM_BYTES_MAX = 1 << 16


@dataclass(frozen=True)
class PartyOptions:
    """Options of `init` for one party.

    Attributes:
      fleet: Name of the fleet.
      name: For people.
      broker: Folder of its own broker; None for none.
      at: Name of the party whose broker it is at; empty for its own or the founder's.
      board_host: Where others and boards reach its broker; empty for the first host.
      broker_host: Where we reach it; empty for on this machine.
    """

    fleet: str
    name: str
    broker: Path | None = None
    at: str = ""
    board_host: str = ""
    broker_host: str = ""


def own_entry(
    home: CoordinatorHome, store: FoundingStore, asked: PartyOptions
) -> FoundingEntry:
    """Our entry: the one that is kept, or a new one where something else is asked.

    Makes the folder's keys if there are none.

    Raises:
      ConfigError: If something else is asked after we consented, or a name, an address
        or the broker's folder cannot be.
      StorageError: If the disk refuses.
    """
    identity = identify(home, asked.name)
    nonce = os.urandom(NONCE_BYTES)
    try:
        made = sign_entry(
            home.signing_key(),
            nonce,
            fleet=asked.fleet,
            name=asked.name,
            sealing=identity.sealing,
            operator=identity.operator,
            tls=identity.tls,
            broker=_broker(asked),
            at=asked.at,
        )
    except ProtocolError as error:
        raise ConfigError(str(error)) from error
    kept = store.own()
    # Each new entry has a new nonce: only what was asked for is compared.
    if kept is not None and _alike(kept) == _alike(made):
        return kept
    if kept is not None and store.roster() is not None:
        raise ConfigError(
            "this party is in the roster with another name, address, broker or other "
            "keys; give what it was given first",
            file=str(store.path / "own"),
        )
    store.put_own(made, nonce)
    return made


def own_confirmation(
    home: CoordinatorHome,
    store: FoundingStore,
    roster: FoundingRoster,
    broker: Path | None,
) -> FoundingConfirmation:
    """Our consent to a roster that was checked; made once, and then kept.

    Args:
      home: Our folder.
      store: Of the founding.
      roster: Written down before.
      broker: Folder of our broker, whose authority certifies the others.

    Raises:
      ConfigError: If the authority's key is not here.
      StorageError: If the disk refuses.
    """
    key, chain = home.signing_key(), roster.genesis.chain_id()
    if (kept := store.confirmation(key.public, chain)) is not None:
        return kept
    certificates: tuple[PartyCertificate, ...] = ()
    if broker is not None:
        authority = BrokerHome(broker).certificates.authority()
        certificates = tuple(
            PartyCertificate(each.public, from_pem(pem.decode()))
            for each in roster.entries
            if each.public != key.public
            for pem in [authority.issue(party_id(each.public), each.tls)]
        )
    # It tells the nonce: from here on this party has agreed, and its entry stays.
    consent = sign_consent(key, chain, store.nonce())
    made = FoundingConfirmation(FOUNDING_VERSION, chain, consent, certificates)
    store.put_confirmation(made)
    return made


def check_certificate(
    certificate: bytes, issuer: FoundingEntry, holder: FoundingEntry
) -> None:
    """Checks a certificate of one party at another's broker.

    Raises:
      ProtocolError: If it is for another name or key, or another authority's.
    """
    found = read_certificate(certificate)
    found.require_issuer(read_certificate(issuer.broker[0].authority))
    if (found.user, found.public_key) != (party_id(holder.public), holder.tls):
        raise ProofError(f"{issuer.name} certified another key than {holder.name}'s")


def check_certificates(
    roster: FoundingRoster, record: FoundingRecord, own: FoundingEntry
) -> None:
    """Checks that a record holds our certificate at each other party's broker.

    Raises:
      ProtocolError: If one is missing, of another authority, or for another key.
    """
    given = {each.party: each.certificate for each in record.certificates}
    for host in roster.entries:
        if host.broker and host != own:
            if host.public not in given:
                raise ProofError(f"the certificate of {host.name}'s broker is missing")
            check_certificate(given[host.public], host, own)


def complete(
    home: CoordinatorHome,
    roster: FoundingRoster,
    record: FoundingRecord,
    asked: PartyOptions,
) -> None:
    """Makes the folder ready to run; may be repeated.

    The genesis comes last: without it nothing runs.

    Args:
      home: Our folder.
      roster: Checked.
      record: Checked, with its certificates.
      asked: As our entry was made from.

    Raises:
      ConfigError: If the broker's folder refuses somebody.
      StorageError: If the disk refuses.
    """
    own = roster.entry_of(home.signing_key().public)
    assert own is not None, "the roster was checked"
    given = {each.party: each.certificate for each in record.certificates}
    hosts = [each for each in roster.entries if each.broker and each != own]
    if asked.broker is not None:
        _give_rights(BrokerHome(asked.broker), roster, own)
        join_own_broker(home, BrokerHome(asked.broker))
    for host in hosts:
        pems = [to_pem(host.broker[0].authority), to_pem(given[host.public])]
        if roster.broker_of(own) == host:
            keep_certificate(home, *pems)
        else:
            address = PeerBroker(host.broker[0].host, host.broker[0].port)
            invitation = Invitation(own.fleet, home.name, *pems)
            keep_peer(home, own.fleet, address, invitation)
    write_first_config(home, _first_values(roster.broker_of(own), asked))
    if not (home.path / "genesis").exists():
        write_atomic(home.path / "genesis", GENESIS.pack(roster.genesis))


def _broker(asked: PartyOptions) -> PartyBroker | None:
    if asked.broker is None:
        return None
    broker = BrokerHome(asked.broker)
    settings = broker.require_settings()
    if settings.fleet != asked.fleet:
        raise ConfigError(
            f"the broker serves the fleet {settings.fleet!r}, and this chain is of "
            f"{asked.fleet!r}",
            key="--broker",
        )
    # Certifies the others, which is better found out before than after they came.
    broker.certificates.authority()
    endpoint = BrokerEndpointSettings(
        host=reachable_host(settings), board_host=asked.board_host
    )
    pem = read_limited(broker.authority_certificate, _PEM_BYTES_MAX).decode()
    return PartyBroker(advertised_host(endpoint, broker), settings.port, from_pem(pem))


def _alike(entry: FoundingEntry) -> FoundingEntry:
    """An entry without what differs each time that it is made."""
    return evolve(entry, commitment=H(), signature=bytes(SIGNATURE_BYTES))


def _give_rights(
    broker: BrokerHome, roster: FoundingRoster, own: FoundingEntry
) -> None:
    for entry in roster.entries:
        # Who is at our broker writes there; who has another one only reads ours.
        if roster.broker_of(entry) == own:
            broker.admit_coordinator(party_id(entry.public))
        else:
            broker.admit_peer(party_id(entry.public))
    broker.reload_running()


def _first_values(host: FoundingEntry, asked: PartyOptions) -> dict[str, object]:
    """Settings of the broker that we are at."""
    if asked.broker is None:
        place = host.broker[0]
        return {"broker.host": place.host, "broker.port": place.port}
    settings = BrokerHome(asked.broker).require_settings()
    options = GenesisOptions(
        asked.fleet,
        asked.broker,
        asked.board_host,
        0,
        0,
        broker_host=asked.broker_host,
    )
    return own_broker_values(options, settings)
