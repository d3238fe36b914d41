"""The marker of a trainer that ended: what it says, whatever the trainer wrote."""

import os
import struct
from collections.abc import Iterator

import pytest

from starling.agent.trainer import record_marker
from starling.agent.trainer.record_marker import RecordMarker
from starling.agent.training.trainer_messages import RECORDS_MAX


@pytest.fixture
def descriptor() -> Iterator[int]:
    made = record_marker.make()
    yield made
    os.close(made)


@pytest.mark.parametrize("number", [0, 1, RECORDS_MAX])
def test_record_that_was_noted_is_read(descriptor: int, number: int) -> None:
    RecordMarker(descriptor)(number)

    assert record_marker.read(descriptor) == number


def test_new_memory_and_a_marker_that_was_cleared_name_no_record(
    descriptor: int,
) -> None:
    before = record_marker.read(descriptor)
    marker = RecordMarker(descriptor)
    marker(3)
    marker(None)

    assert before is record_marker.read(descriptor) is None


@pytest.mark.parametrize("left", [-(2**63), -5, -1, RECORDS_MAX + 2, 2**63 - 1])
def test_number_that_no_job_can_name_is_no_record(descriptor: int, left: int) -> None:
    os.pwrite(descriptor, struct.pack("<q", left), 0)

    assert record_marker.read(descriptor) is None
