import pytest

from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.gossip_messages import (
    FRAME,
    WIRE_VERSION,
    Frame,
    FrameSubject,
)
from starling.coordinator.wire.frames import (
    PAYLOAD_BYTES_MAX,
    model_key,
    parse_model_key,
    payloads,
)
from starling.protocol.errors import DecodeError
from starling.protocol.wire.chunks import CHUNK, ChunkAssembly


def test_payloads_short_frame_travels_whole() -> None:
    (payload,) = payloads(gossip_messages.frame(FrameSubject.WHOLE, b"short"))
    assert FRAME.unpack(payload) == Frame(WIRE_VERSION, FrameSubject.WHOLE, b"short")


def test_payloads_long_frame_travels_as_chunks_that_add_up() -> None:
    content = bytes(range(256)) * 1024
    parts = [
        FRAME.unpack(payload)
        for payload in payloads(gossip_messages.frame(FrameSubject.WHOLE, content))
    ]
    assert {part.subject for part in parts} == {FrameSubject.CHUNK}
    chunks = [CHUNK.unpack(part.content) for part in parts]
    assembly = ChunkAssembly.begin(chunks[0].digest, chunks[0].size, 1 << 20)
    for chunk in chunks:
        assembly = assembly.add(chunk)
    assert FRAME.unpack(assembly.whole()) == Frame(
        WIRE_VERSION, FrameSubject.WHOLE, content
    )


@pytest.mark.parametrize("size", [0, 1, PAYLOAD_BYTES_MAX, 3 * PAYLOAD_BYTES_MAX])
def test_payloads_each_fits_a_packet(size: int) -> None:
    longest = max(
        len(payload)
        for payload in payloads(gossip_messages.frame(FrameSubject.WHOLE, bytes(size)))
    )
    assert longest <= PAYLOAD_BYTES_MAX


def test_model_key_round_trip() -> None:
    assert parse_model_key(model_key(3, 70_000)) == (3, 70_000)


@pytest.mark.parametrize("key", [b"", bytes(11), bytes(13)])
def test_model_key_of_another_length_is_refused(key: bytes) -> None:
    with pytest.raises(DecodeError):
        parse_model_key(key)
