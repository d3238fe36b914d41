"""A block as it is stored, and finding the byte that changed in it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgpack

from starling.protocol.chain.blocks import BLOCK_BYTES_MAX
from starling.protocol.errors import DecodeError
from starling.protocol.schema.msgpack_codec import decode, encode

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
    """The packed `wire.Decision` of a row, made without unpacking it."""
    return _PAIR + _PAIR + row.header + row.body + row.certificate


def unpack_body(body: bytes) -> tuple[bytes, ...]:
    """Reads a row's transactions.

    Raises:
      DecodeError, LimitError: If it holds anything else.
    """
    items = decode(body, BLOCK_BYTES_MAX)
    if not isinstance(items, list):
        raise DecodeError("body: not a list of transactions")
    found = tuple(item for item in items if isinstance(item, bytes))
    if len(found) != len(items):
        raise DecodeError("body: not a list of packed envelopes")
    return found


def item_starts(packed: bytes) -> list[int]:
    """Where the items of a packed array begin, as far as it can be read.

    Args:
      packed: Possibly damaged bytes.

    Returns:
      Offsets of the items' first bytes, and of what follows the last readable one.
    """
    unpacker = msgpack.Unpacker(max_buffer_size=0)
    unpacker.feed(packed)
    starts: list[int] = []
    # Damaged bytes raise anything from ValueError to UnicodeDecodeError, which is one.
    try:
        for _ in range(unpacker.read_array_header()):
            starts.append(unpacker.tell())
            unpacker.skip()
        starts.append(unpacker.tell())
    except (ValueError, msgpack.exceptions.UnpackException):
        pass
    return starts


def item_at(packed: bytes, offset: int) -> int | None:
    """Which item of a packed array a byte belongs to; None for the array's head."""
    starts = item_starts(packed)
    before = [index for index, start in enumerate(starts) if start <= offset]
    return before[-1] if before else None


def changed_byte(
    damaged: bytes, whole: Callable[[bytes], bool], offsets: Sequence[int] | None = None
) -> int | None:
    """Finds the byte whose replacement makes some bytes whole again.

    Args:
      damaged: Bytes of which one may have changed.
      whole: Whether candidate bytes are the original ones.
      offsets: Where to look; everywhere by default.

    Returns:
      Its offset, or None if replacing one byte does not help.
    """
    candidate = bytearray(damaged)
    for offset in range(len(damaged)) if offsets is None else offsets:
        found = damaged[offset]
        for value in range(256):
            candidate[offset] = value
            if value != found and whole(bytes(candidate)):
                return offset
        candidate[offset] = found
    return None
