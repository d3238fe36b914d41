"""The bytes of a journal: a head, then checksummed frames; pure, no file in sight.

    journal := magic (8) salt (8) frame*
    frame   := length u32, checksum u32, body          (big endian)

The top bit of `length` marks a body that is a batch, `(length u32, payload)*`, so that
several payloads become durable together or not at all. The checksum is CRC-32 over
salt, position in the file, `length` and body. Position and salt make sure that neither
an old block of the disk nor bytes that a peer put into a payload pass for a frame.

An append is synced before the next one starts, so a power cut can spoil the last frame
only. A spoiled frame with nothing valid behind it is therefore a torn tail, which was
never acknowledged; one with a valid frame behind it is damage to acknowledged entries.
A damaged last frame cannot be told from a torn one.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from protocol.errors import LimitError, StorageError

MAGIC = b"STARJNL1"
SALT_BYTES = 8
HEAD_BYTES = len(MAGIC) + SALT_BYTES
PAYLOAD_BYTES_MAX = 16 << 20
"""Longest frame body; a batch counts with 4 bytes more for each payload."""

_FRAME = struct.Struct(">II")
_LENGTH = struct.Struct(">I")
_BATCH = 1 << 31


@dataclass(frozen=True)
class Scan:
    """What a journal's bytes hold.

    Attributes:
      payloads: In the order in which they were appended.
      sound_bytes: Where the last sound frame ends; all behind it is a torn tail.
      torn_bytes: Length of that tail; 0 after a clean stop.
    """

    payloads: tuple[bytes, ...]
    sound_bytes: int
    torn_bytes: int


def head(salt: bytes) -> bytes:
    """The first bytes of a new journal; `salt` is (8,) random bytes."""
    assert len(salt) == SALT_BYTES
    return MAGIC + salt


def unfinished_head(content: bytes) -> bool:
    """Whether a file is empty, or was cut off while its head was first written."""
    if len(content) > HEAD_BYTES:
        return False
    partial = len(content) < HEAD_BYTES and MAGIC.startswith(content[: len(MAGIC)])
    return partial or not any(content)


def frame(payloads: Sequence[bytes], position: int, salt: bytes) -> bytes:
    """Frames payloads that become durable together.

    Args:
      payloads: One or more.
      position: Where in the file the frame will begin.
      salt: From the journal's head.

    Raises:
      LimitError: If they are longer than `PAYLOAD_BYTES_MAX` together.
    """
    if len(payloads) == 1:
        body, mark = payloads[0], 0
    else:
        body = b"".join(_LENGTH.pack(len(item)) + item for item in payloads)
        mark = _BATCH
    if len(body) > PAYLOAD_BYTES_MAX:
        raise LimitError(f"journal entry of {len(body)} bytes")
    length = len(body) | mark
    return _FRAME.pack(length, _checksum(salt, position, length, body)) + body


def scan(content: bytes) -> Scan:
    """Reads a whole journal.

    Args:
      content: The file's bytes.

    Raises:
      StorageError: If the head is not a journal's, or a frame before the last one is
        damaged; names the offset.
    """
    if len(content) < HEAD_BYTES or not content.startswith(MAGIC):
        raise StorageError("not a journal: wrong head at offset 0")
    salt = content[len(MAGIC) : HEAD_BYTES]
    payloads: list[bytes] = []
    position = HEAD_BYTES
    while position < len(content):
        end = _frame_end(content, position, salt)
        if end is None:
            _require_torn(content, position, salt)
            break
        payloads.extend(_payloads(content, position, end))
        position = end
    return Scan(tuple(payloads), position, len(content) - position)


def _checksum(salt: bytes, position: int, length: int, body: bytes) -> int:
    start = zlib.crc32(salt + struct.pack(">QI", position, length))
    return zlib.crc32(body, start)


def _frame_end(content: bytes, position: int, salt: bytes) -> int | None:
    """Where the frame at `position` ends; None if no sound frame begins there."""
    start = position + _FRAME.size
    if start > len(content):
        return None
    length, checksum = _FRAME.unpack_from(content, position)
    end: int = start + (length & ~_BATCH)
    if end > len(content) or end - start > PAYLOAD_BYTES_MAX:
        return None
    sound = _checksum(salt, position, length, content[start:end]) == checksum
    return end if sound else None


def _payloads(content: bytes, position: int, end: int) -> list[bytes]:
    (length,) = _LENGTH.unpack_from(content, position)
    start = position + _FRAME.size
    if not length & _BATCH:
        return [content[start:end]]
    items = []
    while start < end:
        (size,) = _LENGTH.unpack_from(content, start)
        start += _LENGTH.size
        items.append(content[start : start + size])
        start += size
    return items


def _require_torn(content: bytes, position: int, salt: bytes) -> None:
    for later in range(position + 1, len(content) - _FRAME.size + 1):
        if _frame_end(content, later, salt) is not None:
            raise StorageError(
                f"damaged at offset {position}: sound entries follow at {later}"
            )
