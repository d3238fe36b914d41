"""Each thing that may be wrong with a coordinator is a row of its check."""

import json
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from starling.broker.health_checks import (
    HealthCheck,
    Verdict,
    checks_json,
    checks_text,
    failed,
)
from starling.coordinator.cli.status_text import status_text
from starling.coordinator.health import chain_stall
from starling.coordinator.health.status_checks import check_status
from starling.coordinator.loop.counters import CoordinatorCounters
from starling.coordinator.runtime.status.host_health import HostReport
from starling.coordinator.runtime.status.status_document import StatusFile
from starling.coordinator.step.effects import RecordRefusal
from starling.coordinator.task_file.reward_settings import rewards_text
from starling.protocol.errors import Reason
from tests.unit.coordinator.fixtures.council_genesis import KEYS
from tests.unit.coordinator.fixtures.fleet_board import FleetBoard, voters
from tests.unit.coordinator.fixtures.four_coordinators import FourCoordinators
from tests.unit.coordinator.fixtures.single_coordinator import spec

Document = dict[str, Any]
WELL = HostReport("connected", True, "", 10**12)
NOW_MS = 1000


def write(
    council: FourCoordinators, path: Path, condition: str = "running"
) -> Document:
    """What member 0 shows of itself."""
    member, tally = council.members[0], CoordinatorCounters(0, lambda: 0.0)
    tally.refuse(RecordRefusal(None, Reason.BUSY, "", KEYS[1].identity))
    found = chain_stall.look(member.settings, member.state, council.now_s)
    file = StatusFile(path, member.settings, member.store, tally)
    file.write(member.state, condition, WELL, found, council.now_s, NOW_MS)
    document: Document = json.loads(path.read_text())
    return document


@pytest.fixture
def document(
    council: FourCoordinators, boards: list[FleetBoard], tmp_path: Path
) -> Document:
    for board in boards[:2]:
        council.contribute(board, 0)
    council.run(2.0)
    shown = write(council, tmp_path / "status.json")
    shown["refused_peers"] = []
    return shown


def test_task_that_pays_shows_its_rule_and_what_it_has(tmp_path: Path) -> None:
    paying = replace(spec(leases=16), pool=70)
    council = FourCoordinators(paying)
    council.open(voters(2))
    (task,) = write(council, tmp_path / "status.json")["tasks"]
    assert task["rewards"] == {
        "rule": "equal",
        "text": rewards_text(paying),
        "version": 70,
        "pool": 0,
        "set_aside": 0,
        "boards": 0,
        "use_price": 0,
    }


def test_task_that_pays_nothing_shows_no_rewards(document: Document) -> None:
    (task,) = document["tasks"]
    assert task["rewards"] is None


def verdicts(document: Document) -> dict[str, Verdict]:
    return {check.name: check.verdict for check in check_status(document)}


def test_check_of_a_coordinator_that_is_well_is_ok_in_all(document: Document) -> None:
    assert set(verdicts(document).values()) == {Verdict.OK}
    assert "STANDS STILL" not in status_text(document)


def _held_out(*, paused: bool) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        document["tasks"][0]["held_out"] = {"text": "got worse", "paused": paused}

    return change


def _evaluators(*, found: int, relied_on: bool) -> Callable[[Document], None]:
    who = {"found": found, "needed": 3, "relied_on": relied_on}

    def change(document: Document) -> None:
        document["tasks"][0]["evaluators"] = who

    return change


def test_task_that_nobody_evaluates_is_well_if_nothing_relies_on_it(
    document: Document,
) -> None:
    _evaluators(found=0, relied_on=False)(document)

    assert verdicts(document)["tasks.progress"] == Verdict.OK


def _stalled(document: Document) -> None:
    document["stall"].update(
        stalled=True, block_age_s=200.0, why=["x"], missing_prevotes=["member 2"]
    )


def _diverged(document: Document) -> None:
    document["chain"]["diverged"] = {
        "height": 9,
        "block": "aa",
        "certified": "bb",
        "computed": "cc",
        "first_key": "k",
        "detail": "state_root differs",
    }


def _split(document: Document) -> None:
    document["tasks"][0]["attested"]["split"] = True


def _version(
    number: int, loss: float | None = None, failures: int = 0
) -> dict[str, object]:
    return {"version": number, "loss": loss, "evaluation_failures": failures}


def _untried(document: Document) -> None:
    versions = [_version(0, loss=0.5), *[_version(n) for n in (1, 2, 3)]]
    document["tasks"][0]["versions"] = versions


def _failed(document: Document) -> None:
    document["tasks"][0]["versions"] = [_version(0, failures=2), _version(1)]


def _set(*path: str, to: object) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = to

    return change


