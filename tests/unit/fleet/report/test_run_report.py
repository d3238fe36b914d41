"""report.json keeps its promised keys; summary and plots come out of any run."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from starling.fleet.attacks.attack_schedule import board_attacks
from starling.fleet.monitor.run_snapshot import HeldOutLoss, RunHeading, RunSnapshot
from starling.fleet.report.plots import PLOTS
from starling.fleet.report.run_report import RunOutcome, report, summary
from starling.fleet.runtime.report_files import write_report, write_view

CONFIG = {"devices": 3, "buffer": 2, "data": "digits", "split": "iid", "seed": 7}
PROMISED = {
    "config",
    "versions",
    "devices",
    "coordinators",
    "chain",
    "metrics",
    "traffic",
    "wall_s",
    "stopped_because",
}


@pytest.fixture
def document(
    heading: RunHeading, snapshot: RunSnapshot, outcome: RunOutcome
) -> dict[str, Any]:
    return report(CONFIG, heading, snapshot, outcome)


@pytest.fixture
def empty(heading: RunHeading) -> dict[str, Any]:
    nothing = RunOutcome("interrupted", 1.0, 1.0)
    return report(CONFIG, replace(heading, privacy=None), RunSnapshot(0.0), nothing)


def test_report_and_summary_say_what_got_worse(
    heading: RunHeading, snapshot: RunSnapshot, outcome: RunOutcome
) -> None:
    worse = HeldOutLoss(
        2, 0.25, 4, 1.5, 5.0, is_worse=True, text="got worse: version 4"
    )
    last = replace(snapshot, held_out=worse)
    found = report(CONFIG, heading, last, outcome)["held_out"]
    assert (found["best"], found["newest"], found["worse_by"]) == (2, 4, 5.0)
    console = Console(file=io.StringIO(), width=120)
    with console.capture() as capture:
        console.print(summary(heading, last, outcome))
    assert "got worse: version 4" in capture.get()
    assert report(CONFIG, heading, snapshot, outcome)["held_out"] is None


def test_report_has_the_promised_keys(document: dict[str, Any]) -> None:
    assert set(document) >= PROMISED
    assert set(document["versions"][0]) == {
        "version",
        "time_s",
        "updates",
        "accuracy",
        "loss",
        "staleness_mean",
        "epsilon_max",
    }
    assert set(document["coordinators"][0]) >= {
        "id",
        "height",
        "tip",
        "state_root",
        "rounds",
        "faults",
    }
    assert document["chain"] == {"height": 12, "verified": True}


def test_report_devices_carry_their_refusals(document: dict[str, Any]) -> None:
    assert document["devices"][1]["updates_refused"] == {"STALE": 2}
    assert document["devices"][1]["phase"] == "lost"
    assert document["traffic"]["devices"]["aaaaaaaaaa"] == {"up": 3000, "down": 90_000}


def test_write_report_leaves_json_and_plots(
    tmp_path: Path, document: dict[str, Any]
) -> None:
    written = write_report(tmp_path / "new" / "report", document)
    names = [file.name for file in written]
    assert names == ["report.json", "metrics.jsonl", *PLOTS]
    assert json.loads(written[0].read_text()) == document
    assert all(file.read_bytes()[:4] == b"\x89PNG" for file in written[2:])


@pytest.mark.parametrize("name", PLOTS)
def test_plots_of_nothing_still_draw(name: str, empty: dict[str, Any]) -> None:
    picture = io.BytesIO()
    PLOTS[name](empty).savefig(picture, format="png")
    assert len(picture.getvalue()) > 1000


def test_write_view_leaves_an_svg(
    tmp_path: Path, heading: RunHeading, snapshot: RunSnapshot
) -> None:
    write_view(tmp_path / "view.svg", heading, snapshot)
    assert "90.0%" in (tmp_path / "view.svg").read_text()


@pytest.mark.parametrize(
    "said",
    [
        "version reached",
        "4 of 10",
        "90.0% on held-out examples, from 10.0%; 90.00% on test",
        "lowest recall 75.0% (class 0) on test examples; accuracy of boards",
        "2 stale, 1 busy",
        "5.50 of 8 at most, delta 1e-05, for one record (add or remove)",
        "verified offline",
        "1 processes that had died",
    ],
)
def test_summary_says(
    heading: RunHeading, snapshot: RunSnapshot, outcome: RunOutcome, said: str
) -> None:
    console = Console(file=io.StringIO(), width=200)
    with console.capture() as capture:
        console.print(summary(heading, snapshot, outcome))
    assert said in capture.get()


def test_report_and_summary_name_who_attacked_and_how(
    heading: RunHeading, snapshot: RunSnapshot, outcome: RunOutcome
) -> None:
    attacks = board_attacks("boards 2-3 plant a backdoor 4 from version 5", 3)
    devices = tuple(
        replace(device, number=number)
        for number, device in enumerate(snapshot.devices, start=1)
    )
    told, seen = replace(heading, attacks=attacks), replace(snapshot, devices=devices)
    ended = replace(outcome, backdoor_success=0.5)

    document = report(CONFIG, told, seen, ended)

    assert [(a["id"], a["attack"], a["amount"]) for a in document["attackers"]] == [
        ("bbbbbbbbbb", "plant a backdoor", 4.0),
        ("cccccccccc", "plant a backdoor", 4.0),
    ]
    assert document["backdoor_success"] == 0.5
    printed = io.StringIO()
    Console(file=printed, width=120).print(summary(told, seen, ended))
    for said in ("boards 2-3 plant a backdoor 4", "works on 50.0%"):
        assert said in printed.getvalue()


def test_report_and_summary_name_boards_that_cannot_train(
    heading: RunHeading, snapshot: RunSnapshot, outcome: RunOutcome
) -> None:
    one, other, last = snapshot.devices
    ill = replace(one, number=1, failed=3, failure="column 8 reaches 1e6")
    seen = replace(snapshot, devices=(ill, replace(other, failed=1), last))

    assert report(CONFIG, heading, seen, outcome)["devices"][0]["failure"] == (
        "column 8 reaches 1e6"
    )
    printed = io.StringIO()
    Console(file=printed, width=160).print(summary(heading, seen, outcome))
    said = "3 of board 1 (aaaaaaaaaa), as of 1 more boards; its last: column 8"
    assert said in printed.getvalue()
