"""A block as it is stored, and finding the byte that changed in it."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated

from starling.protocol.chain.blocks import (
    BLOCK_BYTES_MAX,
    TRANSACTIONS_PER_BLOCK_MAX,
)
from starling.protocol.schema.msgpack_codec import Codec, binary, encode, many
from starling.protocol.wire.envelope import ENVELOPE_BYTES_MAX

_BODY = Codec[tuple[bytes, ...]](
    Annotated[
        tuple[Annotated[bytes, binary(ENVELOPE_BYTES_MAX)], ...],
        many(TRANSACTIONS_PER_BLOCK_MAX),
    ],
    BLOCK_BYTES_MAX,
)

_NIL, _SMALL_MAX, _NEGATIVE_MIN, _SHORT_ARRAY = 0xC0, 0x7F, 0xE0, 0x90
_NUMBER_BYTES = {0xCC + code: 1 << code % 4 for code in range(8)}
"""Length of an integer by the byte before it: unsigned ones, then signed ones."""
_BINARY_BYTES = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_ARRAY_BYTES = {0xDC: 2, 0xDD: 4}
"""Length of the length of a byte string or an array, likewise."""
_PAIR = b"\x92"
"""msgpack's header of an array of two."""


@dataclass(frozen=True)
class BlockRow:
    """A stored block; its offsets run through header, body and certificate.

    Attributes:
      height: Under which it is stored.
      header: Packed header.
      body: Packed list of its packed transactions.
      certificate: Packed certificate.
    """

    height: int
    header: bytes
    body: bytes
    certificate: bytes


def pack_body(transactions: Sequence[bytes]) -> bytes:
    """A block's transactions as they stand in their row."""
    return encode(list(transactions))


def decision(row: BlockRow) -> bytes:
    """The packed `DecidedBlock` of a row, made without unpacking it."""
    # An array of block and certificate, of which the block is an array of header and
    # body.
    return _PAIR + _PAIR + row.header + row.body + row.certificate


def unpack_body(body: bytes) -> tuple[bytes, ...]:
    """Reads a row's transactions.

    Raises:
      DecodeError, LimitError: If it holds anything else.
    """
    return _BODY.unpack(body)


def item_starts(packed: bytes) -> list[int]:
    """Offsets of a packed array's items, as far as it can be read.

    Args:
      packed: Possibly damaged bytes.

    Returns:
      Offsets of the items' first bytes, and of what follows the last readable one.
    """
    starts: list[int] = []
    # Damaged bytes end early, nest without end, or begin with no kind of the wire.
    with suppress(LookupError, RecursionError):
        count, at = _array(packed, 0)
        for _ in range(count):
            starts.append(at)
            at = _end(packed, at)
        starts.append(at)
    return starts


def _end(packed: bytes, at: int) -> int:
    """Offset of what follows the value at an offset."""
    first = packed[at]
    if first <= _SMALL_MAX or first >= _NEGATIVE_MIN or first == _NIL:
        return at + 1
    if first in _NUMBER_BYTES:
        end = at + 1 + _NUMBER_BYTES[first]
    elif first in _BINARY_BYTES:
        start = at + 1 + _BINARY_BYTES[first]
        end = start + int.from_bytes(packed[at + 1 : start])
    else:
        count, end = _array(packed, at)
        for _ in range(count):
            end = _end(packed, end)
    if end > len(packed):
        raise IndexError(end)
    return end


def _array(packed: bytes, at: int) -> tuple[int, int]:
    """Number of items of the array at an offset, and where the first begins."""
    first = packed[at]
    if first & 0xF0 == _SHORT_ARRAY:
        return first & 0x0F, at + 1
    start = at + 1 + _ARRAY_BYTES[first]
    return int.from_bytes(packed[at + 1 : start]), start


def item_at(packed: bytes, offset: int) -> int | None:
    """Index of the packed array's item with a byte; None for the array's head."""
    starts = item_starts(packed)
    before = [index for index, start in enumerate(starts) if start <= offset]
    return before[-1] if before else None


def changed_byte(
    damaged: bytes,
    is_original: Callable[[bytes], bool],
    offsets: Sequence[int] | None = None,
) -> int | None:
    """Finds the byte whose replacement makes some bytes whole again.

    Args:
      damaged: Bytes of which one may have changed.
      is_original: Whether candidate bytes are the original ones.
      offsets: Where to look; everywhere by default.

    Returns:
      Its offset, or None if replacing one byte does not help.
    """
    candidate = bytearray(damaged)
    for offset in range(len(damaged)) if offsets is None else offsets:
        found = damaged[offset]
        for value in range(256):
            candidate[offset] = value
            if value != found and is_original(bytes(candidate)):
                return offset
        candidate[offset] = found
    return None
