"""Strategies and longest values of a founding's messages, whose parties must agree."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from starling.protocol.chain import founding_messages as messages
from starling.protocol.chain.credit_policy import CREDITS_MAX, CreditPolicy
from starling.protocol.chain.genesis import FaultModel, genesis_of
from starling.protocol.ids import ChainId, Digest, PublicKey, SealingKey
from starling.protocol.schema.msgpack_codec import UINT_MAX

_digests = st.binary(min_size=32, max_size=32)
_signatures = st.binary(min_size=64, max_size=64)
_certificates = st.lists(
    st.builds(messages.PartyCertificate, _digests, st.binary(min_size=1, max_size=60)),
    max_size=4,
).map(tuple)
_consents = st.builds(messages.PartyConsent, _digests, _digests, _signatures)
_names = st.text(
    st.characters(categories=["L", "N"], max_codepoint=127), min_size=1, max_size=8
)
_brokers = st.builds(
    messages.PartyBroker, _names, st.integers(1, 65535), st.binary(min_size=1)
)


@st.composite
def _entries(
    draw: st.DrawFn, name: str, public: bytes, fleet: str, host: str = ""
) -> messages.FoundingEntry:
    broker = draw(_brokers) if not host else None
    return messages.FoundingEntry(
        messages.FOUNDING_VERSION,
        fleet,
        name,
        PublicKey(public),
        SealingKey(draw(_digests)),
        PublicKey(draw(_digests)),
        PublicKey(draw(_digests)),
        () if broker is None else (broker,),
        draw(st.sampled_from(["", host])),
        Digest(draw(_digests)),
        draw(_signatures),
    )


@st.composite
def _rosters(draw: st.DrawFn) -> messages.FoundingRoster:
    fleet = draw(st.from_regex(r"[a-z0-9][a-z0-9-]{0,31}", fullmatch=True))
    names = draw(st.lists(_names, min_size=2, max_size=5, unique=True))
    keys = draw(
        st.lists(_digests, min_size=len(names), max_size=len(names), unique=True)
    )
    founder = draw(_entries(names[0], keys[0], fleet))
    others = [
        draw(_entries(name, key, fleet, names[0]))
        for name, key in zip(names[1:], keys[1:], strict=True)
    ]
    return _roster(founder, others, draw(st.integers(0, UINT_MAX)))


def _roster(
    founder: messages.FoundingEntry,
    others: list[messages.FoundingEntry],
    created_ms: int,
    economy: CreditPolicy | None = None,
) -> messages.FoundingRoster:
    entries = tuple(sorted((founder, *others), key=lambda each: each.public))
    made = genesis_of(
        entries,
        founder.fleet,
        created_ms,
        FaultModel.BYZANTINE,
        86_400,
        economy or CreditPolicy(),
    )
    version = messages.FOUNDING_VERSION
    return messages.FoundingRoster(version, made, founder.public, entries)


FOUNDING_VALUES: dict[str, SearchStrategy[Any]] = {
    "FOUNDING_ENTRY": st.one_of(
        _entries("north", b"n" * 32, "demo"),
        _entries("west", b"w" * 32, "demo", "north"),
    ),
    "FOUNDING_ROSTER": _rosters(),
    "FOUNDING_CONFIRMATION": st.builds(
        messages.FoundingConfirmation,
        st.just(messages.FOUNDING_VERSION),
        _digests,
        _consents,
        _certificates,
    ),
    "FOUNDING_RECORD": st.builds(
        messages.FoundingRecord,
        st.just(messages.FOUNDING_VERSION),
        _digests,
        st.lists(_consents, min_size=2, max_size=5).map(tuple),
        _certificates,
    ),
}


def _widest_entry(number: int, name: str) -> messages.FoundingEntry:
    key = bytes([255 - number]) * 32
    place = messages.PartyBroker(
        "h" * 253, messages.PORT_MAX, bytes(messages.CERTIFICATE_BYTES_MAX)
    )
    return messages.FoundingEntry(
        messages.FOUNDING_VERSION,
        "f" * 32,
        name,
        PublicKey(key),
        SealingKey(key),
        PublicKey(key),
        PublicKey(key),
        (place,),
        "",
        Digest(key),
        b"s" * 64,
    )


_PARTIES = [
    _widest_entry(number, f"{number:064}") for number in range(messages.PARTIES_MAX)
]
_CONSENTS = tuple(
    messages.PartyConsent(entry.public, b"n" * 32, b"s" * 64) for entry in _PARTIES
)
_CERTIFICATES = tuple(
    messages.PartyCertificate(entry.public, bytes(messages.CERTIFICATE_BYTES_MAX))
    for entry in _PARTIES[1:]
)
FOUNDING_WIDEST: dict[str, Any] = {
    "FOUNDING_ENTRY": _PARTIES[0],
    "FOUNDING_ROSTER": _roster(
        _PARTIES[0],
        _PARTIES[1:],
        UINT_MAX,
        CreditPolicy(CREDITS_MAX, 1 << 33, 1 << 33, CREDITS_MAX),
    ),
    "FOUNDING_CONFIRMATION": messages.FoundingConfirmation(
        messages.FOUNDING_VERSION, ChainId(b"c" * 32), _CONSENTS[0], _CERTIFICATES
    ),
    "FOUNDING_RECORD": messages.FoundingRecord(
        messages.FOUNDING_VERSION, ChainId(b"c" * 32), _CONSENTS, _CERTIFICATES
    ),
}
