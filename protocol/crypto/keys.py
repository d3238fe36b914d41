"""Ed25519 signatures, with one verifier in the whole system.

Libraries differ on edge cases of Ed25519 (libsodium refuses all small-order points,
OpenSSL accepts some), and mixed verifiers split a chain; so every signature is made
and checked by libsodium through PyNaCl. Signing is deterministic; keys are made from
a seed that the runtime draws.

Checking a signature is a function of its arguments, and a simulation checks in one
process what it has just signed there. `known_signatures` lets it remember what holds;
nobody else uses it, and it can make no signature hold that does not.

Source: RFC 8032 section 5.1; edge cases: Chalkias, Garillot, Nikolaenko, "Taming the
many EdDSAs", 2020.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

from nacl import bindings
from nacl.exceptions import BadSignatureError

from starling.protocol.errors import SignatureError
from starling.protocol.ids import (
    KEY_BYTES,
    SIGNATURE_BYTES,
    DeviceId,
    PublicKey,
    SealingKey,
    device_id,
)

SEED_BYTES = 32
_Signature = tuple[bytes, bytes, bytes]
"""Public key, message, signature."""


class _Known:
    """Signatures that hold: those of the latest generation, and of the one before."""

    def __init__(self, each: int) -> None:
        self._each = each
        self._older: set[_Signature] = set()
        self._newer: set[_Signature] = set()

    def __contains__(self, signature: _Signature) -> bool:
        return signature in self._newer or signature in self._older

    def add(self, signature: _Signature) -> None:
        self._newer.add(signature)
        if len(self._newer) >= self._each:
            # Two generations bound the memory without a clock or an order of use.
            self._older, self._newer = self._newer, set()


_known: _Known | None = None


@contextmanager
def known_signatures(most: int) -> Iterator[None]:
    """Within it, what was signed or verified in this process is not verified again.

    Args:
      most: How many are remembered at most, at least 2; half as many of the latest
        always are. Each takes some 400 bytes.
    """
    global _known
    before = _known
    _known = _Known(most // 2)
    try:
        yield
    finally:
        _known = before


@dataclass(frozen=True)
class SigningKey:
    """A secret Ed25519 key; its representation never shows the secret.

    Attributes:
      seed: (32,) bytes, secret.
      public: The verification key.
    """

    seed: bytes = field(repr=False)
    public: PublicKey = field(init=False)
    _secret: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Derives the pair; the seed must have 32 bytes."""
        public, secret = bindings.crypto_sign_seed_keypair(self.seed)
        object.__setattr__(self, "public", PublicKey(public))
        object.__setattr__(self, "_secret", secret)

    @cached_property
    def identity(self) -> DeviceId:
        """The id of whoever starts out with this key."""
        return device_id(self.public)

    def sign(self, message: bytes) -> bytes:
        """Signs; 64 bytes, the same ones for the same message."""
        signed: bytes = bindings.crypto_sign(message, self._secret)
        signature = signed[:SIGNATURE_BYTES]
        if _known is not None:
            _known.add((self.public, message, signature))
        return signature


@dataclass(frozen=True)
class OpeningKey:
    """A secret X25519 key that opens what was sealed to it.

    Attributes:
      seed: (32,) bytes, secret.
      public: The key to seal to.
    """

    seed: bytes = field(repr=False)
    public: SealingKey = field(init=False)
    secret: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Derives the pair; the seed must have 32 bytes."""
        public, secret = bindings.crypto_box_seed_keypair(self.seed)
        object.__setattr__(self, "public", SealingKey(public))
        object.__setattr__(self, "secret", secret)


def verify(public: bytes, message: bytes, signature: bytes) -> None:
    """Checks one signature.

    Raises:
      SignatureError: If it does not verify, or key or signature have a wrong length.
    """
    # libsodium takes signature and message as one string: a shorter signature would
    # shift the message.
    if len(public) != KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        raise SignatureError("key or signature of a wrong length")
    if _known is not None and (public, message, signature) in _known:
        return
    try:
        bindings.crypto_sign_open(signature + message, public)
    except BadSignatureError as error:
        raise SignatureError("signature does not verify") from error
    if _known is not None:
        _known.add((public, message, signature))
