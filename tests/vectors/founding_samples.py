"""A founding of two parties: an example of each of its messages, from fixed keys."""

from starling.protocol.chain import founding
from starling.protocol.chain import founding_messages as messages
from starling.protocol.chain.credit_policy import NO_ECONOMY
from starling.protocol.chain.genesis import FaultModel, genesis_of
from starling.protocol.crypto.keys import OpeningKey, SigningKey

CREATED_MS = 1_700_000_000_000
NONCES = tuple(bytes([64 + number]) * 32 for number in range(2))


def keys_of(number: int) -> tuple[SigningKey, OpeningKey, SigningKey, SigningKey]:
    """The signing, sealing, operator's and TLS keys of a party."""
    seeds = [bytes([16 * number + kind]) * 32 for kind in range(1, 5)]
    signing, operator, tls = (SigningKey(seeds[place]) for place in (0, 2, 3))
    return signing, OpeningKey(seeds[1]), operator, tls


def entry_of(
    number: int,
    name: str,
    broker: messages.PartyBroker | None = None,
    at: str = "",
    nonce: bytes | None = None,
) -> messages.FoundingEntry:
    """A party's entry."""
    signing, sealing, operator, tls = keys_of(number)
    return founding.sign_entry(
        signing,
        bytes([64 + number]) * 32 if nonce is None else nonce,
        fleet="demo",
        name=name,
        sealing=sealing.public,
        operator=operator.public,
        tls=tls.public,
        broker=broker,
        at=at,
    )


def roster_of(
    founder: messages.FoundingEntry, *others: messages.FoundingEntry
) -> messages.FoundingRoster:
    """The roster of these parties."""
    entries = tuple(sorted((founder, *others), key=lambda each: each.public))
    made = genesis_of(entries, "demo", CREATED_MS, FaultModel.BYZANTINE, 10, NO_ECONOMY)
    return messages.FoundingRoster(
        messages.FOUNDING_VERSION, made, founder.public, entries
    )


BROKER = messages.PartyBroker("broker.example.org", 8883, b"authority")
ENTRY = entry_of(0, "north", BROKER)
OTHER = entry_of(1, "south")
ROSTER = roster_of(ENTRY, OTHER)
CHAIN = ROSTER.genesis.chain_id()
CONSENTS = tuple(
    founding.sign_consent(keys_of(number)[0], CHAIN, NONCES[number])
    for number in range(2)
)
CONFIRMATION = messages.FoundingConfirmation(
    messages.FOUNDING_VERSION,
    CHAIN,
    CONSENTS[0],
    (messages.PartyCertificate(OTHER.public, b"certificate"),),
)
RECORD = messages.FoundingRecord(
    messages.FOUNDING_VERSION,
    CHAIN,
    tuple(sorted(CONSENTS, key=lambda each: each.party)),
    (messages.PartyCertificate(ENTRY.public, b"certificate"),),
)
