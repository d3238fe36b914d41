"""The text that Prometheus reads, and what packaging/ makes of it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from starling.agent.runtime import board_metrics
from starling.console.prometheus import METRICS, TASKS_MAX, exposition
from starling.protocol.errors import Reason
from starling.service.prometheus_text import OTHER, escaped_label
from tests.unit.console.status_documents import document, facts

PACKAGING = Path(__file__).parents[3] / "packaging"
SAMPLE = re.compile(r'^([a-z_]+)(?:\{(?:[a-z]+="(?:[^"\\\n]|\\["\\n])*",?)+\})? (\S+)$')

EVERY = METRICS | board_metrics.METRICS


def lines(made: dict[str, Any] | None = None) -> list[str]:
    return exposition(facts(made), "0.1.0", {200: 3, 404: 1}, 2).splitlines()


def test_text_is_of_the_format_and_every_metric_is_there() -> None:
    seen, kind = set(), ""
    for line in lines():
        if line.startswith("# HELP "):
            continue
        if line.startswith("# TYPE "):
            _, _, kind, declared = line.split()
            assert METRICS[kind].kind == declared
            continue
        match = SAMPLE.match(line)
        assert match is not None, line
        assert match[1] == kind
        float(match[2])
        seen.add(match[1])
    assert seen == set(METRICS)
    assert exposition(facts(), "0.1.0", {}, 0).endswith("\n")


@pytest.mark.parametrize(
    "line",
    [
        "starling_up 1",
        'starling_build_info{version="0.1.0"} 1',
        "starling_chain_height_blocks 17",
        "starling_chain_block_age_seconds 2.5",
        "starling_chain_finality_seconds 0.04",
        "starling_chain_pending_transactions 9",
        'starling_boards{state="training"} 1',
        'starling_boards{state="sleeping"} 0',
        "starling_updates_accepted_total 12",
        'starling_refusals_total{reason="stale"} 4',
        'starling_task_version{task="0"} 3',
        'starling_task_accuracy_ratio{task="0"} 0.7',
        'starling_task_staleness_versions{task="0"} 1.5',
        'starling_task_waiting_boards{task="0"} 6',
        "starling_messages_dropped_total 2",
        'starling_console_responses_total{code="404"} 1',
    ],
)
def test_figure_of_the_status_is_there(line: str) -> None:
    assert line in lines()


def test_names_follow_the_conventions() -> None:
    for name, metric in EVERY.items():
        assert re.fullmatch(r"starling_[a-z_]+", name)
        assert name.endswith("_total") == (metric.kind == "counter")
        assert not name.endswith(("_milliseconds", "_ms", "_percent"))


def test_labels_stay_few_whatever_the_document_says() -> None:
    made = document()
    made["updates"]["refused"] = {f"X{n}": 1 for n in range(1000)} | {"BUSY": 2}
    made["phases"] = {f"P{n}": 1 for n in range(1000)}
    made["tasks"] = [made["tasks"][0] | {"task": n} for n in range(100)]

    text = lines(made)

    refusals = [line for line in text if line.startswith("starling_refusals_total")]
    assert len(refusals) == len(Reason) + 1
    assert sorted(line for line in refusals if not line.endswith(" 0")) == [
        'starling_refusals_total{reason="busy"} 2',
        f'starling_refusals_total{{reason="{OTHER}"}} 1000',
    ]
    assert sum(line.startswith("starling_boards{") for line in text) == 6
    versions = [line for line in text if line.startswith("starling_task_version{")]
    assert len(versions) == TASKS_MAX
    assert 'starling_task_version{task="99"} 3' in versions


@pytest.mark.parametrize("name", ["refusals", "refusals_passing"])
def test_counter_of_each_reason_begins_at_zero(name: str) -> None:
    made = document()
    made["updates"]["refused"] = made["updates"]["passing"] = {}

    text = lines(made)

    for reason in [*(each.name.lower() for each in Reason), OTHER]:
        assert f'starling_{name}_total{{reason="{reason}"}} 0' in text


def test_what_is_not_known_has_no_sample() -> None:
    made = document()
    made["finality_s"] = None
    for row in made["tasks"][0]["versions"]:
        row["accuracy"] = None

    text = "\n".join(lines(made))

    assert "finality" not in text
    assert "starling_task_accuracy_ratio" not in text
    assert "starling_task_loss" in text


def test_coordinator_without_a_status_is_down() -> None:
    text = exposition(None, "0.1.0", {}, 0).splitlines()

    assert "starling_up 0" in text
    assert not [line for line in text if "chain" in line]


def test_label_values_are_escaped() -> None:
    assert escaped_label('a\\b"c\nd') == 'a\\\\b\\"c\\nd'


def used(text: str) -> set[str]:
    return set(re.findall(r"\bstarling_[a-z_]+", text))


def test_alert_rules_use_metrics_that_exist() -> None:
    text = (PACKAGING / "prometheus" / "alerts.yml").read_text()

    assert used(text) - set(EVERY) == set()
    assert text.count("- alert:") == text.count("summary:") >= 6


def test_dashboard_uses_metrics_that_exist_and_each_panel_some() -> None:
    board = json.loads((PACKAGING / "grafana" / "starling.json").read_text())

    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert len(panels) >= 8
    for panel in panels:
        names = used(json.dumps(panel["targets"]))
        assert names, panel["title"]
        assert names <= set(METRICS), panel["title"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_page_of_the_manual_has_every_metric() -> None:
    page = (PACKAGING.parent / "docs" / "console.md").read_text()

    for name, metric in EVERY.items():
        labels = f" by {', '.join(metric.labels)}" if metric.labels else ""
        assert f"| `{name}`{labels} | {metric.kind} | {metric.meaning} |" in page
