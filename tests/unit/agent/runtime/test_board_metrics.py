"""Metrics that a board writes for its owner's node_exporter."""

import logging
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from starling.agent.config import AgentConfig, MetricsSettings
from starling.agent.loop.event_loop import AgentLoop
from starling.agent.runtime.board_metrics import (
    METRICS,
    metrics_file,
    write_textfile,
)
from starling.agent.runtime.status_file import RuntimeFacts, describe
from starling.agent.runtime.status_monitor import AgentPlace, StatusMonitor
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.agent.step.state import ReadinessCondition
from starling.agent.training.trainer_messages import DataFacts
from starling.protocol.errors import ConfigError, StorageError
from starling.service.notifications import ServiceNotifier
from starling.service.prometheus_text import OTHER
from tests.unit.agent.agent_harness import (
    BoardHarness,
    connected,
    fresh,
    until_training,
)

AROUND = RuntimeFacts(
    "", "", "", {"final": 3}, 1000, 2000, "", "", certificate_days=2.5
)
NOW_S = 1_800_000_000.25
SAMPLE = re.compile(r'^([a-z_]+)(?:\{[a-z]+="[^"\\\n]+"\})? (\S+)$')


def lines(board: BoardHarness, path: Path, around: RuntimeFacts = AROUND) -> list[str]:
    document = describe(board.settings, board.state, around, time.monotonic())
    write_textfile(path, document, NOW_S)
    return path.read_text().splitlines()


def test_every_metric_of_a_training_board_is_there(tmp_path: Path) -> None:
    board = until_training(connected(fresh(pledge=32)))

    written = lines(board, tmp_path / "agent.prom")

    samples = [SAMPLE.match(line) for line in written if not line.startswith("#")]
    assert all(samples)
    names = {match[1] for match in samples if match is not None}
    assert names == set(METRICS)
    for line in (
        "starling_agent_status_timestamp_seconds 1800000000.25",
        'starling_agent_condition{condition="training"} 1',
        'starling_agent_condition{condition="budget_spent"} 0',
        "starling_agent_broker_connected 1",
        'starling_agent_updates_total{outcome="final"} 3',
        'starling_agent_updates_total{outcome="stale"} 0',
        "starling_agent_sent_bytes_total 1000",
        "starling_agent_received_bytes_total 2000",
        "starling_agent_certificate_remaining_seconds 216000",
        "starling_agent_refused 0",
    ):
        assert line in written
    assert (tmp_path / "agent.prom").stat().st_mode & 0o777 == 0o640


def test_nothing_of_the_data_is_told(tmp_path: Path) -> None:
    board = connected(fresh(pledge=32))
    few, many = (
        replace(AROUND, found=DataFacts(records, 0, 0, ("a.csv: row 3",)))
        for records in (40, 60)
    )

    first = lines(board, tmp_path / "a.prom", few)

    assert first == lines(board, tmp_path / "b.prom", many)
    assert not any("a.csv" in line for line in first)


@pytest.mark.parametrize("condition", list(ReadinessCondition))
def test_one_condition_is_1(tmp_path: Path, condition: ReadinessCondition) -> None:
    board = connected(fresh())
    document = describe(board.settings, board.state, AROUND, 0.0)
    document["condition"] = condition.value

    write_textfile(tmp_path / "a.prom", document, NOW_S)

    label = condition.name.lower()
    assert held(tmp_path / "a.prom") == [f'condition="{label}"']


def test_condition_that_is_none_of_the_list_is_other(tmp_path: Path) -> None:
    board = connected(fresh())
    around = replace(AROUND, disk_said="something new")

    lines(board, tmp_path / "a.prom", around)

    assert held(tmp_path / "a.prom") == [f'condition="{OTHER}"']


def held(path: Path) -> list[str]:
    found = re.findall(r"^starling_agent_condition\{(.*)\} 1$", path.read_text(), re.M)
    return list(map(str, found))


def config(name: str) -> AgentConfig:
    return AgentConfig(metrics=MetricsSettings(name))


def test_no_file_is_written_unless_it_is_asked_for(tmp_path: Path) -> None:
    assert metrics_file(AgentHome(tmp_path), AgentConfig()) is None


def test_file_is_the_owners_or_in_the_home(tmp_path: Path) -> None:
    home = AgentHome(tmp_path / "home")

    assert metrics_file(home, config("/run/starling/agent.prom")) == Path(
        "/run/starling/agent.prom"
    )
    assert metrics_file(home, config("m.prom")) == home.path / "m.prom"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("agent.txt", "must end in .prom"),
        ("agent.prom/agent", "must end in .prom"),
        ("data/agent.prom", "in the folder of the data"),
        ("data/../data/sub/agent.prom", "in the folder of the data"),
    ],
    ids=["suffix", "folder", "data", "data by a detour"],
)
def test_file_that_cannot_be_is_refused(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        metrics_file(AgentHome(tmp_path), config(name))
    assert caught.value.key == "metrics.textfile"
    assert caught.value.file.endswith("agent.toml")


def test_missing_folder_is_said_once_and_again_when_it_was_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "away"
    monitor = StatusMonitor(
        AgentHome(tmp_path),
        AgentPlace("b", "simulated", "", folder / "agent.prom"),
        ServiceNotifier(),
    )
    board = connected(fresh())
    loop = cast(AgentLoop, board)  # It has settings and a state, too.
    caplog.set_level(logging.WARNING)

    monitor.write(loop, AROUND)
    monitor.write(loop, AROUND)
    assert len(caplog.records) == 1
    assert "metrics.textfile" in caplog.text
    assert "make its folder" in caplog.text

    folder.mkdir()
    monitor.write(loop, AROUND)
    assert (folder / "agent.prom").is_file()
    assert len(caplog.records) == 1


def test_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.prom"
    board = connected(fresh())
    before = lines(board, path)
    document = describe(board.settings, board.state, AROUND, 0.0)

    with pytest.raises(StorageError):
        write_textfile(tmp_path / "away" / "a.prom", document, NOW_S)

    assert path.read_text().splitlines() == before
