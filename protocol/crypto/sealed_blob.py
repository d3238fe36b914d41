"""Sealing a blob to the coordinators: encrypted once, openable by each of them.

The plaintext is encrypted with XChaCha20-Poly1305 under a fresh content key. The
content key goes to each recipient as a libsodium sealed box; all boxes of one blob
share their ephemeral key, so that a recipient costs 56 bytes. The nonce is zero
because a content key encrypts once.

Poly1305 does not bind the key, so one ciphertext can open under two keys to two
plaintexts. The signed contribution therefore carries `commitment`, the hash of content
key and plaintext, and an opener checks it.

The ephemeral key follows from the content key, as in the transform of Fujisaki and
Okamoto. Whoever has the content key can therefore make every box again, and prove of a
box that it is not what the sender should have put there. Commitment and digest of a
blob are hashes of hashes, so that such a proof needs neither ciphertext nor plaintext.

The sender's key is authenticated with the ciphertext: without it, whoever sees a blob
pass could sign a contribution of its own that names the same blob.

Source: libsodium "Sealed boxes"; draft-irtf-cfrg-xchacha section 2; shared ephemeral
key across recipients: Bellare, Boldyreva, Staddon, PKC 2003; ephemeral key from the
content key: Fujisaki, Okamoto, CRYPTO 1999; key commitment: Albertini et al., USENIX
Security 2022.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Annotated

from nacl import bindings
from nacl.exceptions import CryptoError

from starling.protocol.crypto.keys import OpeningKey
from starling.protocol.errors import ClosedUpdate, DecodeError, InvalidUpdate, Reason
from starling.protocol.ids import KEY_BYTES, Digest, H
from starling.protocol.schema.msgpack_codec import (
    Structure,
    binary,
    exactly,
    many,
    structure,
)

BLOB_BYTES_MAX = 64 * 1024 * 1024
RECIPIENTS_MAX = 32
ENTROPY_BYTES = KEY_BYTES
_HINT_BYTES = 8
"""So many that nobody finds a key with the hint of another, to be boxed for amiss. The
blob's ephemeral key is hashed, too: no two keys with one hint are drawn beforehand."""
PASSED_BYTES = KEY_BYTES + 16
_SAME_HINT_MAX = 4
"""More boxes of one hint are not looked at: honest ones practically never have two."""
BOX_BYTES = _HINT_BYTES + KEY_BYTES + 16
_NONCE = bytes(24)
_CONTEXT = b"starling/blob/1"


class SealedBlob(Structure, frozen=True):
    """An encrypted blob with one box per recipient.

    Attributes:
      ephemeral: X25519 public key of all boxes.
      boxes: Per recipient 8 bytes of the hash of both keys, then its box of 48 bytes.
      ciphertext: The plaintext's length and 16 bytes.
    """

    ephemeral: Annotated[bytes, exactly(KEY_BYTES)]
    boxes: Annotated[
        tuple[Annotated[bytes, exactly(BOX_BYTES)], ...], many(RECIPIENTS_MAX, 1)
    ]
    ciphertext: Annotated[bytes, binary(BLOB_BYTES_MAX, 16)]

    def digest(self) -> Digest:
        """Names the blob in the contribution that its sender signs."""
        return sealed_digest(self.ephemeral, self.boxes, H(self.ciphertext))


SEALED = structure(SealedBlob, BLOB_BYTES_MAX)


def sealed_digest(
    ephemeral: bytes, boxes: Sequence[bytes], ciphertext: Digest
) -> Digest:
    """The digest of a blob; `ciphertext` is the hash of its ciphertext."""
    return H(b"starling/sealed/1", H(ephemeral, *boxes), ciphertext)


def blob_digest(blob: bytes) -> Digest:
    """The digest of a packed blob.

    Raises:
      DecodeError, LimitError: If it is none.
    """
    return SEALED.unpack(blob).digest()


def commitment(content_key: bytes, plaintext: bytes) -> Digest:
    """Binds a content key and what it decrypts to."""
    return commitment_to(content_key, H(plaintext))


def commitment_to(content_key: bytes, plaintext: Digest) -> Digest:
    """The commitment of a content key and the hash of a plaintext."""
    return H(b"starling/commitment/1", content_key, plaintext)


def seal(
    plaintext: bytes, recipients: Sequence[bytes], entropy: bytes, sender: bytes
) -> tuple[bytes, Digest]:
    """Encrypts a blob for every recipient.

    Args:
      plaintext: Any bytes.
      recipients: X25519 public keys, at least one.
      entropy: 32 fresh secret random bytes, used for nothing else: the content key.
      sender: Ed25519 public key of the envelope that will name the blob.

    Returns:
      The packed blob and the commitment to sign.

    Raises:
      DecodeError: If a recipient's key is of small order: nobody holds its secret.
    """
    assert len(entropy) == ENTROPY_BYTES
    content_key = entropy
    ephemeral, secret = _ephemeral(content_key)
    boxes = [_box(content_key, each, ephemeral, secret) for each in recipients]
    ciphertext = bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(
        plaintext, _CONTEXT + sender, _NONCE, content_key
    )
    blob = SEALED.pack(SealedBlob(ephemeral, tuple(boxes), ciphertext))
    return blob, commitment(content_key, plaintext)


