"""Logs for other tools hold each version once, when its evaluation is known."""

from pathlib import Path

import pytest

from starling.fleet.monitor.run_snapshot import RunHeading, RunSnapshot, VersionPoint
from starling.fleet.runtime.metric_logs import EventLog, event_logs
from starling.protocol.errors import ConfigError
from tests.unit.fleet.report.test_event_file import message, records

HEADING = RunHeading("digits", 4, None)


def snapshot(time_s: float, *losses: float | None) -> RunSnapshot:
    points = [
        VersionPoint(number, float(number), number, loss=loss)
        for number, loss in enumerate(losses)
    ]
    return RunSnapshot(time_s, tuple(points))


def steps(folder: Path) -> list[tuple[int, float]]:
    (file,) = folder.glob("events.out.tfevents.*")
    _, *rows = (message(record) for record in records(file.read_bytes()))
    return [(row.get(2, [0])[0], row[1][0]) for row in rows]


def test_versions_are_written_once_and_all_at_the_end(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "runs", lambda: 1000.0)

    log.look(HEADING, snapshot(1.0, None))
    assert steps(tmp_path / "runs") == []
    log.look(HEADING, snapshot(2.0, 0.9, 0.8, None))
    log.look(HEADING, snapshot(2.0, 0.9, 0.8, None))
    assert steps(tmp_path / "runs") == [(0, 998.0), (1, 999.0)]
    log.look(HEADING, snapshot(4.0, 0.9, 0.8, 0.7, None), is_last=True)

    assert [step for step, _ in steps(tmp_path / "runs")] == [0, 1, 2, 3]


@pytest.mark.parametrize("asked", ["tensorboard", "tensorboard:", "wandb:x", ""])
def test_log_that_there_is_not_is_refused(asked: str) -> None:
    with pytest.raises(ConfigError, match=r"--log: .* is not tensorboard:DIR"):
        event_logs([asked])
