"""Chunks of a model as differences from an older version that the receiver has.

A piece of a version holds little-endian float32 that are integers times 2^-24, as all
versions do that were made by sums. Its difference from the same piece of an older
version is one small integer for each value: zigzag-coded, in four planes of bytes,
least significant first, deflated (RFC 1951). Each chunk stands alone, so that any
can be asked for again, whole if need be.

A difference proves nothing. What it gives is a piece like any other, and the whole is
used only if it has the digest that was asked for. Inflating ends at the length of
the piece, whatever the bytes say.
"""

import sys
import zlib
from array import array
from typing import Annotated

from starling.protocol.errors import DecodeError
from starling.protocol.ids import Digest
from starling.protocol.schema.msgpack_codec import Structure, binary, structure, uint
from starling.protocol.wire.chunks import (
    CHUNK_BYTES,
    CHUNK_MESSAGE_BYTES_MAX,
    WHOLE_BYTES_MAX,
    Chunk,
)

_SCALE = 2.0**24
_WIDTH = 4
"""Bytes of a float32, and of a difference."""
_DIFFERENCES = range(-(1 << 31), 1 << 31)
_LEVEL = 6
_MEMORY = 9
_HEAD = b"\x95"
"""How an array of five begins; a `Chunk` has four fields."""


class ChunkDelta(Structure, frozen=True):
    """One piece of a model as its difference from that piece of another one.

    Attributes:
      digest: H of the model.
      size: Its length in bytes, as long as `base`.
      index: Which piece, from 0.
      data: The deflated difference.
      base: H of the model that it is a difference from.
    """

    digest: Digest
    size: Annotated[int, uint(WHOLE_BYTES_MAX, 1)]
    index: Annotated[int, uint(WHOLE_BYTES_MAX // CHUNK_BYTES)]
    data: Annotated[bytes, binary(CHUNK_BYTES, 1)]
    base: Digest

    @property
    def start(self) -> int:
        """First byte of the piece, in both models."""
        return self.index * CHUNK_BYTES

    def chunk(self, piece: bytes) -> Chunk:
        """The chunk of the model.

        Args:
          piece: Up to `CHUNK_BYTES` of `base` from `start` on.

        Raises:
          DecodeError: If they do not go together.
        """
        return Chunk(self.digest, self.size, self.index, patched(piece, self.data))


CHUNK_DELTA = structure(ChunkDelta, CHUNK_MESSAGE_BYTES_MAX)


def is_delta(payload: bytes) -> bool:
    """True if a message about a model is a `ChunkDelta`, if it is anything."""
    return payload[:1] == _HEAD


def difference(older: bytes, newer: bytes) -> bytes | None:
    """The difference with which `patched` makes `newer` out of `older`.

    Args:
      older: A piece, little-endian float32.
      newer: Another one of that length.

    Returns:
      None where that would be no shorter than the piece, or not exact: for values that
      are no integers times 2^-24, and those that differ by 128 or more.
    """
    if len(older) != len(newer) or len(newer) % _WIDTH:
        return None
    try:
        pairs = zip(_floats(newer), _floats(older), strict=True)
        changes = [int((new - old) * _SCALE) for new, old in pairs]
    except (ValueError, OverflowError):
        return None
    if not all(change in _DIFFERENCES for change in changes):
        return None
    # Zigzag keeps small changes of either sign in the lowest plane; the others are
    # zeros, which deflate to next to nothing.
    coded = _little(array("I", [(each << 1) ^ (each >> 63) for each in changes]))
    coder = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, _MEMORY)
    made = b""
    for plane in range(_WIDTH):
        # A code of its own for each plane.
        made += coder.compress(coded[plane::_WIDTH]) + coder.flush(zlib.Z_BLOCK)
    made += coder.flush()
    # Tried out: a value that is no integer times 2^-24 was cut short, and would come
    # back as another one.
    if len(made) >= len(newer) or patched(older, made) != newer:
        return None
    return made


def patched(older: bytes, change: bytes) -> bytes:
    """A piece out of an older one and a difference, not longer than the older one.

    Raises:
      DecodeError: If `change` is no difference for a piece of that length.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        # One byte more than a piece has is enough to see that a difference is too long,
        # and bounds the memory of a hostile one.
        planes = inflater.decompress(change, len(older) + 1)
    except zlib.error as error:
        raise DecodeError(f"difference of a model: {error}") from error
    is_whole = inflater.eof and not inflater.unused_data
    if not is_whole or len(planes) != len(older) or len(older) % _WIDTH:
        raise DecodeError("difference of a model is not as long as its piece")
    coded = bytearray(len(planes))
    each = len(planes) // _WIDTH
    for plane in range(_WIDTH):
        coded[plane::_WIDTH] = planes[plane * each : (plane + 1) * each]
    numbers = array("I", bytes(coded))
    if sys.byteorder == "big":
        numbers.byteswap()
    pairs = zip(_floats(older), numbers, strict=True)
    try:
        values = [old + ((n >> 1) ^ -(n & 1)) / _SCALE for old, n in pairs]
        return _little(array("f", values))
    except OverflowError as error:
        raise DecodeError("difference of a model leaves float32") from error


def _floats(piece: bytes) -> "array[float]":
    values = array("f", piece)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _little(values: "array[float] | array[int]") -> bytes:
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()
