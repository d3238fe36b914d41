"""Mutual proof of a shared secret over a transcript, where one side keeps no secret.

The keys and proofs are those of SCRAM-SHA-256. Who checks a proof stores `ScramKeys`
alone: with them nobody can make a client's proof, as long as no proof was seen as well.

The secret is drawn at random and has `SECRET_BYTES`, so that there is nothing to guess:
it stands in place of SCRAM's SaltedPassword, and neither salt nor iterations are used.

Source: RFC 5802 section 3 (keys, proofs) with the hash of RFC 7677.
"""

import hashlib
import hmac
from dataclasses import dataclass, field

from starling.protocol.errors import SignatureError

SECRET_BYTES = 20
PROOF_BYTES = 32
_CLIENT = b"Client Key"
_SERVER = b"Server Key"


@dataclass(frozen=True)
class ScramKeys:
    """Keys that the checking side keeps of a secret.

    Attributes:
      stored_key: (32,) bytes, SHA-256 of the client's key.
      server_key: (32,) bytes, with which the checking side proves itself.
    """

    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


def scram_keys(secret: bytes) -> ScramKeys:
    """The checking side's keys.

    Args:
      secret: (`SECRET_BYTES`,) random bytes.
    """
    assert len(secret) == SECRET_BYTES
    client_key = _mac(secret, _CLIENT)
    return ScramKeys(hashlib.sha256(client_key).digest(), _mac(secret, _SERVER))


def client_proof(secret: bytes, transcript: bytes) -> bytes:
    """Proof of the secret's holder: (32,) bytes, for this transcript alone.

    Args:
      secret: (`SECRET_BYTES`,) bytes.
      transcript: RFC 5802's AuthMessage.
    """
    client_key = _mac(secret, _CLIENT)
    signature = _mac(scram_keys(secret).stored_key, transcript)
    return _xor(client_key, signature)


def check_client_proof(keys: ScramKeys, transcript: bytes, proof: bytes) -> None:
    """Checks that whoever made a proof holds the secret.

    Raises:
      SignatureError: If it does not, or the transcript is another.
    """
    if len(proof) != PROOF_BYTES:
        raise SignatureError("the proof of the secret has a wrong length")
    # The proof gives the client's key to who knows the stored one, and nothing to
    # others.
    client_key = _xor(proof, _mac(keys.stored_key, transcript))
    found = hashlib.sha256(client_key).digest()
    # In constant time: how long it takes must not tell of the key.
    if not hmac.compare_digest(found, keys.stored_key):
        raise SignatureError("the secret is another one")


def server_signature(keys: ScramKeys, transcript: bytes) -> bytes:
    """Proof of the checking side: (32,) bytes, for this transcript alone."""
    return _mac(keys.server_key, transcript)


def check_server_signature(
    keys: ScramKeys, transcript: bytes, signature: bytes
) -> None:
    """Checks, with keys made from the secret, that the other side has them too.

    Raises:
      SignatureError: If it has not, or the transcript is another.
    """
    if not hmac.compare_digest(server_signature(keys, transcript), signature):
        raise SignatureError("the other side does not know the token")


def _mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))
