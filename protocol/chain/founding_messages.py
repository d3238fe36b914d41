"""Founding: the messages by which several parties agree on one genesis.

    party                              founder
    entry          keys, commitment ->
                   <-                  roster        genesis, all entries
    confirmation   nonce, signature ->
                   <-                  record        all nonces and signatures

They go through the enrolment exchange of `protocol.wire.enrolment_messages`, which
proves a token; the rules are in `protocol.chain.founding`.
"""

from collections.abc import Iterable
from typing import Annotated

from starling.protocol.chain.genesis import FaultModel, Genesis, genesis_of
from starling.protocol.crypto.keys import verify
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import DecodeError
from starling.protocol.ids import (
    SIGNATURE_BYTES,
    ChainId,
    Digest,
    PublicKey,
    SealingKey,
)
from starling.protocol.schema.msgpack_codec import (
    Structure,
    binary,
    exactly,
    many,
    structure,
    text,
    uint,
)
from starling.protocol.wire.topics import check_fleet_name

FOUNDING_VERSION = 1
PARTIES_MIN = 2
PARTIES_MAX = 16
NONCE_BYTES = 32
CERTIFICATE_BYTES_MAX = 768
PORT_MAX = 65_535
_ENTRY_TAG = b"starling/founding-entry/1"


class PartyBroker(Structure, frozen=True):
    """The broker that a party runs.

    Attributes:
      host: Name or address, as the others reach it.
      port: Of the fleet's listener.
      authority: Certificate of its authority, DER.
    """

    host: Annotated[str, text(253)]
    port: Annotated[int, uint(PORT_MAX, 1)]
    authority: Annotated[bytes, binary(CERTIFICATE_BYTES_MAX, 1)]


class FoundingEntry(Structure, frozen=True):
    """A party's public keys, and its broker or whose broker it is at.

    Attributes:
      version: `FOUNDING_VERSION`.
      fleet: Name of the fleet.
      name: For people; distinct within a founding.
      public: Signs votes, receipts and attestations.
      sealing: Boards seal their updates to it.
      operator: May admit boards and publish tasks.
      tls: Its key for other parties' brokers.
      broker: Its own, if it runs one.
      at: Name of the party whose broker it is at; empty for its own, or else the
        founder's.
      commitment: To its nonce.
      signature: By `public` over all of it.
    """

    version: Annotated[int, uint(FOUNDING_VERSION, FOUNDING_VERSION)]
    fleet: Annotated[str, text(32)]
    name: Annotated[str, text(64)]
    public: PublicKey
    sealing: SealingKey
    operator: PublicKey
    tls: PublicKey
    broker: Annotated[tuple[PartyBroker, ...], many(1)]
    at: Annotated[str, text(64)]
    commitment: Digest
    signature: Annotated[bytes, exactly(SIGNATURE_BYTES)]

    def __post_init__(self) -> None:
        """Refuses a party without a name, and one that is at two brokers."""
        check_fleet_name(self.fleet)
        if not self.name:
            raise DecodeError("a party has a name")
        if self.broker and self.at:
            raise DecodeError("a party with a broker is at its own")

    def signed_bytes(self) -> bytes:
        """Bytes that the signature covers."""
        unsigned = evolve(self, signature=bytes(SIGNATURE_BYTES))
        return _ENTRY_TAG + FOUNDING_ENTRY.pack(unsigned)

    def check(self) -> None:
        """Checks that the party signed it.

        Raises:
          SignatureError: If it did not.
        """
        verify(self.public, self.signed_bytes(), self.signature)


FOUNDING_ENTRY = structure(FoundingEntry, 1536)


def without_broker(entries: Iterable[FoundingEntry]) -> list[FoundingEntry]:
    """Entries at the broker of a party that runs none, or that there is not."""
    known = tuple(entries)
    hosts = {entry.name for entry in known if entry.broker}
    return [entry for entry in known if entry.at and entry.at not in hosts]


