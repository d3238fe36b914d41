"""Blobs open for their recipients alone, and only in their sender's name."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl import bindings
from nacl.public import PrivateKey, SealedBox

from starling.protocol.crypto.keys import OpeningKey
from starling.protocol.crypto.sealed_blob import (
    RECIPIENTS_MAX,
    SEALED,
    SealedBlob,
    commitment,
    decrypt,
    is_missealed,
    open_sealed,
    pass_key,
    seal,
    take_key,
)
from starling.protocol.errors import (
    ClosedUpdate,
    DecodeError,
    InvalidUpdate,
    ProtocolError,
    Reason,
)
from starling.protocol.ids import Digest, H

KEYS = tuple(OpeningKey(bytes([i]) * 32) for i in range(1, 5))
PUBLIC = [key.public for key in KEYS]
STRANGER = OpeningKey(b"s" * 32)
ENTROPY = bytes(range(32))
SENDER = b"b" * 32


@settings(max_examples=30)
@given(st.binary(max_size=2000), st.binary(min_size=32, max_size=32))
def test_blob_opens_for_every_recipient(plaintext: bytes, entropy: bytes) -> None:
    blob, committed = seal(plaintext, PUBLIC, entropy, SENDER)

    for key in KEYS:
        content_key, opened = open_sealed(SEALED.unpack(blob), key, SENDER)
        assert opened == plaintext
        assert commitment(content_key, opened) == committed
        assert decrypt(SEALED.unpack(blob), content_key, SENDER) == plaintext


def test_blob_of_the_same_entropy_is_the_same() -> None:
    assert seal(b"x", PUBLIC, ENTROPY, SENDER) == seal(b"x", PUBLIC, ENTROPY, SENDER)


def test_blob_of_other_entropy_shares_nothing() -> None:
    one = SEALED.unpack(seal(b"x" * 99, PUBLIC, ENTROPY, SENDER)[0])
    two = SEALED.unpack(seal(b"x" * 99, PUBLIC, ENTROPY[::-1], SENDER)[0])

    assert one.ephemeral != two.ephemeral
    assert one.ciphertext != two.ciphertext
    assert not {box[8:] for box in one.boxes} & {box[8:] for box in two.boxes}


def test_blob_for_a_stranger_does_not_open() -> None:
    blob, _ = seal(b"secret", PUBLIC, ENTROPY, SENDER)

    with pytest.raises(InvalidUpdate) as caught:
        open_sealed(SEALED.unpack(blob), STRANGER, SENDER)

    assert caught.value.reason is Reason.NOT_SEALED_TO_ME


def test_blob_in_the_name_of_another_sender_does_not_open() -> None:
    blob, _ = seal(b"secret", PUBLIC, ENTROPY, SENDER)
    content_key, _ = open_sealed(SEALED.unpack(blob), KEYS[0], SENDER)

    with pytest.raises(InvalidUpdate):
        open_sealed(SEALED.unpack(blob), KEYS[0], b"t" * 32)
    with pytest.raises(InvalidUpdate):
        decrypt(SEALED.unpack(blob), content_key, b"t" * 32)


def test_blob_with_a_copied_hint_still_opens() -> None:
    # A box that shows our hint and does not open is passed over.
    blob, _ = seal(b"secret", PUBLIC, ENTROPY, SENDER)
    sealed = SEALED.unpack(blob)
    decoy = sealed.boxes[0][:8] + bytes(48)

    altered = SEALED.pack(replace(sealed, boxes=(decoy, *sealed.boxes)))

    assert open_sealed(SEALED.unpack(altered), KEYS[0], SENDER)[1] == b"secret"


def test_blob_with_any_byte_flipped_never_opens_to_something_else() -> None:
    blob, committed = seal(b"secret", PUBLIC[:1], ENTROPY, SENDER)
    altered = bytearray(blob)
    opened = []

    for place in range(len(blob)):
        altered[place] ^= 0x01
        try:
            content_key, plaintext = open_sealed(
                SEALED.unpack(bytes(altered)), KEYS[0], SENDER
            )
            opened.append(commitment(content_key, plaintext))
        except ProtocolError:
            pass
        altered[place] ^= 0x01

    assert not [each for each in opened if each != committed]


def test_commitment_tells_two_keys_of_one_blob_apart() -> None:
    # Poly1305 does not bind its key, so the commitment has to.
    assert commitment(b"a" * 32, b"plain") != commitment(b"b" * 32, b"plain")
    assert commitment(b"a" * 32, b"plain") != commitment(b"a" * 32, b"other")


def test_blob_sealed_under_two_content_keys_is_caught_by_the_commitment() -> None:
    # A board that gives one coordinator another content key than it committed to.
    blob, committed = seal(b"one", PUBLIC[:1], ENTROPY, SENDER)
    other, _ = seal(b"two", PUBLIC[1:2], ENTROPY[::-1], SENDER)
    content_key, plaintext = open_sealed(SEALED.unpack(other), KEYS[1], SENDER)

    assert commitment(content_key, plaintext) != committed
    with pytest.raises(InvalidUpdate):
        decrypt(SEALED.unpack(blob), content_key, SENDER)


def test_box_is_a_sealed_box_of_libsodium() -> None:
    sealed = SEALED.unpack(seal(b"x", PUBLIC, ENTROPY, SENDER)[0])
    box = SealedBox(PrivateKey(KEYS[2].secret))

    assert box.decrypt(sealed.ephemeral + sealed.boxes[2][8:]) == ENTROPY


def test_ciphertext_is_xchacha20_poly1305_of_libsodium() -> None:
    sealed = SEALED.unpack(seal(b"plain", PUBLIC, ENTROPY, SENDER)[0])

    opened = bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(
        sealed.ciphertext, b"starling/blob/1" + SENDER, bytes(24), ENTROPY
    )

    assert opened == b"plain"


def opened(sealed: SealedBlob, key: OpeningKey, committed: Digest) -> bytes:
    return open_sealed(sealed, key, SENDER, committed)[1]


def test_blob_with_a_decoy_box_before_the_right_one_opens_to_the_commitment() -> None:
    # The decoy opens, but to another content key.
    blob, committed = seal(b"one", PUBLIC, ENTROPY, SENDER)
    sealed, other = SEALED.unpack(blob), ENTROPY[::-1]
    decoy = box_of(other, PUBLIC[0], sealed.ephemeral)

    altered = replace(sealed, boxes=(decoy, *sealed.boxes))

    assert opened(altered, KEYS[0], committed) == b"one"


def box_of(content_key: bytes, recipient: bytes, ephemeral: bytes) -> bytes:
    """A box that opens to any content key, under the blob's ephemeral key."""
    hint = H(b"starling/hint/1", ephemeral, recipient)[:8]
    nonce = hashlib.blake2b(ephemeral + recipient, digest_size=24).digest()
    _, secret = bindings.crypto_box_seed_keypair(H(b"starling/ephemeral/1", ENTROPY))
    return hint + bindings.crypto_box(content_key, nonce, recipient, secret)


