"""Founding: the rules by which several parties agree on one genesis.

The parties need not trust the founder. Each finds its own entry in the roster, and that
the genesis is made of these entries and of nothing else. Nobody starts before it has
the consent of all to this genesis. That all see the same one is shown by a code which
people compare: it depends on nonces to which all committed themselves before anybody
revealed one. So an attempt to show two parties one code for two geneses succeeds with a
chance of 2^-40, and costs a whole founding.

Source: Pasini and Vaudenay, "SAS-Based Authenticated Key Agreement", PKC 2006 (commit,
reveal, then compare a short string).
"""

import base64
import binascii
from typing import TypeVar

from starling.protocol.chain.founding_messages import (
    FOUNDING_VERSION,
    FoundingEntry,
    FoundingRecord,
    FoundingRoster,
    PartyBroker,
    PartyConsent,
)
from starling.protocol.crypto.keys import SigningKey, verify
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import DecodeError, ProofError, SignatureError
from starling.protocol.ids import (
    SIGNATURE_BYTES,
    ChainId,
    Digest,
    H,
    PublicKey,
    SealingKey,
)
from starling.protocol.schema.msgpack_codec import Codec
from starling.protocol.wire.enrolment_messages import short_code

_NONCE_TAG = b"starling/founding-nonce/1"
_CONSENT_TAG = b"starling/founding-consent/1"
_CODE_TAG = b"starling/founding-code/1"
ENTRY_FORMAT = "starling/founding-entry/1"
ROSTER_FORMAT = "starling/founding-roster/1"
CONFIRMATION_FORMAT = "starling/founding-confirmation/1"
RECORD_FORMAT = "starling/founding-record/1"
_T = TypeVar("_T")


def document(form: str, codec: Codec[_T], value: _T) -> bytes:
    """A message as the enrolment exchange carries it: its form, and base64."""
    return form.encode() + b" " + base64.b64encode(codec.pack(value))


def read_document(form: str, codec: Codec[_T], content: bytes) -> _T:
    """Reads what `document` wrote.

    Raises:
      DecodeError: If it is of another form, or not base64 of one canonical value.
      LimitError: If it is too long.
    """
    given, _, packed = content.partition(b" ")
    if given != form.encode():
        raise DecodeError(f"expected {form}")
    try:
        value = codec.unpack(base64.b64decode(packed, validate=True))
    except binascii.Error as error:
        raise DecodeError(f"{form}: not base64") from error
    # base64 has several spellings of the same bytes, and these are compared by parties.
    if document(form, codec, value) != content:
        raise DecodeError(f"{form}: not in canonical form")
    return value


def sign_entry(
    key: SigningKey,
    nonce: bytes,
    *,
    fleet: str,
    name: str,
    sealing: SealingKey,
    operator: PublicKey,
    tls: PublicKey,
    broker: PartyBroker | None,
    at: str,
) -> FoundingEntry:
    """A party's entry.

    Args:
      key: Its signing key.
      nonce: (32,) random bytes, secret until the roster is checked.
      fleet: Name of the fleet.
      name: For people.
      sealing: Public side of its sealing key.
      operator: Of its operator's key.
      tls: Of its key for other brokers.
      broker: Its own, or None.
      at: Name of the party whose broker it is at; empty for its own or the founder's.

    Raises:
      DecodeError, LimitError: If a field breaks its bound.
    """
    brokers = () if broker is None else (broker,)
    unsigned = FoundingEntry(
        FOUNDING_VERSION,
        fleet,
        name,
        key.public,
        sealing,
        operator,
        tls,
        brokers,
        at,
        commitment(key.public, nonce),
        bytes(SIGNATURE_BYTES),
    )
    return evolve(unsigned, signature=key.sign(unsigned.signed_bytes()))


def commitment(party: PublicKey, nonce: bytes) -> Digest:
    """A party's commitment to its nonce; it names the party, and so is not copied."""
    return H(_NONCE_TAG, party, nonce)


def sign_consent(key: SigningKey, chain: ChainId, nonce: bytes) -> PartyConsent:
    """A party's consent to a genesis, which reveals its nonce."""
    return PartyConsent(key.public, nonce, key.sign(_consented(chain, nonce)))


def check_roster(roster: FoundingRoster, own: FoundingEntry) -> None:
    """Checks that each party signed its entry, and that our own is among them.

    Raises:
      SignatureError: If an entry was changed.
      ProofError: If our own is missing or another one.
    """
    # As a whole: a founder that changes our sealing key alone could read what boards
    # seal to us.
    if own not in roster.entries:
        raise ProofError("the roster does not hold our own entry as we sent it")
    for entry in roster.entries:
        entry.check()


def check_consent(roster: FoundingRoster, consent: PartyConsent) -> FoundingEntry:
    """Checks one party's consent to a roster's genesis.

    Returns:
      The party's entry.

    Raises:
      ProofError: If that is no party of it, or it committed itself to another nonce.
      SignatureError: If it consented to another genesis.
    """
    entry = roster.entry_of(consent.party)
    if entry is None:
        raise ProofError("the consent is of no party of this founding")
    if entry.commitment != commitment(consent.party, consent.nonce):
        raise ProofError(f"{entry.name} reveals another nonce than it committed to")
    check_signed(roster.genesis.chain_id(), consent)
    return entry


def check_signed(chain: ChainId, consent: PartyConsent) -> None:
    """Checks that a party consented to a chain.

    Raises:
      SignatureError: If it did not.
    """
    try:
        verify(consent.party, _consented(chain, consent.nonce), consent.signature)
    except SignatureError as error:
        raise SignatureError("the party did not consent to this genesis") from error


def check_record(record: FoundingRecord, roster: FoundingRoster) -> None:
    """Checks that all parties consented to a roster's genesis.

    Raises:
      ProofError: If it is of another genesis, or a consent is missing.
      SignatureError: If a consent is forged.
    """
    if record.chain != roster.genesis.chain_id():
        raise ProofError("the record is of another genesis than the roster")
    given = [consent.party for consent in record.consents]
    # In order and once each, so that the code is the same for all and no party is
    # missing.
    if given != [entry.public for entry in roster.entries]:
        raise ProofError("the record does not hold one consent of each party")
    for consent in record.consents:
        check_consent(roster, consent)


def founding_code(record: FoundingRecord) -> str:
    """Code of a complete founding, for people to compare: `XXXX-XXXX`, 40 bits."""
    nonces = b"".join(consent.nonce for consent in record.consents)
    return short_code(_CODE_TAG + record.chain + nonces)


def _consented(chain: ChainId, nonce: bytes) -> bytes:
    return _CONSENT_TAG + chain + nonce