def open_sealed(
    sealed: SealedBlob, key: OpeningKey, sender: bytes, committed: Digest | None = None
) -> tuple[bytes, bytes]:
    """Opens a blob that was sealed to `key`; boxes of the same hint are tried.

    Args:
      sealed: The blob.
      key: Our key.
      sender: Ed25519 public key of the envelope that names the blob.
      committed: To be compared; None if the caller compares `commitment`.

    Returns:
      The content key and the plaintext.

    Raises:
      ClosedUpdate: `NOT_SEALED_TO_ME` if no box opens, else as `decrypt`.
    """
    failure = ClosedUpdate("no box opens with our key")
    for content_key in _content_keys(sealed, key):
        try:
            plaintext = decrypt(sealed, content_key, sender, committed)
        except ClosedUpdate as error:
            failure = error
        else:
            return content_key, plaintext
    raise failure


def decrypt(
    sealed: SealedBlob,
    content_key: bytes,
    sender: bytes,
    committed: Digest | None = None,
) -> bytes:
    """Decrypts a blob with a content key from a box or from a peer.

    Raises:
      ClosedUpdate: `MALFORMED`, or `COMMITMENT_MISMATCH` if that is to be compared.
    """
    try:
        plaintext: bytes = bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(
            sealed.ciphertext, _CONTEXT + sender, _NONCE, content_key
        )
    except (CryptoError, ValueError, TypeError) as error:
        detail = "the content key does not decrypt the blob"
        raise ClosedUpdate(detail, Reason.MALFORMED) from error
    if committed is not None and commitment(content_key, plaintext) != committed:
        raise ClosedUpdate("commitment does not open", Reason.COMMITMENT_MISMATCH)
    return plaintext


def check_recipient(recipient: bytes) -> None:
    """Refuses an X25519 public key to which nobody can seal.

    Raises:
      DecodeError: If it is of small order.
    """
    content_key = bytes(KEY_BYTES)
    _box(content_key, recipient, *_ephemeral(content_key))


def is_missealed(
    recipient: bytes, content_key: bytes, ephemeral: bytes, boxes: Sequence[bytes]
) -> bool:
    """True if a blob shows boxes for a recipient of which none was made by `seal`.

    A blob without any is no fault: its sender may not know the recipient.
    """
    hint = _hint(recipient, ephemeral)
    shown = [box for box in boxes if box[:_HINT_BYTES] == hint]
    public, secret = _ephemeral(content_key)
    if not shown:
        return False
    # Boxes under an ephemeral key that does not follow from the content key cannot be
    # `seal`'s.
    if public != ephemeral:
        return True
    return _box(content_key, recipient, ephemeral, secret) not in shown


def pass_key(
    content_key: bytes, update: Digest, key: OpeningKey, recipient: bytes
) -> bytes:
    """Boxes a content key for another coordinator; nobody else can make this box.

    Args:
      content_key: Of the blob.
      update: Id of the update that names the blob; with it the key is always the same,
        so that no nonce is used for two messages.
      key: Ours.
      recipient: The other one's X25519 public key.

    Raises:
      DecodeError: If that key is of small order.
    """
    # Under one pair of keys a nonce serves one update, which has one content key.
    nonce = _pass_nonce(update)
    try:
        box: bytes = bindings.crypto_box(content_key, nonce, recipient, key.secret)
    except CryptoError as error:
        raise DecodeError("a recipient's key is of small order") from error
    return box


def take_key(box: bytes, update: Digest, key: OpeningKey, giver: bytes) -> bytes:
    """Opens what `pass_key` made; the caller checks the content key by its commitment.

    Raises:
      InvalidUpdate: If `giver` did not make the box for us and this update.
    """
    try:
        content_key: bytes = bindings.crypto_box_open(
            box, _pass_nonce(update), giver, key.secret
        )
    except (CryptoError, ValueError, TypeError) as error:
        raise InvalidUpdate("a content key that was not boxed for us") from error
    return content_key


def _pass_nonce(update: Digest) -> bytes:
    return H(b"starling/pass/1", update)[:24]


def _hint(recipient: bytes, ephemeral: bytes) -> bytes:
    return H(b"starling/hint/1", ephemeral, recipient)[:_HINT_BYTES]


def _ephemeral(content_key: bytes) -> tuple[bytes, bytes]:
    seed = H(b"starling/ephemeral/1", content_key)
    public, secret = bindings.crypto_box_seed_keypair(seed)
    return public, secret


def _box(
    content_key: bytes, recipient: bytes, ephemeral: bytes, secret: bytes
) -> bytes:
    # The nonce that libsodium's sealed boxes have, so that `crypto_box_seal_open` opens
    # these.
    nonce = hashlib.blake2b(ephemeral + recipient, digest_size=24).digest()
    try:
        box = bindings.crypto_box(content_key, nonce, recipient, secret)
    except CryptoError as error:
        raise DecodeError("a recipient's key is of small order") from error
    return _hint(recipient, ephemeral) + bytes(box)


def _content_keys(sealed: SealedBlob, key: OpeningKey) -> Iterator[bytes]:
    """Content keys in our boxes; hints may collide, so there may be more than one."""
    hint = _hint(key.public, sealed.ephemeral)
    shown = [box for box in sealed.boxes if box[:_HINT_BYTES] == hint]
    for box in shown[:_SAME_HINT_MAX]:
        try:
            content_key: bytes = bindings.crypto_box_seal_open(
                sealed.ephemeral + box[_HINT_BYTES:], key.public, key.secret
            )
        except CryptoError:
            continue
        yield content_key
