"""What a coordinator takes over from its last run."""

import json
from pathlib import Path

import pytest

from starling.coordinator.runtime import assembly
from starling.coordinator.runtime.environment import CoordinatorEnvironment

CLOCK = CoordinatorEnvironment().clock
WHOLE = {"updates": {"accepted": 7, "refused": {"STALE": 2}}, "devices": []}


def test_counters_go_on_where_the_last_run_ended(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text(json.dumps(WHOLE))

    found = assembly._tally(tmp_path / "status.json", CLOCK)

    assert (found.accepted, dict(found.refused)) == (7, {"STALE": 2})


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 64, json.dumps(WHOLE).encode()[:40], b"[" * 100_000, b"[]", b"{}"],
)
def test_status_that_is_not_whole_begins_the_counters_anew(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "status.json").write_bytes(content)

    assert assembly._tally(tmp_path / "status.json", CLOCK).accepted == 0