GONE = [{"name": f"member {index}", "silent_s": 9.0} for index in (1, 2)]
CASES: list[tuple[str, Callable[[Document], None], Verdict]] = [
    ("process.condition", _set("state", to="disk full"), Verdict.FAIL),
    ("chain.last-block", _stalled, Verdict.FAIL),
    ("chain.last-block", _set("stall", "block_age_s", to=150.0), Verdict.WARN),
    ("consensus.votes", _stalled, Verdict.FAIL),
    ("chain.state-root", _diverged, Verdict.FAIL),
    ("consensus.may-vote", _set("consensus", "silence", to="listens"), Verdict.WARN),
    ("consensus.may-vote", _set("consensus", "index", to=None), Verdict.WARN),
    ("consensus.may-vote", _set("consensus", "fork", to={"height": 3}), Verdict.FAIL),
    ("consensus.quorum", _set("consensus", "missing", to=GONE[:1]), Verdict.WARN),
    ("consensus.quorum", _set("consensus", "missing", to=GONE), Verdict.FAIL),
    ("broker.connection", _set("broker", to="disconnected: gone"), Verdict.FAIL),
    ("broker.connection", _set("broker", to="connecting"), Verdict.FAIL),
    ("broker.rights", _set("broker_rights", to="0x87"), Verdict.FAIL),
    ("disk.free", _set("disk", "trouble", to="3 MB free"), Verdict.WARN),
    ("clock.header-time", _set("now_ms", to=10**9), Verdict.WARN),
    (
        "peers.refused",
        _set("refused_peers", to=[{"name": "a", "reasons": {"BUSY": 1}}]),
        Verdict.WARN,
    ),
    ("tasks.evaluation", _untried, Verdict.WARN),
    ("tasks.evaluation", _failed, Verdict.WARN),
    ("tasks.progress", _held_out(paused=False), Verdict.WARN),
    ("tasks.progress", _evaluators(found=2, relied_on=False), Verdict.WARN),
    ("tasks.progress", _evaluators(found=0, relied_on=True), Verdict.WARN),
    ("tasks.progress", _held_out(paused=True), Verdict.FAIL),
    ("tasks.dissent", _split, Verdict.FAIL),
    ("tasks.dissent", _set("consensus", "outvoted", to={"a": 1}), Verdict.WARN),
    ("tasks.dissent", _set("consensus", "convicted", to={"a": "x"}), Verdict.WARN),
]


@pytest.mark.parametrize(
    ("name", "change", "verdict"),
    CASES,
    ids=[f"{number}-{case[0]}" for number, case in enumerate(CASES)],
)
def test_check_has_a_row_for_what_is_wrong(
    document: Document,
    name: str,
    change: Callable[[Document], None],
    verdict: Verdict,
) -> None:
    change(document)
    assert verdicts(document)[name] is verdict
    (row,) = [check for check in check_status(document) if check.name == name]
    assert row.fix


def test_check_names_the_version_that_could_not_be_tried_until_one_is(
    document: Document,
) -> None:
    task = document["tasks"][0]
    task["versions"] = [_version(6, loss=0.5), _version(7, failures=3), _version(8)]
    (row,) = [c for c in check_status(document) if c.name == "tasks.evaluation"]
    assert row.found == f"task {task['task']}: version 7 could not be tried, 3 times"
    task["versions"].append(_version(9, loss=0.4))
    assert verdicts(document)["tasks.evaluation"] is Verdict.OK


def test_checks_as_text_and_json_say_the_same() -> None:
    rows = [
        HealthCheck("a.b", Verdict.OK, "fine"),
        HealthCheck("a.c", Verdict.WARN, "hm", "look"),
    ]
    assert not failed(rows)
    assert checks_text(rows).splitlines() == [
        "ok    a.b                        fine",
        "warn  a.c                        hm",
        f"{'':<33}-> look",
    ]
    rows.append(HealthCheck("a.d", Verdict.FAIL, "bad", "mend"))
    shown = json.loads(checks_json(rows))
    assert shown["ok"] is False
    assert [row["verdict"] for row in shown["checks"]] == ["ok", "warn", "fail"]


def test_status_names_refused_peers_and_what_is_around(
    document: Document, council: FourCoordinators, tmp_path: Path
) -> None:
    shown = write(council, tmp_path / "status.json")
    _stalled(shown)
    _diverged(shown)
    shown["broker_rights"] = "broker rights: 0x87"
    shown["disk"]["trouble"] = "disk: 3 MB free"
    shown["consensus"]["index"] = None
    rows = [line.split(maxsplit=1) for line in status_text(shown).splitlines()]
    text = "\n".join(" ".join(row) for row in rows)
    for words in (
        "refused member 1 busy 1",
        "STANDS STILL for 200 s",
        "because x",
        "STATE DIFFERS at 9 certified bb, here cc; state_root differs",
        "broker rights 0x87",
        "disk 3 MB free",
        "no validator no part in the chain",
        "last block 200 s ago",
    ):
        assert words in " ".join(text.split()), words


def test_status_on_a_full_disk_keeps_why_the_process_ended(
    document: Document, council: FourCoordinators, tmp_path: Path
) -> None:
    path = tmp_path / "status.json"
    size = path.stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # No file may become as long as the status is: so its next edition has no room.
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - 100, limits[1]))
    try:
        after = write(council, path, "disk full")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert after["state"] == "disk full"
    assert after["chain"]["height"] == document["chain"]["height"]
    assert after["devices"] == []
    assert status_text(after)
