"""Real agents follow the newest task that is open, back to an older one as well."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.agent.test_agent_process import RealCoordinator
from tests.e2e.required_mosquitto import require_mosquitto

pytestmark = pytest.mark.e2e


@pytest.fixture
def meadow(tmp_path: Path) -> Iterator[RealCoordinator]:
    """Two boards, broker and coordinator, learning."""
    require_mosquitto()
    found = RealCoordinator(tmp_path)
    found.found(2)
    for name in ("broker", "coordinator", "board0", "board1"):
        found.start(name)
    yield found
    found.stop()


def publish(meadow: RealCoordinator) -> None:
    meadow.do(
        *("coordinator", "publish", "--home", meadow.home("coordinator")),
        *("--bundle", meadow.home("bundle"), "--task", meadow.home("task.toml")),
    )


def close(meadow: RealCoordinator, task: int) -> None:
    home = meadow.home("coordinator")
    meadow.do("coordinator", "close-task", str(task), "--home", home)


def learn(meadow: RealCoordinator, task: int, more: int) -> None:
    """Waits until both boards have had so many more versions of a task."""

    def versions() -> list[int]:
        found = [meadow.status(name) for name in ("board0", "board1")]
        return [f.get("version") or 0 for f in found if f.get("task") == task]

    meadow.wait(f"both at task {task}", lambda: len(versions()) == 2)
    least = min(versions(), default=0) + more
    meadow.wait(f"version {least}", lambda: min(versions(), default=0) >= least)


def test_boards_go_back_to_an_open_task_when_the_newest_is_closed(
    meadow: RealCoordinator,
) -> None:
    learn(meadow, 0, 1)
    publish(meadow)
    learn(meadow, 1, 1)

    close(meadow, 1)
    learn(meadow, 0, 2)

    # A start finds the same task, and a third one is followed as the second was.
    meadow.end("board0", signal.SIGTERM)
    meadow.start("board0")
    learn(meadow, 0, 1)
    publish(meadow)
    learn(meadow, 2, 1)
