"""Ed25519 keys for TLS, written without the `cryptography` package.

A board needs nothing but PyNaCl: the PKCS #8 form of an Ed25519 key is a constant of
16 bytes, followed by the seed. The TLS key is not the key that signs updates.

Source: RFC 8410 section 7 (OneAsymmetricKey), RFC 7468 (PEM).
"""

import base64
from pathlib import Path

from starling.durable.files import PRIVATE_MODE, write_atomic
from starling.protocol.crypto.keys import SEED_BYTES, SigningKey
from starling.protocol.ids import PublicKey

_PKCS8_PREFIX = bytes.fromhex("302e020100300506032b657004220420")


def private_key_pem(seed: bytes) -> bytes:
    """The secret key as PEM.

    Args:
      seed: (32,) bytes, secret.
    """
    assert len(seed) == SEED_BYTES
    body = base64.b64encode(_PKCS8_PREFIX + seed)
    return b"-----BEGIN PRIVATE KEY-----\n" + body + b"\n-----END PRIVATE KEY-----\n"


def write_tls_key(path: Path, seed: bytes) -> PublicKey:
    """Writes the secret key, readable by its owner alone.

    Args:
      path: The PEM file.
      seed: (32,) bytes from the system's random source.

    Returns:
      The public key, for which the authority issues a certificate.

    Raises:
      StorageError: If the disk refuses.
    """
    write_atomic(path, private_key_pem(seed), PRIVATE_MODE)
    return SigningKey(seed).public
