"""Ed25519 as RFC 8032 says, and none of the keys that break its promises."""

import pytest

from starling.protocol.crypto.keys import (
    OpeningKey,
    SigningKey,
    known_signatures,
    verify,
)
from starling.protocol.errors import SignatureError

RFC_8032 = {
    "TEST 1": (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    "TEST 2": (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    "TEST 3": (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
}


@pytest.mark.parametrize(
    ("seed", "public", "message", "signature"), RFC_8032.values(), ids=RFC_8032
)
def test_signature_of_rfc_8032_is_made_and_verified(
    seed: str, public: str, message: str, signature: str
) -> None:
    key = SigningKey(bytes.fromhex(seed))

    assert key.public.hex() == public
    assert key.sign(bytes.fromhex(message)).hex() == signature
    verify(key.public, bytes.fromhex(message), bytes.fromhex(signature))


P = 2**255 - 19
SMALL_ORDER = {
    "order 1": (1).to_bytes(32, "little"),
    "order 2": (P - 1).to_bytes(32, "little"),
    "order 4": bytes(32),
    "order 4, sign bit": bytes(31) + b"\x80",
    "order 8": bytes.fromhex(
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"
    ),
    "order 8, negated": bytes.fromhex(
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"
    ),
    "order 1, not reduced": (P + 1).to_bytes(32, "little"),
    "order 4, not reduced": P.to_bytes(32, "little"),
}


@pytest.mark.parametrize("public", SMALL_ORDER.values(), ids=SMALL_ORDER)
@pytest.mark.parametrize("point", SMALL_ORDER.values(), ids=SMALL_ORDER)
def test_verify_with_a_small_order_key_refuses(public: bytes, point: bytes) -> None:
    # With s = 0 the equation R = -kA holds for one in up to eight messages.
    signature = point + bytes(32)

    for number in range(16):
        with pytest.raises(SignatureError):
            verify(public, b"%d" % number, signature)


def test_verify_of_a_scalar_beyond_the_order_refuses() -> None:
    # RFC 8032 section 5.1.7: s must be below L, or signatures could be altered.
    order = 2**252 + 27742317777372353535851937790883648493
    key = SigningKey(bytes(32))
    signature = key.sign(b"message")
    scalar = int.from_bytes(signature[32:], "little") + order
    altered = signature[:32] + scalar.to_bytes(32, "little")

    with pytest.raises(SignatureError):
        verify(key.public, b"message", altered)


@pytest.mark.parametrize(
    ("public_bytes", "signature_bytes"),
    [(31, 64), (33, 64), (32, 63), (32, 65), (0, 0)],
)
def test_verify_of_a_wrong_length_refuses(
    public_bytes: int, signature_bytes: int
) -> None:
    with pytest.raises(SignatureError, match="length"):
        verify(bytes(public_bytes), b"", bytes(signature_bytes))


@pytest.mark.parametrize("place", range(64))
def test_verify_of_a_flipped_signature_refuses(place: int) -> None:
    key = SigningKey(bytes(32))
    signature = bytearray(key.sign(b"message"))
    signature[place] ^= 1

    with pytest.raises(SignatureError):
        verify(key.public, b"message", bytes(signature))


@pytest.mark.parametrize("key", [SigningKey(b"s" * 32), OpeningKey(b"s" * 32)])
def test_representation_of_a_key_hides_its_secret(key: object) -> None:
    shown = repr(key)

    assert "ssss" not in shown
    assert "seed" not in shown
    assert "secret" not in shown


SIGNER = SigningKey(b"k" * 32)


@pytest.mark.parametrize(
    ("public", "message", "signature"),
    [
        (SigningKey(b"o" * 32).public, b"said", SIGNER.sign(b"said")),
        (SIGNER.public, b"unsaid", SIGNER.sign(b"said")),
        (SIGNER.public, b"said", SIGNER.sign(b"unsaid")),
    ],
    ids=["another key", "another message", "another signature"],
)
def test_verify_beside_known_signatures_refuses_every_mixture(
    public: bytes, message: bytes, signature: bytes
) -> None:
    with known_signatures(16):
        verify(SIGNER.public, b"said", SIGNER.sign(b"said"))
        SIGNER.sign(b"unsaid")

        with pytest.raises(SignatureError):
            verify(public, message, signature)


def test_verify_of_a_refused_signature_stays_refused() -> None:
    forged = bytes(64)

    with known_signatures(16):
        for _ in range(2):
            with pytest.raises(SignatureError):
                verify(SIGNER.public, b"said", forged)


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_verify_holds_whether_a_signature_is_still_known_or_forgotten(
    count: int,
) -> None:
    messages = [bytes([number]) for number in range(count)]

    with known_signatures(4):
        signatures = [SIGNER.sign(message) for message in messages]
        for message, signature in zip(messages, signatures, strict=True):
            verify(SIGNER.public, message, signature)
