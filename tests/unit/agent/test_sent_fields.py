"""docs/privacy.md names every field of what a board sends, and no other."""

from dataclasses import fields
from pathlib import Path

from starling.protocol.schema.msgpack_codec import Structure
from starling.protocol.wire.envelope import Envelope
from starling.protocol.wire.health_messages import HealthReport, HealthRow
from starling.protocol.wire.message_bodies import (
    CheckIn,
    ChunkRequest,
    Contribution,
    DeviceState,
    Forfeit,
    Upload,
)

PAGE = Path(__file__).parents[3] / "docs" / "privacy.md"
HEADING = "## What is visible beside the noised sum"
SENT: dict[str, type[Structure]] = {
    "ENVELOPE": Envelope,
    "CHECK_IN": CheckIn,
    "UPLOAD": Upload,
    "CONTRIBUTION": Contribution,
    "FORFEIT": Forfeit,
    "DEVICE_STATE": DeviceState,
    "CHUNK_REQUEST": ChunkRequest,
    "HEALTH_REPORT": HealthReport,
    "HEALTH_ROW": HealthRow,
}


def rows() -> list[tuple[str, str]]:
    """Message and field of each row of the table."""
    section = PAGE.read_text("utf-8").split(HEADING)[1].split("\n## ")[0]
    lines = [line.split("|") for line in section.splitlines() if line[:1] == "|"]
    return [(cells[1].strip(), cells[2].strip(" `")) for cells in lines[2:]]


def test_every_field_that_is_sent_stands_in_the_table_once() -> None:
    wanted = [
        (name, item.name) for name, message in SENT.items() for item in fields(message)
    ]

    assert sorted(rows()) == sorted(wanted)
