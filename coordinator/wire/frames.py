"""Requests and answers between coordinators, and frames longer than a packet.

What the chain tells everybody and is longer than a packet travels as chunks. An answer
goes to whoever asked, and one that is longer than a packet is pulled: who asks gets its
first piece, and asks for the others as they come, so that never more is on its way than
was asked for. The chain's messages are signed by who made them, requests by who asks;
what is asked for proves itself by its digest, its signature or the chain. So whoever
may write to a coordinator's topic can at worst waste what that coordinator may say
there.
"""

from collections.abc import Iterator
from typing import Annotated

from starling.coordinator.chain.gossip_messages import DECISION, FrameSubject, frame
from starling.coordinator.chain.storage.snapshot import (
    BUCKET_BYTES_MAX,
    MANIFEST,
    SnapshotManifest,
)
from starling.protocol.chain.light_client import HANDOVER, ValidatorSetTransition
from starling.protocol.crypto.sealed_blob import BLOB_BYTES_MAX, PASSED_BYTES
from starling.protocol.crypto.state_tree import BUCKETS
from starling.protocol.errors import DecodeError
from starling.protocol.ids import (
    DIGEST_BYTES,
    DeviceId,
    TaskId,
    Version,
)
from starling.protocol.learning.task import ModelDigests
from starling.protocol.schema.msgpack_codec import (
    UINT_MAX,
    Byte,
    Structure,
    Uint,
    binary,
    exactly,
    many,
    structure,
    uint,
)
from starling.protocol.wire.chunks import (
    CHUNK,
    CHUNK_BYTES,
    CHUNK_MESSAGE_BYTES_MAX,
    WHOLE_BYTES_MAX,
    Chunk,
    split,
)
from starling.protocol.wire.envelope import Envelope

PAYLOAD_BYTES_MAX = 96 * 1024
"""Of a frame in one message; leaves room below the packets of every broker."""
DIRECT_BYTES_MAX = PAYLOAD_BYTES_MAX - 64
"""Of an answer that travels at once; a longer one is pulled in pieces."""
KEYS_PER_REQUEST_MAX = 64
PIECES_PER_REQUEST_MAX = 16
BLOCKS_MAX = 256
"""Of a range; a coordinator sends less if they are long."""
BLOCKS_BYTES_MAX = 256 * 1024
"""Of a range, unless its first block alone is longer."""
BUCKETS_BYTES_MAX = 256 * 1024
CHANGES_MAX = 256
"""Of the validator set, which lead from who asks to a snapshot: as many as fit into the
longest message that every coordinator takes, however many the validators are."""
_TASK_BYTES = 4
_VERSION_BYTES = 8
_HEIGHT_BYTES = 8


