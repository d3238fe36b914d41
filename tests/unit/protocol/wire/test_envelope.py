"""Signed envelopes, and the window that keeps them from coming twice."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.protocol.crypto.keys import SigningKey
from starling.protocol.errors import (
    DecodeError,
    LimitError,
    ProtocolError,
    ReplayError,
    SignatureError,
)
from starling.protocol.ids import ChainId, PublicKey
from starling.protocol.wire.envelope import (
    BODY_BYTES_MAX,
    COUNTER_WINDOW,
    ENVELOPE,
    CounterWindow,
    Envelope,
    MessageKind,
    sign,
)

KEY = SigningKey(b"k" * 32)
OTHER = SigningKey(b"o" * 32)
CHAIN = ChainId(b"c" * 32)
SIGNED = sign(KEY, CHAIN, MessageKind.CHECK_IN, 7, b"body")


def test_envelope_signed_checks_and_round_trips() -> None:
    SIGNED.check(CHAIN)

    assert ENVELOPE.unpack(ENVELOPE.pack(SIGNED)) == SIGNED


def test_envelope_signed_twice_is_the_same() -> None:
    assert sign(KEY, CHAIN, MessageKind.CHECK_IN, 7, b"body") == SIGNED


ALTERED = {
    "kind": replace(SIGNED, kind=MessageKind.CHUNK_REQUEST),
    "sender": replace(SIGNED, sender=OTHER.public),
    "counter": replace(SIGNED, counter=8),
    "body": replace(SIGNED, body=b"bodx"),
    "body cut": replace(SIGNED, body=b"bod"),
    "signature": replace(SIGNED, signature=bytes(64)),
}


@pytest.mark.parametrize("altered", ALTERED.values(), ids=ALTERED)
def test_envelope_altered_refuses(altered: Envelope) -> None:
    with pytest.raises(SignatureError):
        altered.check(CHAIN)


def test_envelope_of_another_chain_refuses() -> None:
    with pytest.raises(SignatureError):
        SIGNED.check(ChainId(b"d" * 32))


def test_envelope_with_any_byte_flipped_refuses() -> None:
    packed = bytearray(ENVELOPE.pack(SIGNED))
    refused = 0

    for place in range(len(packed)):
        packed[place] ^= 0x01
        try:
            ENVELOPE.unpack(bytes(packed)).check(CHAIN)
        except ProtocolError:
            refused += 1
        packed[place] ^= 0x01

    assert refused == len(packed)


@pytest.mark.parametrize("version", [0, 2, 255])
def test_envelope_of_another_version_refuses(version: int) -> None:
    with pytest.raises(DecodeError, match="not supported"):
        replace(SIGNED, version=version)


def test_envelope_with_a_long_body_refuses_to_leave() -> None:
    long = sign(KEY, CHAIN, MessageKind.CHECK_IN, 1, bytes(BODY_BYTES_MAX + 1))

    with pytest.raises(LimitError):
        ENVELOPE.pack(long)


def test_identity_names_content_and_not_the_signature() -> None:
    assert replace(SIGNED, signature=bytes(64)).identity(CHAIN) == SIGNED.identity(
        CHAIN
    )
    identities = {each.identity(CHAIN) for each in ALTERED.values()}
    assert len(identities | {SIGNED.identity(CHAIN)}) == len(ALTERED)


@given(
    st.integers(1, 255), st.integers(0, 1 << 62), st.binary(max_size=99), st.booleans()
)
def test_identity_differs_wherever_the_content_does(
    kind: int, counter: int, body: bytes, same_sender: bool
) -> None:
    sender = KEY.public if same_sender else PublicKey(OTHER.public)
    other = Envelope(1, kind, sender, counter, body, bytes(64))

    same = (other.kind, other.sender, other.counter, other.body) == (
        SIGNED.kind,
        SIGNED.sender,
        SIGNED.counter,
        SIGNED.body,
    )
    assert (other.identity(CHAIN) == SIGNED.identity(CHAIN)) is same


WINDOW = {
    "first": ([], 1, True),
    "zero": ([], 0, False),
    "zero later": ([1], 0, False),
    "repeated": ([5], 5, False),
    "next": ([5], 6, True),
    "gap": ([5], 5000, True),
    "late, unseen": ([5], 3, True),
    "late, seen": ([3, 5], 3, False),
    "oldest inside": ([100], 100 - COUNTER_WINDOW + 1, True),
    "oldest inside, seen": ([100 - COUNTER_WINDOW + 1, 100], 37, False),
    "just behind": ([100], 100 - COUNTER_WINDOW, False),
    "far behind": ([100], 1, False),
    "seen before a jump of the window": ([5, 5 + COUNTER_WINDOW], 6, True),
    "unseen after a jump beyond the window": (
        [5, 6 + COUNTER_WINDOW],
        5 + COUNTER_WINDOW,
        True,
    ),
    "jump to the end of counting": ([5], (1 << 63) - 1, True),
    "behind the end of counting": ([(1 << 63) - 1], 1, False),
}


@pytest.mark.parametrize(("before", "counter", "taken"), WINDOW.values(), ids=WINDOW)
def test_window_admits_what_ipsec_would(
    before: list[int], counter: int, taken: bool
) -> None:
    window = CounterWindow()
    for each in before:
        window = window.admit(each)

    if taken:
        admitted = window.admit(counter)
        with pytest.raises(ReplayError):
            admitted.admit(counter)
    else:
        with pytest.raises(ReplayError):
            window.admit(counter)


@given(st.lists(st.integers(0, 300), max_size=120))
def test_window_agrees_with_a_set_of_all_counters(counters: list[int]) -> None:
    window = CounterWindow()
    seen: set[int] = set()

    for counter in counters:
        fresh = counter not in seen and counter > max(seen, default=0) - COUNTER_WINDOW
        try:
            window = window.admit(counter)
            admitted = True
        except ReplayError:
            admitted = False
        assert admitted is (fresh and counter > 0)
        if admitted:
            seen.add(counter)
        assert window.seen < 1 << COUNTER_WINDOW


@pytest.mark.parametrize(
    ("counter", "known"),
    [(200, True), (199, False), (201, False), (150, True), (136, True), (137, False)],
    ids=["highest", "skipped", "next", "admitted", "beyond", "within"],
)
def test_window_has_what_was_admitted_or_is_too_old(counter: int, known: bool) -> None:
    window = CounterWindow().admit(150).admit(200)

    assert window.has(counter) is known
