"""The task that an agent takes part in, after changes of tasks."""

from dataclasses import replace
from pathlib import Path

import pytest

from starling.agent.config import TrainingSettings
from starling.agent.runtime.storage.followed_task import FollowedTask
from starling.protocol.ids import TaskId
from tests.unit.agent.agent_harness import fresh


@pytest.mark.parametrize(
    ("settings", "followed", "task"),
    [
        (TrainingSettings(), None, 0),
        (TrainingSettings(), b"3\n", 3),
        (TrainingSettings(task=5), b"3\n", 5),
        (TrainingSettings(task=5), b"3 5\n", 3),
        (TrainingSettings(task=5), b"3 4\n", 5),
        (TrainingSettings(newest=False), b"3\n", 0),
        (TrainingSettings(), b"", 0),
        (TrainingSettings(), b"-1", 0),
        (TrainingSettings(), b"three", 0),
        (TrainingSettings(), b"3 four", 0),
        (TrainingSettings(), b"65536", 0),
        (TrainingSettings(), b"3" * 5000, 0),
    ],
)
def test_task_is_the_owner_s_or_another_one_that_was_followed(
    tmp_path: Path, settings: TrainingSettings, followed: bytes | None, task: int
) -> None:
    path = tmp_path / "task"
    if followed is not None:
        path.write_bytes(followed)

    assert FollowedTask.read(path, settings).number == task


def test_task_that_was_left_is_known_after_a_start(tmp_path: Path) -> None:
    path = tmp_path / "task"
    over = frozenset(map(TaskId, (1, 5, 7)))
    state = replace(fresh().state, over=over)

    made = FollowedTask.after(TaskId(3), state)
    made.write(path)

    assert made == FollowedTask(TaskId(3), frozenset(map(TaskId, (5, 7))))
    assert FollowedTask.read(path, TrainingSettings(task=7)) == made
