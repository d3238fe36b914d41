"""One frame for everything that coordinators say to each other."""

import pytest

from starling.coordinator.chain.gossip_messages import (
    FRAME,
    WIRE_VERSION,
    Frame,
    FrameSubject,
    frame,
    open_frame,
    subject_of,
)
from starling.protocol.errors import DecodeError
from starling.protocol.schema.msgpack_codec import encode


@pytest.mark.parametrize("subject", FrameSubject)
@pytest.mark.parametrize("content", [b"", b"x", bytes(70_000)], ids=len)
def test_frame_of_any_subject_is_read_as_it_was_packed(
    subject: FrameSubject, content: bytes
) -> None:
    packed = frame(subject, content)
    assert open_frame(packed) == Frame(WIRE_VERSION, subject, content)
    assert subject_of(packed) is subject


@pytest.mark.parametrize(
    "payload",
    [encode([4, b"status"]), encode([1, 4, b"status"]), encode([3, 4, b"status"])],
    ids=["version-1", "numbered-1", "version-3"],
)
def test_frame_of_another_wire_version_is_refused_with_both_numbers(
    payload: bytes,
) -> None:
    with pytest.raises(DecodeError, match=r"wire version [13], .* speaks 2: install"):
        open_frame(payload)


def test_frame_of_a_later_subject_is_read_and_left_to_who_knows_subjects() -> None:
    packed = FRAME.pack(Frame(WIRE_VERSION, 200, b"of a later release"))
    assert open_frame(packed).subject == 200
