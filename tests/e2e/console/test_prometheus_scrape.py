"""A real Prometheus and a real node_exporter, at a fleet of real processes."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from starling.broker.runtime.mosquitto_process import free_port
from tests.e2e.agent.test_agent_process import RealCoordinator
from tests.e2e.deadline import DEADLINE_S
from tests.e2e.fleet.fleet_process import has_reached, running, until
from tests.e2e.required_mosquitto import require_mosquitto

PACKAGING = Path(__file__).parents[3] / "packaging"
PROMETHEUS = shutil.which("prometheus")
NODE_EXPORTER = shutil.which("prometheus-node-exporter")
HOST = "127.0.0.1"
SETTINGS = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: starling
    static_configs: [{{targets: ["127.0.0.1:{console}"]}}]
"""
pytestmark = pytest.mark.e2e


@contextmanager
def service(folder: Path, *words: str) -> Iterator[None]:
    """A service of somebody else's, until the block ends."""
    with (folder / "service.log").open("w") as log:
        child = subprocess.Popen(words, cwd=folder, stdout=log, stderr=log)
        try:
            yield
        finally:
            child.terminate()
            child.wait(DEADLINE_S)


def text_of(port: int, path: str) -> str | None:
    """What is at an address now; None if nobody answers well."""
    connection = HTTPConnection(HOST, port, timeout=DEADLINE_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        content = answer.read().decode()
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()
    return content if answer.status == 200 else None


def samples(port: int, expression: str) -> list[dict[str, Any]]:
    """What an expression is worth now, as Prometheus says."""
    text = text_of(port, f"/api/v1/query?query={quote(expression)}")
    return [] if text is None else list(json.loads(text)["data"]["result"])


def value(port: int, expression: str) -> float | None:
    found = samples(port, expression)
    return float(found[0]["value"][1]) if found else None


def panels() -> list[tuple[str, str]]:
    """Title and expression of each line of the dashboard."""
    board = json.loads((PACKAGING / "grafana" / "starling.json").read_text())
    return [
        (panel["title"], target["expr"].replace("$instance", ".*"))
        for panel in board["panels"]
        for target in panel.get("targets", ())
    ]


@pytest.mark.skipif(PROMETHEUS is None, reason="none: apt-get install prometheus")
def test_prometheus_has_the_fleets_numbers_for_each_panel_and_all_rules(
    tmp_path: Path,
) -> None:
    require_mosquitto()
    assert PROMETHEUS is not None
    home, console, port = tmp_path / "fleet", free_port(), free_port()
    settings = tmp_path / "prometheus.yml"
    rules = PACKAGING / "prometheus" / "alerts.yml"
    settings.write_text(SETTINGS.format(rules=rules, console=console))
    words = (
        PROMETHEUS,
        f"--config.file={settings}",
        f"--storage.tsdb.path={tmp_path / 'series'}",
        f"--web.listen-address={HOST}:{port}",
    )
    sizes = ("--devices", "2", "--buffer", "2", "--until-version", "1000")
    fleet = ("--home", str(home), "--web", str(console), "--releases", "1000")

    with running(*sizes, *fleet), service(tmp_path, *words):
        until(lambda: value(port, "starling_up") == 1, "a scrape that is up")
        until(lambda: has_reached(home, 2), "two versions")
        until(
            lambda: (value(port, 'starling_task_version{task="0"}') or 0) >= 2,
            "the fleet's version in Prometheus",
        )
        assert value(port, "starling_boards_registered") == 2
        # A rate has a value from the second scrape on, finality from the first block.
        for title, expression in panels():
            until(partial(samples, port, expression), title)
        text = text_of(port, "/api/v1/rules")

    assert text is not None
    groups = json.loads(text)["data"]["groups"]
    health = {
        rule["name"]: rule["health"] for group in groups for rule in group["rules"]
    }
    assert len(health) == rules.read_text().count("- alert:")
    assert set(health.values()) == {"ok"}


@pytest.mark.skipif(
    NODE_EXPORTER is None, reason="none: apt-get install prometheus-node-exporter"
)
def test_node_exporter_has_what_a_board_says_of_itself(tmp_path: Path) -> None:
    require_mosquitto()
    assert NODE_EXPORTER is not None
    textfile, port = tmp_path / "run" / "agent.prom", free_port()
    textfile.parent.mkdir()
    meadow = RealCoordinator(tmp_path)
    meadow.found(2)
    settings = meadow.home("board0") / "agent.toml"
    text = settings.read_text()
    settings.write_text(text.replace('textfile = ""', f'textfile = "{textfile}"'))
    words = (
        NODE_EXPORTER,
        "--collector.disable-defaults",
        "--collector.textfile",
        f"--collector.textfile.directory={textfile.parent}",
        f"--web.listen-address={HOST}:{port}",
    )
    try:
        for name in ("broker", "coordinator", "board0", "board1"):
            meadow.start(name)
        meadow.wait_for_version("board0", 2)
        with service(tmp_path, *words):
            meadow.wait(
                "an update that is final, of the board",
                lambda: (figure(port, 'updates_total{outcome="final"}') or 0) >= 1,
            )
            assert (figure(port, "task_version") or 0) >= 2
            assert figure(port, "broker_connected") == 1
            assert "node_textfile_scrape_error 0" in (text_of(port, "/metrics") or "")
    finally:
        meadow.stop()


def figure(port: int, name: str) -> float | None:
    """One of the board's figures, as node_exporter hands it on."""
    for line in (text_of(port, "/metrics") or "").splitlines():
        found, _, number = line.rpartition(" ")
        if found == f"starling_agent_{name}":
            return float(number)
    return None
