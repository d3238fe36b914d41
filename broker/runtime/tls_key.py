"""Ed25519 keys for TLS, written without the `cryptography` package.

A board needs nothing but PyNaCl: the PKCS #8 form of an Ed25519 key is a constant of
16 bytes, followed by the seed. The TLS key is not the key that signs updates.

Source: RFC 8410 section 7 (OneAsymmetricKey), RFC 7468 (PEM).
"""

import base64
from pathlib import Path

from starling.durable.files import (
    PRIVATE_MODE,
    read_limited,
    require_private,
    write_atomic,
)
from starling.protocol.crypto.keys import SEED_BYTES, SigningKey
from starling.protocol.errors import ConfigError
from starling.protocol.ids import PublicKey

_PEM_BYTES_MAX = 4096
_PKCS8_PREFIX = bytes.fromhex("302e020100300506032b657004220420")


def private_key_pem(seed: bytes) -> bytes:
    """The secret key as PEM.

    Args:
      seed: (32,) bytes, secret.
    """
    assert len(seed) == SEED_BYTES
    body = base64.b64encode(_PKCS8_PREFIX + seed)
    return b"-----BEGIN PRIVATE KEY-----\n" + body + b"\n-----END PRIVATE KEY-----\n"


def read_tls_key(path: Path) -> SigningKey:
    """Reads a secret key that `write_tls_key` wrote.

    Raises:
      ConfigError: If it is none, or others may read it.
      StorageError: If the file is missing.
    """
    require_private(path)
    try:
        lines = read_limited(path, _PEM_BYTES_MAX).split()
        content = base64.b64decode(b"".join(lines[3:-3]), validate=True)
    except ValueError as error:
        raise ConfigError("not a PEM key", file=str(path)) from error
    # Both lengths: without the prefix nothing is removed, and 48 bytes are then no
    # seed.
    seed = content.removeprefix(_PKCS8_PREFIX)
    if len(content) != len(_PKCS8_PREFIX) + SEED_BYTES or len(seed) != SEED_BYTES:
        raise ConfigError("not an Ed25519 key", file=str(path))
    return SigningKey(seed)


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
