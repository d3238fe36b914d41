"""Event files hold what TensorBoard reads, record by record."""

import struct
from collections.abc import Iterator
from typing import Any

import pytest

from starling.fleet.monitor.run_snapshot import VersionPoint
from starling.fleet.report import event_file

Message = dict[int, list[Any]]


@pytest.mark.parametrize(
    ("content", "checksum"),
    [
        # RFC 3720, appendix B.4.
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_checksum_is_that_of_the_source(content: bytes, checksum: int) -> None:
    assert event_file.crc32c(content) == checksum


def unmasked(packed: bytes) -> int:
    value = int.from_bytes(packed, "little")
    turned = (value - 0xA282EAD8) & 0xFFFFFFFF
    return (turned << 15 | turned >> 17) & 0xFFFFFFFF


def records(content: bytes) -> Iterator[bytes]:
    while content:
        length = content[:8]
        assert unmasked(content[8:12]) == event_file.crc32c(length)
        (size,) = struct.unpack("<Q", length)
        data = content[12 : 12 + size]
        assert unmasked(content[12 + size : 16 + size]) == event_file.crc32c(data)
        yield data
        content = content[16 + size :]


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 0x80:
            return value, at


def message(data: bytes) -> Message:
    """A second reader of protobuf, which knows nothing of ours."""
    found: Message = {}
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        if tag & 7 == 0:
            value: Any
            value, at = varint(data, at)
        elif tag & 7 == 1:
            value, at = struct.unpack_from("<d", data, at)[0], at + 8
        elif tag & 7 == 5:
            value, at = struct.unpack_from("<f", data, at)[0], at + 4
        else:
            size, at = varint(data, at)
            value, at = data[at : at + size], at + size
        found.setdefault(tag >> 3, []).append(value)
    return found


def test_file_has_its_format_and_each_value_with_time_and_step() -> None:
    content = event_file.begin(1.5) + event_file.scalars(
        2.25, 300, {"held_out/loss": 0.5, "a": -1.0}
    )

    first, second = map(message, records(content))

    assert first == {1: [1.5], 3: [b"brain.Event:2"]}
    assert (second[1], second[2]) == ([2.25], [300])
    values = [message(value) for value in message(second[5][0])[1]]
    assert values == [{1: [b"a"], 2: [-1.0]}, {1: [b"held_out/loss"], 2: [0.5]}]


def test_values_that_are_not_known_are_left_out() -> None:
    known = event_file.version_scalars(VersionPoint(3, 1.0, 4, loss=0.25))

    assert known == {"fleet/updates": 4.0, "held_out/loss": 0.25}
