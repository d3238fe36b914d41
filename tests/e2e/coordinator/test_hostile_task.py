"""A real coordinator that is given tasks which no board would run."""

import dataclasses
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from starling.coordinator.loop.restored_state import TRIALS_MAX
from starling.coordinator.runtime import command_inbox
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.operations.submission import submit
from starling.coordinator.task_file.task_settings import TaskSettings, publication
from starling.protocol.ids import H
from starling.protocol.learning.task import TASK
from starling.protocol.model.training_bundle import EVALUATE
from starling.protocol.wire.envelope import MessageKind
from tests.e2e.agent.test_agent_process import RealCoordinator
from tests.e2e.required_mosquitto import require_mosquitto
from tests.unit.engine.bundle_edits import (
    repacked,
    with_external_constant,
    with_hidden_operator,
)

pytestmark = pytest.mark.e2e


@pytest.fixture
def meadow(tmp_path: Path) -> Iterator[RealCoordinator]:
    require_mosquitto()
    found = RealCoordinator(tmp_path)
    broker, home, port = found.home("broker"), found.home("coordinator"), found.port
    found.do(
        *("broker", "init", "--home", broker, "--fleet", "meadow"),
        *("--port", str(port), "--bind", "127.0.0.1"),
    )
    found.do(
        *("coordinator", "init", "--home", home),
        *("--fleet", "meadow", "--broker", broker, "--port", str(port)),
    )
    config = home / "coordinator.toml"
    config.write_text(config.read_text().replace('data = ""', 'data = "held.npz"'))
    yield found
    found.stop()


def hold_out(meadow: RealCoordinator, features: int) -> None:
    x = np.random.default_rng(0).normal(size=(32, features)).astype(np.float32)
    np.savez(meadow.home("coordinator") / "held.npz", x=x, y=np.arange(32) % 4)


def drop(meadow: RealCoordinator, name: str, packed: bytes) -> None:
    """Hands over a task by an operator's key, past the check of `publish`."""
    home = CoordinatorHome(meadow.home("coordinator"))
    made = publication(TaskSettings(name=name, buffer=1, leases=1), repacked({}), "t")
    spec = dataclasses.replace(made.spec, bundle=H(packed), bundle_bytes=len(packed))
    command_inbox.drop_blob(home.inbox, packed)
    command_inbox.drop_model(home.inbox, made.model)
    submit(home, MessageKind.TASK, TASK.pack(spec))


def versions(meadow: RealCoordinator) -> list[dict[str, object]]:
    tasks = meadow.status("coordinator").get("tasks") or [{"versions": []}]
    found: list[dict[str, object]] = tasks[0]["versions"]
    return found


def refused(meadow: RealCoordinator) -> int:
    updates = meadow.status("coordinator").get("updates") or {"refused": {}}
    return int(updates["refused"].get("MALFORMED", 0))


def test_coordinator_refuses_hostile_tasks_and_goes_on(meadow: RealCoordinator) -> None:
    hold_out(meadow, 8)
    key = meadow.home("coordinator") / "keys" / "signing"
    hostile = {
        "garbage": repacked({EVALUATE: b"garbage"}),
        "hidden": with_hidden_operator(EVALUATE, "RandomNormalLike"),
        "thief": with_external_constant(EVALUATE, os.path.relpath(key)),
    }
    for name, packed in hostile.items():
        drop(meadow, name, packed)
    meadow.start("broker")
    meadow.start("coordinator")

    meadow.wait("all refused", lambda: refused(meadow) == len(hostile))
    assert not versions(meadow)
    drop(meadow, "honest", repacked({}))
    meadow.wait(
        "the honest one tried", lambda: any(each["loss"] for each in versions(meadow))
    )

    (task,) = meadow.status("coordinator")["tasks"]
    assert task["name"] == "honest"
    assert meadow.running["coordinator"].poll() is None
    log = (meadow.folder / "coordinator.log").read_text()
    for packed in hostile.values():
        assert f"bundle {H(packed).hex()[:16]} is refused" in log


def test_version_that_cannot_be_tried_is_left_after_a_few_starts(
    meadow: RealCoordinator,
) -> None:
    hold_out(meadow, 7)
    drop(meadow, "honest", repacked({}))
    meadow.start("broker")

    for start in range(1, TRIALS_MAX + 2):
        meadow.start("coordinator")
        failures = min(start, TRIALS_MAX)

        def tried(wanted: int = failures) -> bool:
            running = meadow.status("coordinator").get("state") == "running"
            shown = [each["evaluation_failures"] for each in versions(meadow)]
            return running and shown == [wanted]

        meadow.wait(f"{failures} failures", tried)
        assert meadow.end("coordinator", signal.SIGTERM) == 0
    meadow.end("broker", signal.SIGTERM)
