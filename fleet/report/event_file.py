"""Event files of TensorBoard: a run's scalars by version, as records with checksums.

A record is its length, the length's checksum, an `Event` in protobuf, and that one's
checksum. Checksums are CRC-32C, rotated and offset, so that those of data which hold
checksums stay good ones.

Source: tensorflow/core/lib/io/record_writer.h, tensorflow/core/util/event.proto and
tensorflow/core/framework/summary.proto; RFC 3720, appendix B.4, on CRC-32C.
"""

import struct
from collections.abc import Mapping

from starling.engine.protobuf_wire import (
    bytes_field,
    float_field,
    number_field,
    text_field,
)
from starling.fleet.monitor.run_snapshot import VersionPoint

_POLYNOMIAL = 0x82F63B78
_MASK_DELTA = 0xA282EAD8
_ALL = 0xFFFFFFFF
_FORMAT = "brain.Event:2"
_WALL_TIME, _STEP, _FILE_VERSION, _SUMMARY = 1, 2, 3, 5
_VALUE, _TAG, _SIMPLE_VALUE = 1, 1, 2
_FIXED64 = 1


def _table() -> tuple[int, ...]:
    rows = []
    for row in range(256):
        for _ in range(8):
            row = (row >> 1) ^ (_POLYNOMIAL if row & 1 else 0)
        rows.append(row)
    return tuple(rows)


_ROWS = _table()


def crc32c(content: bytes) -> int:
    """CRC-32C (Castagnoli) of some bytes."""
    value = _ALL
    for byte in content:
        value = _ROWS[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ _ALL


def begin(time_s: float) -> bytes:
    """Record that begins a file.

    Args:
      time_s: Unix time.
    """
    return _record(_time_field(time_s) + text_field(_FILE_VERSION, _FORMAT))


def scalars(time_s: float, step: int, values: Mapping[str, float]) -> bytes:
    """Record of some values at a step.

    Args:
      time_s: Unix time.
      step: At least 0.
      values: By tag.
    """
    summary = b"".join(
        bytes_field(_VALUE, text_field(_TAG, tag) + float_field(_SIMPLE_VALUE, value))
        for tag, value in sorted(values.items())
    )
    event = _time_field(time_s) + number_field(_STEP, step)
    return _record(event + bytes_field(_SUMMARY, summary))


def version_scalars(point: VersionPoint) -> dict[str, float]:
    """Known figures of a version, by tag."""
    known = {
        "held_out/accuracy": point.accuracy,
        "held_out/loss": point.loss,
        "fleet/updates": point.updates,
        "fleet/staleness_mean": point.staleness_mean,
        "fleet/epsilon_max": point.epsilon_max,
    }
    return {tag: float(value) for tag, value in known.items() if value is not None}


def _time_field(time_s: float) -> bytes:
    return bytes((_WALL_TIME << 3 | _FIXED64,)) + struct.pack("<d", time_s)


def _record(content: bytes) -> bytes:
    length = struct.pack("<Q", len(content))
    return length + _masked(length) + content + _masked(content)


def _masked(content: bytes) -> bytes:
    value = crc32c(content)
    turned = (value >> 15 | value << 17) & _ALL
    return struct.pack("<I", (turned + _MASK_DELTA) & _ALL)
