"""Sealing a blob to the coordinators: encrypted once, openable by each of them.

The plaintext is encrypted with XChaCha20-Poly1305 under a fresh content key. The
content key goes to each recipient as a libsodium sealed box; all boxes of one blob
share their ephemeral key, so that a recipient costs 52 bytes. The nonce is zero
because a content key encrypts once.

Poly1305 does not bind the key, so one ciphertext can open under two keys to two
plaintexts. The signed contribution therefore carries `commitment`, the hash of content
key and plaintext, and an opener checks it.

The sender's key is authenticated with the ciphertext: without it, whoever sees a blob
pass could sign a contribution of its own that names the same blob.

Source: libsodium "Sealed boxes"; draft-irtf-cfrg-xchacha section 2; shared ephemeral
key across recipients: Bellare, Boldyreva, Staddon, PKC 2003; key commitment: Albertini
et al., USENIX Security 2022.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from nacl import bindings
from nacl.exceptions import CryptoError

from protocol.codec import binary, exactly, many, structure
from protocol.errors import DecodeError, InvalidUpdate, Reason
from protocol.ids import KEY_BYTES, Digest, H
from protocol.keys import OpeningKey

BLOB_BYTES_MAX = 64 * 1024 * 1024
RECIPIENTS_MAX = 32
ENTROPY_BYTES = 64
_HINT_BYTES = 4
_BOX_BYTES = KEY_BYTES + 16
_NONCE = bytes(24)
_CONTEXT = b"starling/blob/1"


@dataclass(frozen=True)
class Sealed:
    """An encrypted blob with one box per recipient.

    Attributes:
      ephemeral: X25519 public key of all boxes.
      boxes: Per recipient 4 bytes of the hash of its key, then its box of 48 bytes.
      ciphertext: The plaintext's length and 16 bytes.
    """

    ephemeral: bytes
    boxes: tuple[bytes, ...]
    ciphertext: bytes


SEALED = structure(
    Sealed,
    BLOB_BYTES_MAX,
    exactly(KEY_BYTES),
    many(exactly(_HINT_BYTES + _BOX_BYTES), RECIPIENTS_MAX, 1),
    binary(BLOB_BYTES_MAX, 16),
)


def commitment(content_key: bytes, plaintext: bytes) -> Digest:
    """Binds a content key and what it decrypts to."""
    return H(b"starling/commitment/1", content_key, plaintext)


def seal(
    plaintext: bytes, recipients: Sequence[bytes], entropy: bytes, sender: bytes
) -> tuple[bytes, Digest]:
    """Encrypts a blob for every recipient.

    Args:
      plaintext: Any bytes.
      recipients: X25519 public keys, at least one.
      entropy: 64 fresh secret random bytes, used for nothing else.
      sender: Ed25519 public key of the envelope that will name the blob.

    Returns:
      The packed blob and the commitment to sign.

    Raises:
      DecodeError: If a recipient's key is of small order: nobody holds its secret.
    """
    assert len(entropy) == ENTROPY_BYTES
    content_key = entropy[:KEY_BYTES]
    ephemeral, secret = bindings.crypto_box_seed_keypair(entropy[KEY_BYTES:])
    boxes = []
    for recipient in recipients:
        nonce = hashlib.blake2b(ephemeral + recipient, digest_size=24).digest()
        try:
            box = bindings.crypto_box(content_key, nonce, recipient, secret)
        except CryptoError as error:
            raise DecodeError("a recipient's key is of small order") from error
        boxes.append(_hint(recipient) + box)
    ciphertext = bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(
        plaintext, _CONTEXT + sender, _NONCE, content_key
    )
    blob = SEALED.pack(Sealed(ephemeral, tuple(boxes), ciphertext))
    return blob, commitment(content_key, plaintext)


def open_sealed(blob: bytes, key: OpeningKey, sender: bytes) -> tuple[bytes, bytes]:
    """Opens a blob that was sealed to `key`.

    Args:
      blob: As `seal` packed it.
      key: Our key.
      sender: Ed25519 public key of the envelope that names the blob.

    Returns:
      The content key and the plaintext; the caller compares `commitment`.

    Raises:
      DecodeError, LimitError: If the blob has another form.
      InvalidUpdate: `NOT_SEALED_TO_ME` if no box opens, `MALFORMED` if the content key
        does not decrypt the ciphertext or another sender sealed it.
    """
    sealed = SEALED.unpack(blob)
    hint = _hint(key.public)
    for box in sealed.boxes:
        if box[:_HINT_BYTES] != hint:
            continue
        try:
            content_key = bindings.crypto_box_seal_open(
                sealed.ephemeral + box[_HINT_BYTES:], key.public, key.secret
            )
        except CryptoError:
            continue
        return content_key, _decrypt(sealed.ciphertext, content_key, sender)
    raise InvalidUpdate("no box opens with our key", Reason.NOT_SEALED_TO_ME)


def open_with_content_key(blob: bytes, content_key: bytes, sender: bytes) -> bytes:
    """Opens a blob with a content key that a peer passed on.

    Raises:
      DecodeError, LimitError, InvalidUpdate: As for `open_sealed`.
    """
    return _decrypt(SEALED.unpack(blob).ciphertext, content_key, sender)


def _hint(recipient: bytes) -> bytes:
    return H(b"starling/hint/1", recipient)[:_HINT_BYTES]


def _decrypt(ciphertext: bytes, content_key: bytes, sender: bytes) -> bytes:
    try:
        plaintext: bytes = bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(
            ciphertext, _CONTEXT + sender, _NONCE, content_key
        )
    except (CryptoError, ValueError, TypeError) as error:
        raise InvalidUpdate("the content key does not decrypt the blob") from error
    return plaintext
