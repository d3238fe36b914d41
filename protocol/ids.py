"""Names of things: digests, keys and identifiers, and how people read them.

`H` is BLAKE2b with 32 bytes from hashlib, everywhere. A board's id is the first 16
bytes of the hash of its first public key (rotation keeps it), shown in base32.
"""

import base64
import binascii
import hashlib
from functools import lru_cache
from typing import Annotated, NewType

from msgspec import Meta

from starling.protocol.errors import DecodeError

DIGEST_BYTES = 32
KEY_BYTES = 32
SIGNATURE_BYTES = 64
DEVICE_ID_BYTES = 16
TASKS_MAX = 1 << 16
"""Of a chain."""
_Bytes32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
_Bytes16 = Annotated[bytes, Meta(min_length=16, max_length=16)]
_TaskNumber = Annotated[int, Meta(ge=0, le=TASKS_MAX)]
_VersionNumber = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]

# The bounds hold where structures are read and written, not where a name is made.
Digest = NewType("Digest", _Bytes32)
"""32 bytes: BLAKE2b-256."""
PublicKey = NewType("PublicKey", _Bytes32)
"""32 bytes: Ed25519 verification key."""
SealingKey = NewType("SealingKey", _Bytes32)
"""32 bytes: X25519 public key, to which blobs are sealed."""
DeviceId = NewType("DeviceId", _Bytes16)
"""16 bytes."""
ChainId = NewType("ChainId", _Bytes32)
"""32 bytes: hash of the genesis document."""
BlockHash = NewType("BlockHash", _Bytes32)
"""32 bytes: hash of a block's header."""
TaskId = NewType("TaskId", _TaskNumber)
"""Position of a task among the chain's tasks, from 0."""
Version = NewType("Version", _VersionNumber)
"""Number of a model version of one task; 0 is the model that the task came with."""

NAMES_KEPT = 1 << 14
"""How many boards' ids and names are remembered; to make one again is only slower."""

_EMPTY_HASH = hashlib.blake2b(digest_size=DIGEST_BYTES)


def H(*parts: bytes) -> Digest:  # noqa: N802 - the design's and the field's name
    """BLAKE2b-256 of the parts, one after the other."""
    # Most digests are of a few bytes, where calls cost: a copy of an empty hash is half
    # the price of a new one, and one update cheaper than several.
    hashed = _EMPTY_HASH.copy()
    hashed.update(parts[0] if len(parts) == 1 else b"".join(parts))
    return Digest(hashed.digest())


def begin_hash() -> "hashlib.blake2b":
    """`H` of nothing yet, to be updated part by part."""
    return _EMPTY_HASH.copy()


@lru_cache(maxsize=NAMES_KEPT)
def device_id(first_public_key: bytes) -> DeviceId:
    """The id of the board whose first key this is; coordinators are named alike."""
    return DeviceId(H(first_public_key)[:DEVICE_ID_BYTES])


@lru_cache(maxsize=NAMES_KEPT)
def device_name(identity: bytes) -> str:
    """Shows an id: 26 characters of lower-case base32 without padding."""
    return base64.b32encode(identity).decode().rstrip("=").lower()


@lru_cache(maxsize=NAMES_KEPT)
def device_from_name(name: str) -> DeviceId:
    """Reads an id back.

    Raises:
      DecodeError: If it is not exactly what `device_name` prints.
    """
    try:
        identity = base64.b32decode(name.upper() + "======")
    except (binascii.Error, ValueError) as error:
        raise DecodeError(f"not a device id: {name[:40]!r}") from error
    if len(identity) != DEVICE_ID_BYTES or device_name(identity) != name:
        raise DecodeError(f"not a device id: {name[:40]!r}")
    return DeviceId(identity)
