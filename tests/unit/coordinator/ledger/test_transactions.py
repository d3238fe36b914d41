"""Decoding once changes nothing but the time it takes."""

import pytest

from coordinator.ledger import transactions
from protocol.envelope import ENVELOPE, Kind, sign
from protocol.errors import DecodeError
from protocol.ids import ChainId, H
from protocol.keys import SigningKey

KEY = SigningKey(b"k" * 32)
CHAIN = ChainId(H(b"chain"))


def envelope(number: int) -> bytes:
    return ENVELOPE.pack(sign(KEY, CHAIN, Kind.REVOKE, number, b"body"))


def test_transaction_unpacked_equals_what_the_codec_gives() -> None:
    packed = envelope(1)

    assert transactions.unpack(packed) == ENVELOPE.unpack(packed)
    assert transactions.unpack(bytes(bytearray(packed))) == ENVELOPE.unpack(packed)


def test_transaction_packed_is_not_decoded_again() -> None:
    made = sign(KEY, CHAIN, Kind.REVOKE, 2, b"body")

    packed = transactions.pack(made)

    assert packed == ENVELOPE.pack(made)
    assert transactions.unpack(packed) is made


def test_transaction_malformed_is_refused_each_time() -> None:
    for _ in range(2):
        with pytest.raises(DecodeError):
            transactions.unpack(envelope(1)[:-1] + b"")
