"""The document that a coordinator writes is read whole, or refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from starling.console import status_facts
from starling.coordinator.health import chain_stall
from starling.coordinator.loop.counters import CoordinatorCounters
from starling.coordinator.runtime.status.host_health import HostReport
from starling.coordinator.runtime.status.status_document import StatusFile
from starling.protocol.errors import OperationError
from tests.unit.console.status_documents import document, facts
from tests.unit.coordinator.fixtures.fleet_board import voters
from tests.unit.coordinator.fixtures.four_coordinators import FourCoordinators

UNREAD = {"id", "refused_peers", "broker_rights"}
"""Only the checks of the status read these."""
OTHERWISE_READ = {"phases", "updates", "vectors"}
"""Sections whose keys vary, and the one that only `coordinator status` reads."""


def test_status_of_a_real_coordinator_has_all_that_is_read(tmp_path: Path) -> None:
    council = FourCoordinators()
    council.open(voters(2))
    council.run(2.0)
    member = council.members[0]
    found = chain_stall.look(member.settings, member.state, council.now_s)
    path = tmp_path / "status.json"
    file = StatusFile(
        path, member.settings, member.store, CoordinatorCounters(0, lambda: 0.0)
    )
    report = HostReport("connected", True, "", 10**12)
    file.write(member.state, "running", report, found, council.now_s, 1000)

    read = status_facts.read(json.loads(path.read_text()), 0.5)

    assert read.is_up
    assert read.chain["height"] == member.state.ledger.height > 0
    assert read.consensus["quorum"] == 3
    made: dict[str, Any] = document()
    for name, section in json.loads(path.read_text()).items():
        if isinstance(section, dict) and name not in OTHERWISE_READ:
            assert set(made[name]) <= set(section), name


@pytest.mark.parametrize("key", sorted({*document()} - UNREAD))
def test_document_of_another_release_is_refused(key: str) -> None:
    made = document()
    del made[key]

    with pytest.raises(OperationError, match="another release"):
        facts(made)


@pytest.mark.parametrize("wrong", [None, 3, [], {"versions": 1}, "x"])
def test_task_of_another_kind_is_refused(wrong: object) -> None:
    with pytest.raises(OperationError, match="another release"):
        facts(document() | {"tasks": [wrong]})


@pytest.mark.parametrize(
    ("state", "age_s", "up"),
    [("running", 1.0, True), ("stopped", 1.0, False), ("running", 60.0, False)],
)
def test_coordinator_is_up_while_it_writes(state: str, age_s: float, up: bool) -> None:
    assert facts(document() | {"state": state}, age_s).is_up is up
