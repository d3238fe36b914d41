"""Answers to what we asked of other coordinators, whole or in pieces.

Whoever gives one is taken: each proves itself, by its digest, by a signature within it
or by the chain, or is not wanted.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from starling.coordinator.availability import bundle_examination
from starling.coordinator.availability.vector_exchange import (
    content_key_received,
    upload_received,
    vectors_arrived,
)
from starling.coordinator.chain.gossip_messages import FRAME, FrameSubject
from starling.coordinator.chain.state import task_records
from starling.coordinator.downloads import piece_download, request_scheduler
from starling.coordinator.handlers.subject_rule import MessageCost, SubjectRule
from starling.coordinator.models.model_versions import digests_received
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.effects import StorePeerBlob
from starling.coordinator.sync import block_sync, state_sync
from starling.coordinator.wire.frames import (
    GIVEN_BLOCKS,
    GIVEN_BUCKETS,
    GIVEN_KEY,
    GIVEN_MODEL,
    GIVEN_SNAPSHOT,
    GIVEN_UPLOAD,
    ModelAnswer,
    PieceAnswer,
    model_key,
)
from starling.coordinator.wire.lanes import PriorityLane
from starling.coordinator.wire.size_limits import upload_bytes_of
from starling.protocol.errors import DecodeError, InvalidUpdate, Reason
from starling.protocol.ids import DeviceId, Digest, H
from starling.protocol.learning.task import version_digest

_FRAME_OVERHEAD_BYTES = 64 * 1024
_GRID_BYTES = 8


def answer_bytes_max(step: CoordinatorStep, subject: int) -> int:
    """The longest answer about a subject that any task or block needs."""
    specs = [task.spec for task in step.state.tasks.values()]
    if subject in (FrameSubject.UPLOAD, FrameSubject.KEY):
        uploads = [upload_bytes_of(spec.codec, spec.dimension) for spec in specs]
        return max(uploads, default=0) + _FRAME_OVERHEAD_BYTES
    sizes = [FRAME.bytes_max]
    sizes += [spec.bundle_bytes for spec in specs]
    sizes += bundle_examination.sizes(step)
    sizes += [_GRID_BYTES * spec.dimension for spec in specs]
    return max(sizes) + _FRAME_OVERHEAD_BYTES


def handle_piece(step: CoordinatorStep, who: DeviceId, piece: PieceAnswer) -> None:
    """Takes a piece of an answer, and with the last one the answer."""
    longest = answer_bytes_max(step, piece.asked)
    content = piece_download.piece_received(step, who, piece, longest)
    if content is None:
        return
    if piece.given == FrameSubject.WHOLE:
        # What it adds up to was hashed already.
        _take_blob(step, piece.chunk.digest, content)
        return
    rule = ANSWERS.get(FrameSubject(piece.given))
    if rule is None:
        raise DecodeError("not an answer", Reason.UNKNOWN_KIND)
    rule.handle(step, who, rule.read(content))


def _blob_arrived(step: CoordinatorStep, who: DeviceId, content: bytes) -> None:
    del who
    _take_blob(step, H(content), content)


def _take_blob(step: CoordinatorStep, digest: Digest, content: bytes) -> None:
    (key,) = request_scheduler.blob_keys([digest])
    if key in step.state.wanted:
        step.emit(StorePeerBlob(digest, content))
        vectors_arrived(step, [key])
        bundle_examination.bundle_arrived(step, digest)


def _handle_model(step: CoordinatorStep, who: DeviceId, given: ModelAnswer) -> None:
    del who
    key = request_scheduler.request_key(
        FrameSubject.MODEL, model_key(given.task, given.version)
    )
    # Asked for no more; and unasked digests are not looked at.
    if key not in step.state.wanted:
        return
    digest = task_records.version(step.state.ledger.tree, given.task, given.version)
    if digest != version_digest(given.digests):
        raise InvalidUpdate("not what the chain made final", Reason.COMMITMENT_MISMATCH)
    # Before it is used, so that the same answer of another peer finds nothing to do.
    request_scheduler.forget(step, [key])
    digests_received(step, given)


_T = TypeVar("_T")


def _answer(
    read: Callable[[bytes], _T],
    handle: Callable[[CoordinatorStep, DeviceId, _T], None],
) -> SubjectRule[_T]:
    return SubjectRule(read, handle, MessageCost.ASKED, PriorityLane.BULK)


ANSWERS: Mapping[FrameSubject, SubjectRule[Any]] = {
    FrameSubject.UPLOAD: _answer(GIVEN_UPLOAD.unpack, upload_received),
    FrameSubject.KEY: _answer(GIVEN_KEY.unpack, content_key_received),
    FrameSubject.WHOLE: _answer(bytes, _blob_arrived),
    FrameSubject.MODEL: _answer(GIVEN_MODEL.unpack, _handle_model),
    FrameSubject.BLOCKS: _answer(GIVEN_BLOCKS.unpack, block_sync.blocks_received),
    FrameSubject.SNAPSHOT: _answer(GIVEN_SNAPSHOT.unpack, state_sync.snapshot_received),
    FrameSubject.BUCKETS: _answer(GIVEN_BUCKETS.unpack, state_sync.buckets_received),
}
