"""Logs for other tools hold each version once, when its evaluation is known."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from starling.fleet.monitor.run_snapshot import (
    PrivacyTerms,
    RunHeading,
    RunSnapshot,
    VersionPoint,
)
from starling.fleet.runtime.metric_logs import MetricLog, metric_logs
from starling.protocol.errors import ConfigError, StorageError
from tests.unit.fleet.report.test_event_file import message, records

HEADING = RunHeading("digits", 4, None)
PRIVATE = RunHeading(
    "digits", 4, PrivacyTerms("record", "add or remove", 8.0, 1e-6, 1.5, 1.0, 20)
)


def snapshot(time_s: float, *losses: float | None) -> RunSnapshot:
    points = [
        VersionPoint(number, float(number), number, loss=loss)
        for number, loss in enumerate(losses)
    ]
    return RunSnapshot(time_s, tuple(points))


@dataclass
class Recorded:
    """A sink that keeps what it is given."""

    facts: dict[str, str] = field(default_factory=dict)
    versions: list[tuple[float, int, dict[str, float]]] = field(default_factory=list)
    ends: int = 0
    fails_at: int = 99

    def begin(self, facts: Mapping[str, str]) -> None:
        assert not self.facts
        self.facts = dict(facts)

    def version(self, time_s: float, step: int, values: Mapping[str, float]) -> None:
        if step == self.fails_at:
            raise RuntimeError("the server is gone\nand more")
        self.versions.append((time_s, step, dict(values)))

    def end(self) -> None:
        self.ends += 1


def test_versions_are_written_once_and_all_at_the_end() -> None:
    sink = Recorded()
    log = MetricLog("test", sink, lambda: 1000.0)

    log.look(HEADING, snapshot(1.0, None))
    assert sink.versions == []
    log.look(HEADING, snapshot(2.0, 0.9, 0.8, None))
    log.look(HEADING, snapshot(2.0, 0.9, 0.8, None))
    assert [entry[:2] for entry in sink.versions] == [(998.0, 0), (999.0, 1)]
    assert sink.ends == 0
    log.look(HEADING, snapshot(4.0, 0.9, 0.8, 0.7, None), is_last=True)
    log.look(HEADING, snapshot(4.0, 0.9, 0.8, 0.7, None), is_last=True)

    assert [step for _, step, _ in sink.versions] == [0, 1, 2, 3]
    assert sink.versions[2][2] == {"held_out/loss": 0.7, "fleet/updates": 2.0}
    assert sink.ends == 1


def test_what_does_not_change_is_said_first() -> None:
    sink = Recorded()

    MetricLog("test", sink).look(PRIVATE, snapshot(1.0))

    assert sink.facts["title"] == "digits"
    assert sink.facts["epsilon_cap"] == "8.0"


def test_tool_that_fails_ends_its_log_and_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sink = Recorded(fails_at=1)
    log = MetricLog("mlflow:http://x", sink)

    log.look(HEADING, snapshot(2.0, 0.9, 0.8))
    log.look(HEADING, snapshot(3.0, 0.9, 0.8, 0.7), is_last=True)

    assert [step for _, step, _ in sink.versions] == [0]
    assert caplog.messages == ["--log mlflow:http://x ends here: the server is gone"]


def test_event_file_has_a_step_for_each_version(tmp_path: Path) -> None:
    (log,) = metric_logs([f"tensorboard:{tmp_path / 'runs'}"])

    log.look(HEADING, snapshot(2.0, 0.9, 0.8), is_last=True)

    (file,) = (tmp_path / "runs").glob("events.out.tfevents.*")
    _, *rows = (message(record) for record in records(file.read_bytes()))
    assert [row.get(2, [0])[0] for row in rows] == [0, 1]


def test_disk_that_refuses_is_said(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")

    with pytest.raises(StorageError):
        metric_logs([f"tensorboard:{tmp_path / 'runs'}"])


@pytest.mark.parametrize("asked", ["tensorboard", "tensorboard:", "mlflow:", "x:y", ""])
def test_log_that_there_is_not_is_refused(asked: str) -> None:
    with pytest.raises(ConfigError, match=r"--log: .* is none of tensorboard:DIR"):
        metric_logs([asked])


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_missing_library_is_named_with_its_command(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(ConfigError, match=rf"--log: .*pip install {name}"):
        metric_logs([f"{name}:x"])


class Calls:
    """Records calls of a library's objects, by name, and answers with what is set."""

    def __init__(self, **answers: object) -> None:
        self.made: list[tuple[str, Any, Any]] = []
        self._answers = answers

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever is asked for
        def call(*words: object, **named: object) -> object:
            self.made.append((name, words, named))
            return self._answers.get(name)

        return call


def test_mlflow_gets_a_run_of_parameters_and_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = SimpleNamespace(info=SimpleNamespace(run_id="r1"))
    client = Calls(create_experiment="7", create_run=run)
    library = Calls(MlflowClient=client)
    fake = SimpleNamespace(
        MlflowClient=library.MlflowClient,
        entities=SimpleNamespace(Metric=lambda *words: words),
    )
    monkeypatch.setitem(sys.modules, "mlflow", fake)

    (log,) = metric_logs(["mlflow:sqlite:///runs.db"])
    log.look(HEADING, snapshot(2.0, 0.9), is_last=True)

    (opened,) = library.made
    assert opened[2] == {"tracking_uri": "sqlite:///runs.db"}
    assert [name for name, _, _ in client.made] == [
        "get_experiment_by_name",
        "create_experiment",
        "create_run",
        "log_param",
        "log_param",
        "log_batch",
        "set_terminated",
    ]
    logged = client.made[5]
    assert logged[1] == ("r1",)
    assert [(metric[0], metric[3]) for metric in logged[2]["metrics"]] == [
        ("held_out/loss", 0),
        ("fleet/updates", 0),
    ]


def test_wandb_gets_a_run_of_configuration_and_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, run = Calls(), Calls()
    monkeypatch.setattr(run, "config", config, raising=False)
    library = Calls(init=run)
    monkeypatch.setitem(sys.modules, "wandb", library)

    (log,) = metric_logs(["wandb:meadow"])
    log.look(HEADING, snapshot(2.0, 0.9), is_last=True)

    assert library.made == [("init", (), {"project": "meadow"})]
    assert config.made[0][1][0]["title"] == "digits"
    (name, (values,), named), (last, _, _) = run.made
    assert (name, named, last) == ("log", {"step": 0}, "finish")
    assert values["held_out/loss"] == 0.9


def test_tool_that_does_not_begin_is_said_before_the_fleet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(**_: object) -> None:
        raise RuntimeError("not signed in")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=refuse))

    with pytest.raises(ConfigError, match="'wandb' does not begin: not signed in"):
        metric_logs(["wandb"])