class PeerRequest(Structure, frozen=True):
    """A request: one coordinator is asked, so that not all of them answer.

    It is the body of an envelope, which binds it to who asks and to a counter.

    Attributes:
      asked: Id of the coordinator that is to answer.
      subject: UPLOAD, WHOLE, MODEL, BLOCKS, KEY or BUCKETS.
      keys: Of what is wanted.
      pieces: Which pieces of a long answer to the one key; none for the whole answer,
        or for its first piece if it is long.
    """

    asked: DeviceId
    subject: Byte
    keys: Annotated[
        tuple[Annotated[bytes, binary(DIGEST_BYTES, 1)], ...],
        many(KEYS_PER_REQUEST_MAX, 1),
    ]
    pieces: Annotated[
        tuple[Annotated[int, uint(WHOLE_BYTES_MAX // CHUNK_BYTES)], ...],
        many(PIECES_PER_REQUEST_MAX),
    ] = ()

    def __post_init__(self) -> None:
        """Refuses what is asked twice, and pieces of several answers at once."""
        if self.pieces and len(self.keys) != 1:
            raise DecodeError("pieces of more than one answer")
        for named in (self.keys, self.pieces):
            if len(frozenset(named)) != len(named):
                raise DecodeError("asks for the same thing twice")


REQUEST = structure(PeerRequest, KEYS_PER_REQUEST_MAX * (DIGEST_BYTES + 2) + 128)


class PieceAnswer(Structure, frozen=True):
    """A piece of an answer; together they are what `given` names.

    Attributes:
      asked: Subject that was asked for.
      key: Key that was asked for.
      given: Subject of the answer: SNAPSHOT where blocks are pruned, else `asked`.
      chunk: The piece, of the content of the answer's frame.
    """

    asked: Byte
    key: Annotated[bytes, binary(DIGEST_BYTES, 1)]
    given: Byte
    chunk: Chunk


GIVEN_PIECE = structure(PieceAnswer, CHUNK_MESSAGE_BYTES_MAX + 64)


class UploadAnswer(Structure, frozen=True):
    """An update that somebody else admitted."""

    update: Envelope
    blob: Annotated[bytes, binary(BLOB_BYTES_MAX)]


GIVEN_UPLOAD = structure(UploadAnswer, BLOB_BYTES_MAX + 64 * 1024)


class ContentKeyAnswer(Structure, frozen=True):
    """An update that somebody else opened, for one who could not.

    Attributes:
      update: The update.
      blob: Its sealed vector.
      box: `protocol.crypto.sealed_blob.pass_key` of the content key.
    """

    update: Envelope
    blob: Annotated[bytes, binary(BLOB_BYTES_MAX)]
    box: Annotated[bytes, exactly(PASSED_BYTES)]


GIVEN_KEY = structure(ContentKeyAnswer, BLOB_BYTES_MAX + 64 * 1024)


class ModelAnswer(Structure, frozen=True):
    """Parts of a version; the chain's digest of the version proves them."""

    task: Annotated[int, uint((1 << 8 * _TASK_BYTES) - 1)]
    version: Uint
    digests: ModelDigests


GIVEN_MODEL = structure(ModelAnswer, 512)


class SnapshotAnswer(Structure, frozen=True):
    """Answer of a coordinator that no longer has the blocks asked for.

    Attributes:
      manifest: Of its newest snapshot.
      ends: The changes of the validator set from the height asked for until then; the
        last `CHANGES_MAX` of them.
    """

    manifest: SnapshotManifest
    ends: Annotated[tuple[ValidatorSetTransition, ...], many(CHANGES_MAX)]


GIVEN_SNAPSHOT = structure(
    SnapshotAnswer, MANIFEST.bytes_max + CHANGES_MAX * HANDOVER.bytes_max
)


class BucketsAnswer(Structure, frozen=True):
    """Buckets of a snapshot; its manifest proves them.

    Attributes:
      height: Of the snapshot.
      first: The first bucket.
      buckets: Packed, in order.
    """

    height: Annotated[int, uint(least=1)]
    first: Annotated[int, uint(BUCKETS - 1)]
    buckets: Annotated[
        tuple[Annotated[bytes, binary(BUCKET_BYTES_MAX)], ...], many(BUCKETS, 1)
    ]


GIVEN_BUCKETS = structure(BucketsAnswer, BUCKET_BYTES_MAX + BUCKETS_BYTES_MAX + 4096)


def buckets_key(height: int, first: int) -> bytes:
    """The key of buckets of a snapshot, from one on."""
    return blocks_key(height) + bytes([first])


def parse_buckets_key(key: bytes) -> tuple[int, int]:
    """Height and first bucket of a `buckets_key`.

    Raises:
      DecodeError: If it is none.
    """
    if len(key) != _HEIGHT_BYTES + 1:
        raise DecodeError("not the key of buckets")
    return parse_blocks_key(key[:_HEIGHT_BYTES]), key[_HEIGHT_BYTES]


class BlocksAnswer(Structure, frozen=True):
    """Decided blocks that follow each other; their certificates prove them.

    Attributes:
      first: Height of the first one.
      decisions: Packed `coordinator.chain.gossip_messages.DecidedBlock`s, rising.
    """

    first: Annotated[int, uint(least=1)]
    decisions: Annotated[
        tuple[Annotated[bytes, binary(DECISION.bytes_max)], ...], many(BLOCKS_MAX, 1)
    ]


GIVEN_BLOCKS = structure(BlocksAnswer, DECISION.bytes_max + BLOCKS_BYTES_MAX + 4096)


def blocks_key(first: int) -> bytes:
    """The key of the range that begins with a height."""
    return first.to_bytes(_HEIGHT_BYTES)


def parse_blocks_key(key: bytes) -> int:
    """The height of a `blocks_key`.

    Raises:
      DecodeError: If it is none.
    """
    first = int.from_bytes(key)
    if len(key) != _HEIGHT_BYTES or not 1 <= first <= UINT_MAX:
        raise DecodeError("not the key of a range of blocks")
    return first


def model_key(task: int, version: int) -> bytes:
    """The key of a version's digests."""
    return task.to_bytes(_TASK_BYTES) + version.to_bytes(_VERSION_BYTES)


def parse_model_key(key: bytes) -> tuple[TaskId, Version]:
    """Task and version of a `model_key`.

    Raises:
      DecodeError: If it is none.
    """
    if len(key) != _TASK_BYTES + _VERSION_BYTES:
        raise DecodeError("not the key of a model version")
    task, version = key[:_TASK_BYTES], key[_TASK_BYTES:]
    return TaskId(int.from_bytes(task)), Version(int.from_bytes(version))


def payloads(packed: bytes) -> Iterator[bytes]:
    """The messages that carry a packed frame: itself, or its chunks."""
    if len(packed) <= PAYLOAD_BYTES_MAX:
        yield packed
        return
    for chunk in split(packed):
        yield frame(FrameSubject.CHUNK, CHUNK.pack(chunk))
