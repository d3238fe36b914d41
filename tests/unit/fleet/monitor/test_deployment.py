"""A deployment's status in the view of a fleet."""

import io
import json
from typing import Any

import pytest
from rich.console import Console

from starling.console.status_facts import StatusFacts, read
from starling.fleet.monitor.deployment import chosen_task, deployment, document
from starling.fleet.monitor.run_snapshot import PrivacyTerms
from starling.fleet.monitor.terminal_view import render
from starling.protocol.errors import OperationError
from tests.unit.console import status_documents

TERMS = PrivacyTerms("one record", "add or remove", 8.0, 1e-5, 2.0, 1.0, 10)


def peer(name: str, **values: Any) -> dict[str, Any]:  # noqa: ANN401 - as in JSON
    row = {"name": name, "learner": False, "height": 17, "round": 0, "silent_s": 0.5}
    return row | values


def facts(age_s: float = 0.5, **consensus: Any) -> StatusFacts:  # noqa: ANN401 - as in JSON
    made = status_documents.document()
    made["consensus"] |= {
        "peers": [
            peer("south", height=15),
            peer("east", silent_s=60.0),
            peer("west", learner=True),
        ],
        "signed_by": ["north", "south"],
        "convicted": {"east": "equivocation"},
        "outvoted": {"south": 2},
        "silence": "",
        **consensus,
    }
    made["chain"] |= {"tip": "ab" * 32, "state_root": "cd" * 32}
    return read(made, age_s)


def shown(found: StatusFacts, task: int | None = None) -> str:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(render(*deployment(found, chosen_task(found, task), TERMS)))
    return console.export_text()


def test_view_says_how_far_it_is_and_has_no_end() -> None:
    text = shown(facts())

    assert "task 0: digits, buffer 4" in text
    assert "70.0%" in text
    assert "gone" in text
    assert "to go" not in text
    assert "of 8 at most" in text


def test_validators_have_their_names_and_faults_are_theirs() -> None:
    _, snapshot = deployment(facts(), None, None)

    rows = {point.id: point for point in snapshot.coordinators}
    assert set(rows) == {"north", "south", "east"}
    assert (rows["north"].signed, rows["south"].signed) == (True, True)
    assert (rows["east"].down, rows["south"].down) == (True, False)
    assert rows["south"].height == 15
    assert rows["north"].hears == (rows["south"].number,)
    east = f"coordinator {rows['east'].number}"
    assert rows["north"].convicted == ((east, "equivocation"),)
    assert "convicted: equivocation" in shown(facts())


def test_coordinator_that_does_not_sign_goes_by_its_id() -> None:
    _, snapshot = deployment(facts(signed_by=["south"]), None, None)

    assert snapshot.coordinators[0].id == "a" * 26
    assert not snapshot.coordinators[0].signed


def test_coordinator_without_a_word_is_down_and_hears_nobody() -> None:
    _, snapshot = deployment(facts(age_s=60.0), None, None)

    assert all(point.down for point in snapshot.coordinators)
    assert snapshot.coordinators[0].hears == ()


def test_document_is_json_with_boards_by_state() -> None:
    found = facts()
    task = chosen_task(found, 0)
    _, snapshot = deployment(found, task, TERMS)

    told = json.loads(json.dumps(document(found, snapshot, task)))

    assert (told["running"], told["task"], told["version"]) == (True, 0, 3)
    assert sum(told["boards_by_state"].values()) == len(told["boards"]) > 0
    assert told["convicted"] == {"east": "equivocation"}


def test_task_that_there_is_not_is_said() -> None:
    with pytest.raises(OperationError, match="knows no task 7"):
        chosen_task(facts(), 7)


def test_rate_ends_when_no_version_has_come_for_long() -> None:
    def updates(age_s: float) -> str:
        (line,) = [row for row in shown(facts(age_s)).splitlines() if "accepted" in row]
        return line

    # A version a second, the last one seven seconds before the document.
    assert "none now" in updates(120.0)
    assert "/s" not in updates(120.0)
    assert "/s" in updates(0.5)
    assert "none" not in updates(0.5)
