"""Decoding once changes nothing but the time it takes."""

import pytest

from starling.coordinator.chain.state import transaction_codec
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.errors import DecodeError
from starling.protocol.ids import ChainId, H
from starling.protocol.wire.envelope import ENVELOPE, MessageKind, sign

KEY = SigningKey(b"k" * 32)
CHAIN = ChainId(H(b"chain"))


def envelope(number: int) -> bytes:
    return ENVELOPE.pack(sign(KEY, CHAIN, MessageKind.REVOKE, number, b"body"))


def test_transaction_unpacked_equals_what_the_codec_gives() -> None:
    packed = envelope(1)

    assert transaction_codec.unpack(packed) == ENVELOPE.unpack(packed)
    assert transaction_codec.unpack(bytes(bytearray(packed))) == ENVELOPE.unpack(packed)


def test_transaction_packed_is_not_decoded_again() -> None:
    made = sign(KEY, CHAIN, MessageKind.REVOKE, 2, b"body")

    packed = transaction_codec.pack(made)

    assert packed == ENVELOPE.pack(made)
    assert transaction_codec.unpack(packed) is made


def test_transaction_malformed_is_refused_each_time() -> None:
    for _ in range(2):
        with pytest.raises(DecodeError):
            transaction_codec.unpack(envelope(1)[:-1] + b"")
