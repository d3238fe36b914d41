"""The bytes of a journal: a head, then checksummed frames; pure, no file in sight.

    journal := magic (8) salt (8) frame*
    frame   := length u32, check u32, checksum u32, body, mark u8     (big endian)

The top bit of `length` marks a body that is a batch, `(length u32, payload)*`, so that
several payloads become durable together or not at all. `check` is CRC-32 over salt,
position in the file and `length`; `checksum` over those and the body. Position and salt
make sure that neither an old block of the disk nor bytes that a peer put into a payload
pass for a frame. `mark` is never 0.

An append is synced before the next one starts, so a power cut can spoil the last frame
only, and in two ways: its end is missing, or has its length but reads as zeros. Such a
torn tail was never acknowledged, and may be dropped. All else that is spoiled is damage
to entries that were: a frame with sound ones behind it, and also a last one that is
there up to its end. That `length` has its own check tells a frame that was cut short
from one whose length was damaged, and the mark one that ends in zeros from a whole one.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from starling.protocol.errors import LimitError, StorageError

MAGIC = b"STARJNL2"
SALT_BYTES = 8
HEAD_BYTES = len(MAGIC) + SALT_BYTES
PAYLOAD_BYTES_MAX = 16 << 20
"""Longest frame body; a batch counts with 4 bytes more for each payload."""

_FRAME = struct.Struct(">III")
_LENGTH = struct.Struct(">I")
_BATCH = 1 << 31
_MARK = b"\xff"
FRAME_BYTES_MIN = _FRAME.size + len(_MARK)


class DamagedJournal(StorageError):
    """Entries that were acknowledged can no longer be read.

    Attributes:
      offset: Where the first of them begins.
    """

    def __init__(self, detail: str, offset: int) -> None:
        """Keeps the place."""
        super().__init__(detail)
        self.offset = offset


@dataclass(frozen=True)
class JournalScan:
    """Contents of a journal's bytes.

    Attributes:
      payloads: In the order in which they were appended.
      sound_bytes: Where the last sound frame ends; all behind it is a torn tail.
      torn_bytes: Length of that tail; 0 after a clean stop.
      nulled: Whether the tail is as long as its frame and ends in zeros: a disk that
        lost its content without a power cut would leave the same.
    """

    payloads: tuple[bytes, ...]
    sound_bytes: int
    torn_bytes: int
    nulled: bool = False


@dataclass(frozen=True)
class JournalSalvage:
    """Entries that can still be read of a journal, however damaged it is.

    Attributes:
      payloads: Of all sound frames, in their order.
      lost_bytes: Of what lies before, between and behind them, each part's length.
    """

    payloads: tuple[bytes, ...]
    lost_bytes: tuple[int, ...]


def head(salt: bytes) -> bytes:
    """The first bytes of a new journal; `salt` is (8,) random bytes."""
    assert len(salt) == SALT_BYTES
    return MAGIC + salt


def unfinished_head(content: bytes) -> bool:
    """True if a file is empty, or was cut off while its head was first written."""
    if len(content) > HEAD_BYTES:
        return False
    partial = len(content) < HEAD_BYTES and MAGIC.startswith(content[: len(MAGIC)])
    # Some file systems leave zeros where a file was made longer and its bytes never
    # came.
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
        # One checksum for all: none of a batch counts unless every one is there.
        body = b"".join(_LENGTH.pack(len(item)) + item for item in payloads)
        mark = _BATCH
    if len(body) > PAYLOAD_BYTES_MAX:
        raise LimitError(f"journal entry of {len(body)} bytes")
    length = len(body) | mark
    check = _check(salt, position, length)
    return _FRAME.pack(length, check, zlib.crc32(body, check)) + body + _MARK


def scan(content: bytes) -> JournalScan:
    """Reads a whole journal.

    Args:
      content: The file's bytes.

    Raises:
      DamagedJournal: If the head is not a journal's, or a frame is damaged that was
        acknowledged; names the offset.
    """
    salt = _salt(content)
    payloads: list[bytes] = []
    position = HEAD_BYTES
    while position < len(content):
        end = _frame_end(content, position, salt)
        if end is None:
            _require_torn(content, position, salt)
            break
        payloads.extend(_payloads(content, position, end))
        position = end
    torn = len(content) - position
    # The mark at a frame's end is never 0, so that a last byte of 0 says that the end
    # never came.
    nulled = torn > 0 and not content[-1] and not _is_cut(content, position, salt)
    return JournalScan(tuple(payloads), position, torn, nulled)


def salvage(content: bytes) -> JournalSalvage:
    """Reads all sound frames of a damaged journal, and says how much was lost.

    A torn tail counts as lost, too: here nothing is known of how it came about. Of a
    file without a journal's head all is lost.
    """
    try:
        salt = _salt(content)
    except StorageError:
        return JournalSalvage((), (len(content),) if content else ())
    payloads: list[bytes] = []
    lost: list[int] = []
    position = begin = HEAD_BYTES
    while position < len(content):
        end = _frame_end(content, position, salt)
        if end is None:
            # Byte by byte, as a damaged length says nothing of where the next frame
            # begins.
            position += 1
            continue
        if position > begin:
            lost.append(position - begin)
        payloads.extend(_payloads(content, position, end))
        position = begin = end
    if position > begin:
        lost.append(position - begin)
    return JournalSalvage(tuple(payloads), tuple(lost))


def _salt(content: bytes) -> bytes:
    if len(content) < HEAD_BYTES or not content.startswith(MAGIC):
        raise DamagedJournal("not a journal: wrong head at offset 0", 0)
    return content[len(MAGIC) : HEAD_BYTES]


def _check(salt: bytes, position: int, length: int) -> int:
    return zlib.crc32(salt + struct.pack(">QI", position, length))


def _length_at(content: bytes, position: int, salt: bytes) -> int | None:
    """The length that a frame states; None if it is missing or spoiled."""
    if position + _FRAME.size > len(content):
        return None
    length, check, _ = _FRAME.unpack_from(content, position)
    sound = _check(salt, position, length) == check
    return int(length) if sound else None


def _frame_end(content: bytes, position: int, salt: bytes) -> int | None:
    """End of the frame at `position`; None if no sound frame begins there."""
    length = _length_at(content, position, salt)
    if length is None:
        return None
    start = position + _FRAME.size
    end = start + (length & ~_BATCH)
    # The cheap test first: it also fails where the file ends too early.
    if content[end : end + 1] != _MARK:
        return None
    _, check, checksum = _FRAME.unpack_from(content, position)
    sound = zlib.crc32(content[start:end], check) == checksum
    return end + len(_MARK) if sound else None


def _payloads(content: bytes, position: int, end: int) -> list[bytes]:
    (length,) = _LENGTH.unpack_from(content, position)
    start = position + _FRAME.size
    end -= len(_MARK)
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
    # What follows in order was synced after this frame was: then it had been
    # acknowledged.
    for later in range(position + 1, len(content) - FRAME_BYTES_MIN + 1):
        if _frame_end(content, later, salt) is not None:
            why = f"damaged at offset {position}: sound entries follow at {later}"
            raise DamagedJournal(why, position)
    if _is_cut(content, position, salt) or not content[-1]:
        return
    why = f"damaged at offset {position}: the last entry is whole and does not check"
    raise DamagedJournal(why, position)


def _is_cut(content: bytes, position: int, salt: bytes) -> bool:
    """True if the file ends within the frame."""
    if position + _FRAME.size > len(content):
        return True
    length = _length_at(content, position, salt)
    if length is None:
        return False
    return position + FRAME_BYTES_MIN + (length & ~_BATCH) > len(content)