def test_boxes_as_seal_makes_them_are_right() -> None:
    sealed = SEALED.unpack(seal(b"x", PUBLIC, ENTROPY, SENDER)[0])

    for recipient in (*PUBLIC, STRANGER.public):
        assert not is_missealed(recipient, ENTROPY, sealed.ephemeral, sealed.boxes)


SPOILT_BOXES = {
    "garbage": lambda sealed: replace(
        sealed, boxes=(sealed.boxes[0][:8] + bytes(48), *sealed.boxes[1:])
    ),
    "other-key": lambda sealed: replace(
        sealed,
        boxes=(
            box_of(ENTROPY[::-1], PUBLIC[0], sealed.ephemeral),
            *sealed.boxes[1:],
        ),
    ),
    "other-ephemeral": lambda sealed: replace(
        sealed,
        ephemeral=STRANGER.public,
        boxes=(box_of(ENTROPY, PUBLIC[0], STRANGER.public), *sealed.boxes[1:]),
    ),
}


@pytest.mark.parametrize("spoil", SPOILT_BOXES.values(), ids=SPOILT_BOXES)
def test_box_that_seal_does_not_make_is_missealed(
    spoil: Callable[[SealedBlob], SealedBlob],
) -> None:
    blob, committed = seal(b"x", PUBLIC, ENTROPY, SENDER)
    sealed = spoil(SEALED.unpack(blob))

    with pytest.raises(ClosedUpdate):
        opened(sealed, KEYS[0], committed)

    assert is_missealed(PUBLIC[0], ENTROPY, sealed.ephemeral, sealed.boxes)
    assert sealed.digest() != SEALED.unpack(blob).digest()


def test_hint_of_a_recipient_is_another_one_in_each_blob() -> None:
    # Else whoever drew two keys with one hint, of which a board knows one, frames it.
    sealed = [
        SEALED.unpack(seal(b"x", PUBLIC, entropy, SENDER)[0])
        for entropy in (ENTROPY, ENTROPY[::-1])
    ]

    first, second = ({box[:8] for box in each.boxes} for each in sealed)

    assert first.isdisjoint(second)


def test_recipient_with_the_hint_of_another_convicts_nobody() -> None:
    # Somebody whose key's hash begins as another's has boxes that are not its own.
    sealed = SEALED.unpack(seal(b"x", PUBLIC, ENTROPY, SENDER)[0])
    twin = sealed.boxes[0][:8] + sealed.boxes[1][8:]

    boxes = (twin, *sealed.boxes)

    assert not is_missealed(PUBLIC[0], ENTROPY, sealed.ephemeral, boxes)


def test_content_key_passed_on_opens_for_the_asker_alone() -> None:
    update = H(b"update")
    box = pass_key(ENTROPY, update, KEYS[0], PUBLIC[1])

    assert take_key(box, update, KEYS[1], PUBLIC[0]) == ENTROPY
    for key, giver, identity in (
        (KEYS[2], PUBLIC[0], update),
        (KEYS[1], PUBLIC[2], update),
        (KEYS[1], PUBLIC[0], H(b"another")),
    ):
        with pytest.raises(InvalidUpdate):
            take_key(box, identity, key, giver)


@pytest.mark.parametrize("box", [b"", bytes(15), bytes(48), bytes(49)], ids=len)
def test_passed_key_of_other_bytes_refuses(box: bytes) -> None:
    with pytest.raises(InvalidUpdate):
        take_key(box, H(b"update"), KEYS[1], PUBLIC[0])


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_content_key_of_a_wrong_length_refuses(length: int) -> None:
    blob, _ = seal(b"x", PUBLIC, ENTROPY, SENDER)

    with pytest.raises(InvalidUpdate):
        decrypt(SEALED.unpack(blob), bytes(length), SENDER)


@pytest.mark.parametrize(
    "key",
    [bytes(32), b"\x01" + bytes(31), (2**255 - 20).to_bytes(32, "little")],
    ids=["zero", "one", "minus one"],
)
def test_seal_to_a_small_order_key_refuses(key: bytes) -> None:
    with pytest.raises(DecodeError, match="small order"):
        seal(b"x", [key], ENTROPY, SENDER)


def test_seal_to_nobody_or_too_many_refuses() -> None:
    for recipients in ([], PUBLIC[:1] * (RECIPIENTS_MAX + 1)):
        with pytest.raises(ProtocolError):
            seal(b"x", recipients, ENTROPY, SENDER)