class FoundingRoster(Structure, frozen=True):
    """All parties, and the genesis that is made of them.

    Attributes:
      version: `FOUNDING_VERSION`.
      genesis: Its validators are the parties, its operators theirs.
      founder: Key of the party that the others came to.
      entries: Sorted by `public`, the founder's among them.
    """

    version: Annotated[int, uint(FOUNDING_VERSION, FOUNDING_VERSION)]
    genesis: Genesis
    founder: PublicKey
    entries: Annotated[tuple[FoundingEntry, ...], many(PARTIES_MAX, PARTIES_MIN)]

    def __post_init__(self) -> None:
        """Refuses a genesis that is not these parties', and what no fleet can be."""
        made, entries = self.genesis, self.entries
        # Made again from the entries: a genesis cannot hold a validator or operator
        # that is no party.
        if made != _genesis_of(entries, made):
            raise DecodeError("the genesis is not made of the entries")
        if any(entry.fleet != made.fleet for entry in entries):
            raise DecodeError("an entry is for another fleet")
        keys = [entry.public for entry in entries]
        if keys != sorted(set(keys)):
            raise DecodeError("entries must be distinct and sorted by public key")
        if len({entry.name for entry in entries}) != len(entries):
            raise DecodeError("two parties have one name")
        founder = self.entry_of(self.founder)
        if founder is None or not founder.broker:
            raise DecodeError("the founder is a party with a broker")
        if without_broker(entries):
            raise DecodeError("a party is at a broker that nobody runs")

    def entry_of(self, public: bytes) -> FoundingEntry | None:
        """A party's entry, or None."""
        return next((each for each in self.entries if each.public == public), None)

    def broker_of(self, entry: FoundingEntry) -> FoundingEntry:
        """The party whose broker somebody is at: itself, another, or the founder."""
        if entry.broker:
            return entry
        return next(
            each
            for each in self.entries
            if (each.name == entry.at if entry.at else each.public == self.founder)
        )


FOUNDING_ROSTER = structure(FoundingRoster, 32 * 1024)


class PartyConsent(Structure, frozen=True):
    """One party's consent to a genesis.

    Attributes:
      party: Its key.
      nonce: To which its entry was committed.
      signature: By `party` over chain and nonce.
    """

    party: PublicKey
    nonce: Annotated[bytes, exactly(NONCE_BYTES)]
    signature: Annotated[bytes, exactly(SIGNATURE_BYTES)]


class PartyCertificate(Structure, frozen=True):
    """A certificate that one party's authority issued for another.

    Attributes:
      party: The other one's key, on the way to the founder; the issuer's, on the way
        back.
      certificate: For the other one's TLS key, DER.
    """

    party: PublicKey
    certificate: Annotated[bytes, binary(CERTIFICATE_BYTES_MAX, 1)]


_Certificates = Annotated[tuple[PartyCertificate, ...], many(PARTIES_MAX - 1)]


class FoundingConfirmation(Structure, frozen=True):
    """A party's answer to a roster.

    Attributes:
      version: `FOUNDING_VERSION`.
      chain: Hash of the genesis.
      consent: The party's.
      certificates: Of its broker, if it runs one, for each other party.
    """

    version: Annotated[int, uint(FOUNDING_VERSION, FOUNDING_VERSION)]
    chain: ChainId
    consent: PartyConsent
    certificates: _Certificates


FOUNDING_CONFIRMATION = structure(FoundingConfirmation, 13 * 1024)


class FoundingRecord(Structure, frozen=True):
    """All consents, and the certificates of one party at the others' brokers.

    Attributes:
      version: `FOUNDING_VERSION`.
      chain: Hash of the genesis.
      consents: Of all parties, in the roster's order.
      certificates: By the brokers' owners.
    """

    version: Annotated[int, uint(FOUNDING_VERSION, FOUNDING_VERSION)]
    chain: ChainId
    consents: Annotated[tuple[PartyConsent, ...], many(PARTIES_MAX, PARTIES_MIN)]
    certificates: _Certificates


FOUNDING_RECORD = structure(FoundingRecord, 15 * 1024)


def _genesis_of(entries: tuple[FoundingEntry, ...], like: Genesis) -> Genesis:
    return genesis_of(
        entries,
        like.fleet,
        like.created_ms,
        FaultModel(like.fault_model),
        like.heartbeat_s,
        like.economy,
    )
