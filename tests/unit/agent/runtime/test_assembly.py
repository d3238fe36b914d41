"""The task that an agent takes part in, after a change of tasks."""

from pathlib import Path

import pytest

from starling.agent.config import AgentConfig, TrainingSettings
from starling.agent.runtime.assembly import task_of
from starling.agent.runtime.storage.agent_home import AgentHome


@pytest.mark.parametrize(
    ("settings", "followed", "task"),
    [
        (TrainingSettings(), None, 0),
        (TrainingSettings(), b"3\n", 3),
        (TrainingSettings(task=5), b"3\n", 5),
        (TrainingSettings(newest=False), b"3\n", 0),
        (TrainingSettings(), b"", 0),
        (TrainingSettings(), b"-1", 0),
        (TrainingSettings(), b"three", 0),
        (TrainingSettings(), b"3" * 1000, 0),
    ],
)
def test_task_is_the_owner_s_or_a_later_one_that_was_followed(
    tmp_path: Path, settings: TrainingSettings, followed: bytes | None, task: int
) -> None:
    home = AgentHome(tmp_path)
    home.state.mkdir()
    if followed is not None:
        home.task_file.write_bytes(followed)

    assert task_of(home, AgentConfig(training=settings)) == task
