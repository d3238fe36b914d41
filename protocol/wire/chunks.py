"""Chunks: how anything larger than one MQTT message travels.

A whole is named by its digest and cut into pieces of 64 KiB, which is below every
broker's default limit and near the fastest size. A receiver states the largest whole
it takes before it keeps a single byte, and gives out nothing whose digest differs.
"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated

from starling.protocol.errors import DecodeError, LimitError, Reason
from starling.protocol.ids import Digest, H, begin_hash
from starling.protocol.schema.msgpack_codec import (
    Structure,
    binary,
    structure,
    uint,
)

if TYPE_CHECKING:
    import hashlib

CHUNK_BYTES = 64 * 1024
WHOLE_BYTES_MAX = 256 * 1024 * 1024
CHUNK_MESSAGE_BYTES_MAX = CHUNK_BYTES + 128


class Chunk(Structure, frozen=True):
    """One piece of a whole.

    Attributes:
      digest: H of the whole.
      size: Length of the whole in bytes, at least 1.
      index: Which piece, from 0; every piece but the last has `CHUNK_BYTES`.
      data: The piece.
    """

    digest: Digest
    size: Annotated[int, uint(WHOLE_BYTES_MAX, 1)]
    index: Annotated[int, uint(WHOLE_BYTES_MAX // CHUNK_BYTES)]
    data: Annotated[bytes, binary(CHUNK_BYTES, 1)]

    def __post_init__(self) -> None:
        """Refuses an index or a length that the size does not allow."""
        start = self.index * CHUNK_BYTES
        # Each piece has one place and one length, so that a receiver sets aside what
        # was announced and no more.
        if start >= self.size or len(self.data) != min(CHUNK_BYTES, self.size - start):
            raise DecodeError("chunk's index or length does not fit the whole")


CHUNK = structure(Chunk, CHUNK_MESSAGE_BYTES_MAX)


def chunk_count(size: int) -> int:
    """Number of chunks of a blob of `size` bytes."""
    return -(-size // CHUNK_BYTES)


def chunk_at(whole: bytes, digest: Digest, index: int) -> Chunk:
    """The chunk `index` of a whole whose digest is known."""
    start = index * CHUNK_BYTES
    return Chunk(digest, len(whole), index, whole[start : start + CHUNK_BYTES])


def split(whole: bytes) -> tuple[Chunk, ...]:
    """Cuts a whole into its chunks."""
    digest = H(whole)
    return tuple(chunk_at(whole, digest, i) for i in range(chunk_count(len(whole))))


@dataclass(frozen=True)
class ChunkAssembly:
    """A whole that is being received.

    It is hashed as its pieces come: all at once, a long one would hold its receiver up.

    Attributes:
      digest: H of the whole.
      size: Announced length, `size <= bytes_max` of `begin`.
      pieces: By index; None where it is missing.
      hashed: How many pieces from the first on are in `running`.
      running: Their hash so far; never written to.
    """

    digest: Digest
    size: int
    pieces: tuple[bytes | None, ...]
    hashed: int = field(default=0, compare=False, repr=False)
    running: "hashlib.blake2b" = field(
        default_factory=begin_hash, compare=False, repr=False
    )

    @classmethod
    def begin(cls, digest: Digest, size: int, bytes_max: int) -> "ChunkAssembly":
        """Starts to receive.

        Raises:
          LimitError: If the whole is larger than `bytes_max`.
        """
        if size > bytes_max:
            raise LimitError(f"announced {size} bytes, {bytes_max} allowed")
        return cls(digest, size, (None,) * chunk_count(size))

    def add(self, chunk: Chunk) -> "ChunkAssembly":
        """Takes a chunk; a repeated one changes nothing.

        Raises:
          DecodeError: If it belongs to another whole or contradicts the size.
        """
        if (chunk.digest, chunk.size) != (self.digest, self.size):
            raise DecodeError("chunk of another whole")
        # The first one stays: a later one could swap bytes that are hashed already.
        if self.pieces[chunk.index] is not None:
            return self
        before, after = self.pieces[: chunk.index], self.pieces[chunk.index + 1 :]
        pieces = (*before, chunk.data, *after)
        hashed, running = self.hashed, self.running
        # A running hash changes in place, and the assembly before this chunk keeps its
        # own.
        if chunk.index == hashed:
            running = running.copy()
        while hashed < len(pieces) and (piece := pieces[hashed]) is not None:
            running.update(piece)
            hashed += 1
        return replace(self, pieces=pieces, hashed=hashed, running=running)

    @property
    def missing(self) -> tuple[int, ...]:
        """The indices still to come."""
        return tuple(i for i, piece in enumerate(self.pieces) if piece is None)

    def whole(self) -> bytes:
        """The bytes, once nothing is missing.

        Raises:
          DecodeError: `INCOMPLETE` while chunks are missing, `MALFORMED` if the bytes
            do not have the digest: then all of them are to be thrown away.
        """
        if None in self.pieces:
            raise DecodeError("chunks are missing", Reason.INCOMPLETE)
        if self.running.digest() != self.digest:
            raise DecodeError("chunks do not add up to the announced digest")
        return b"".join(piece for piece in self.pieces if piece is not None)
