"""Real agents with a real broker and coordinator, killed where it hurts."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from starling.agent.privacy.ledger import PrivacyLedger
from starling.broker.runtime.mosquitto_process import free_port
from starling.compiler import compile_model, write_bundle
from starling.durable.journal import Journal
from starling.fleet.reference_models import build_model
from starling.protocol.crypto.keys import OpeningKey
from starling.protocol.crypto.sealed_blob import SEALED, seal
from starling.protocol.privacy.gaussian_dp import Budget, charge_from_sigma, charge_max
from tests.e2e.deadline import DEADLINE_S
from tests.e2e.required_mosquitto import require_mosquitto

pytestmark = pytest.mark.e2e

TASK = """
name = "meadow"
buffer = 2
leases = 4
pledge_least = 16
pledge_most = 64
patience = 1
patience_s = 1
[privacy]
releases = 200
epsilon = 100.0
"""


class RealCoordinator:
    """A broker, a coordinator and boards, each a process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.task = TASK
        self.port = free_port()
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.deadline_s = DEADLINE_S
        self.cut_off = 0
        """Trainings of board0 that were lost when a test killed it."""

    def home(self, name: str) -> Path:
        return self.folder / name

    def do(self, *words: str | Path) -> None:
        command = [sys.executable, "-m", "starling", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def found(self, boards: int) -> None:
        broker, coordinator = self.home("broker"), self.home("coordinator")
        port = str(self.port)
        self.do(
            *("broker", "init", "--home", broker, "--fleet", "meadow"),
            *("--port", port, "--bind", "127.0.0.1"),
        )
        self.do(
            *("coordinator", "init", "--home", coordinator),
            *("--fleet", "meadow", "--broker", broker, "--port", port),
        )
        for number in range(boards):
            self.enrol(f"board{number}", number)
        rng = np.random.default_rng(1)
        model = build_model("softmax", (8,), 4, rng)
        write_bundle(compile_model(model, loss="cross-entropy"), self.home("bundle"))
        self.home("task.toml").write_text(self.task)
        self.do(
            *("coordinator", "publish", "--home", coordinator),
            *("--bundle", self.home("bundle"), "--task", self.home("task.toml")),
        )

    def enrol(
        self, name: str, seed: int, epsilon: float = 100.0, windows: int = 1
    ) -> None:
        home, admission = self.home(name), self.home(f"{name}.json")
        self.do("agent", "init", "--home", home)
        toml = (home / "agent.toml").read_text()
        toml = toml.replace("epsilon = 8.0", f"epsilon = {epsilon}")
        toml = toml.replace("windows = 1", f"windows = {windows}")
        toml = toml.replace("check_in_s = 15.0", "check_in_s = 1.0")
        toml = toml.replace("accept_s = 20.0", "accept_s = 1.0")
        toml = toml.replace("period_days = 30.0", "period_days = 0.0")
        toml = toml.replace("retry_most_s = 60.0", "retry_most_s = 1.0")
        (home / "agent.toml").write_text(toml)
        self.do("agent", "enrol", "--home", home)
        self.do(
            *("coordinator", "admit", home / "enrolment-request.json"),
            *("--home", self.home("coordinator"), "--out", admission),
        )
        self.do("agent", "enrol", "--home", home, "--admission", admission)
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(64, 8)).astype(np.float32)
        np.savez(home / "data" / "a.npz", x=x, y=x[:, :4].argmax(axis=1))

    def start(self, name: str) -> None:
        package = name if name in ("broker", "coordinator") else "agent"
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [
                    *(sys.executable, "-m", "starling", package),
                    *("run", "--home", str(self.home(name))),
                ],
                stdout=log,
                stderr=log,
            )

    def end(self, name: str, number: signal.Signals) -> int:
        process = self.running.pop(name)
        process.send_signal(number)
        return process.wait(self.deadline_s)

    def status(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads((self.home(name) / "status.json").read_text())
        except (OSError, ValueError):
            return {}
        assert isinstance(found, dict)
        return found

    def wait(self, what: str, condition: Callable[[], bool]) -> None:
        until_s = time.monotonic() + self.deadline_s
        while time.monotonic() < until_s:
            if condition():
                return
            time.sleep(0.05)
        logs = [path.read_text()[-3000:] for path in self.folder.glob("*.log")]
        pytest.fail(f"not within {self.deadline_s} s: {what}\n" + "\n----\n".join(logs))

    def version(self, name: str) -> int:
        return self.status(name).get("version") or 0

    def wait_for_version(self, name: str, least: int) -> None:
        self.wait(f"version {least} at {name}", lambda: self.version(name) >= least)

    def stop(self) -> None:
        for process in self.running.values():
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCoordinator]:
    """A fleet of two boards with a task, not yet running."""
    require_mosquitto()
    found = RealCoordinator(tmp_path_factory.mktemp("meadow"))
    found.found(2)
    yield found
    found.stop()


@pytest.fixture
def meadow(founded: RealCoordinator) -> RealCoordinator:
    """Two boards, broker and coordinator, all running and learning."""
    for name in ("broker", "coordinator", "board0", "board1"):
        if name not in founded.running:
            founded.start(name)
    return founded


def releases(home: Path) -> PrivacyLedger:
    """The privacy ledger on disk; refuses a base version that was paid twice."""
    journal, payloads = Journal.open(home / "state" / "privacy.journal")
    journal.close()
    return PrivacyLedger.load(None, payloads)


def lost_trainings(meadow: RealCoordinator, name: str) -> int:
    """Trainings of a board that were paid for, and of which nothing was sent."""
    outcomes = meadow.status(name)["outcomes"]
    kept = outcomes.get("final", 0) + outcomes.get("stale", 0)
    waiting = len(list(meadow.home(name).glob("spool/*.upload")))
    return len(releases(meadow.home(name)).charges) - int(kept) - waiting


def test_agent_killed_again_and_again_loses_at_most_what_it_was_paying(
    meadow: RealCoordinator,
) -> None:
    meadow.wait_for_version("board0", meadow.version("board0") + 1)
    for delay_s in (0.1, 0.45, 0.8, 0.6):
        meadow.wait("a lease", lambda: meadow.status("board0").get("leases", 0) > 0)
        # Kill at another moment of training, spending and sending each time.
        time.sleep(delay_s)
        meadow.end("board0", signal.SIGKILL)
        meadow.start("board0")
    least = meadow.version("board0") + 3

    meadow.wait_for_version("board0", least)
    meadow.wait(
        "an empty spool",
        lambda: (
            meadow.status("board0")["spool"] == []
            or meadow.status("board0")["condition"] == "training"
        ),
    )

    assert meadow.end("board0", signal.SIGTERM) == 0
    meadow.cut_off = lost_trainings(meadow, "board0")
    assert 0 <= meadow.cut_off <= 5


def test_owner_s_cap_and_windows_bind_the_process(meadow: RealCoordinator) -> None:
    meadow.enrol("board2", 2, epsilon=8.0, windows=2)

    meadow.start("board2")
    meadow.wait(
        "a budget that is spent",
        lambda: meadow.status("board2").get("condition") == "budget spent",
    )
    assert meadow.end("board2", signal.SIGTERM) == 0

    # A release costs four times as much as stated for one window, and the cap has room
    # for one of them; it would have for four.
    (charge,) = releases(meadow.home("board2")).charges.values()
    each = charge_from_sigma(charge.sigma_micro)
    most = charge_max(Budget(8.0, 1e-5))
    assert charge.units == charge_from_sigma(charge.sigma_micro, 2)
    assert (most // charge.units, most // each) == (1, 4)


def test_each_update_is_sealed_under_a_key_of_its_own(meadow: RealCoordinator) -> None:
    meadow.wait_for_version("board0", meadow.version("board0") + 2)

    file = meadow.home("coordinator") / "state" / "chain.sqlite3"
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as chain:
        blobs = [blob for (blob,) in chain.execute("SELECT blob FROM uploads")]

    # Ephemeral keys follow from content keys.
    ephemerals = {SEALED.unpack(blob).ephemeral for blob in blobs}
    assert len(ephemerals) == len(blobs) >= 4
    for known in (bytes(32), b"\xff" * 32):
        blob, _ = seal(b"", [OpeningKey(bytes(32)).public], known, bytes(32))
        assert SEALED.unpack(blob).ephemeral not in ephemerals


def test_broker_killed_in_between_is_found_again(meadow: RealCoordinator) -> None:
    meadow.wait_for_version("board0", meadow.version("board0") + 1)

    meadow.end("broker", signal.SIGKILL)
    meadow.wait(
        "the loss to show",
        lambda: "broker away" in meadow.status("board0").get("broker_said", ""),
    )
    meadow.start("broker")

    meadow.wait_for_version("board0", meadow.version("board0") + 2)


def test_coordinator_killed_in_between_loses_no_update(meadow: RealCoordinator) -> None:
    meadow.wait_for_version("board0", meadow.version("board0") + 1)

    meadow.end("coordinator", signal.SIGKILL)
    time.sleep(1.0)
    meadow.start("coordinator")
    meadow.wait_for_version("board0", meadow.version("board0") + 3)

    meadow.end("board1", signal.SIGTERM)
    meadow.end("board0", signal.SIGTERM)
    # At the end at most one training was cut off between its charge and its spool.
    assert 0 <= lost_trainings(meadow, "board1") <= 1
    assert 0 <= lost_trainings(meadow, "board0") - meadow.cut_off <= 1


def test_stopped_agent_says_goodbye_and_ends_clean(meadow: RealCoordinator) -> None:
    pid = meadow.running["board0"].pid
    meadow.wait("its status", lambda: meadow.status("board0").get("pid") == pid)

    code = meadow.end("board0", signal.SIGTERM)

    assert code == 0
    assert meadow.status("board0")["broker_said"] == "stopped"
    log = (meadow.folder / "board0.log").read_text()
    assert "Traceback" not in log


def test_board_s_checks_are_seen_from_a_coordinator_if_its_owner_lets_it(
    meadow: RealCoordinator,
) -> None:
    def ask(name: str) -> subprocess.CompletedProcess[str]:
        device = meadow.status(name)["device"]
        home = meadow.home("coordinator")
        words = ["coordinator", "check", "--remote", device, "--home", home, "--json"]
        command = [sys.executable, "-m", "starling", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    meadow.enrol("open", 9)
    toml = meadow.home("open") / "agent.toml"
    text = toml.read_text()
    toml.write_text(text.replace("tell_health = false", "tell_health = true"))
    meadow.start("open")
    meadow.wait_for_version("open", 1)

    shown, hidden = ask("open"), ask("board0")

    rows = {row["name"]: row for row in json.loads(shown.stdout)["checks"]}
    assert rows["net.tcp"]["verdict"] == "ok"
    assert rows["process.alive"]["found"] == f"process {meadow.running['open'].pid}"
    assert "data.readable" not in rows
    assert hidden.returncode == 1
    assert "does not let coordinators see its checks" in hidden.stderr
    assert meadow.end("open", signal.SIGTERM) == 0


def test_board_that_was_revoked_and_expelled_says_so(meadow: RealCoordinator) -> None:
    meadow.enrol("late", 7)
    meadow.start("late")
    meadow.wait_for_version("late", 1)
    name = meadow.status("late")["device"]

    meadow.do("coordinator", "revoke", name, "--home", meadow.home("coordinator"))

    def condition() -> str:
        return str(meadow.status("late").get("condition"))

    meadow.wait("being revoked", lambda: condition().startswith("revoked"))
    assert meadow.status("late")["refused"]["reason"] == "not_enrolled"
    assert "revoked at height" in meadow.status("late")["refused"]["detail"]
    assert meadow.end("late", signal.SIGTERM) == 0

    # The broker lets it say nothing more, and it still hears why.
    (meadow.home("late") / "status.json").unlink()
    meadow.start("late")
    meadow.wait("being told again", lambda: condition().startswith("revoked"))
    assert meadow.end("late", signal.SIGTERM) == 0

    # Nor does it matter that a broker which was started anew has forgotten it.
    (meadow.home("late") / "status.json").unlink()
    meadow.end("broker", signal.SIGTERM)
    meadow.start("broker")
    meadow.start("late")
    meadow.wait("being told by another", lambda: condition().startswith("revoked"))
    assert meadow.end("late", signal.SIGTERM) == 0


def test_home_put_back_from_an_older_copy_finds_its_way_back(
    meadow: RealCoordinator,
) -> None:
    def is_heard() -> bool:
        return bool(meadow.status("old").get("outcomes"))

    meadow.enrol("old", 8)
    home, copy = meadow.home("old"), meadow.home("old.copy")
    shutil.copytree(home, copy)
    meadow.start("old")
    meadow.wait("an update", is_heard)
    meadow.end("old", signal.SIGKILL)
    shutil.rmtree(home)
    copy.rename(home)

    meadow.start("old")

    meadow.wait("an update", is_heard)
    log = (meadow.folder / "old.log").read_text()
    assert "the count of starts leaps" in log
    assert not meadow.status("old")["condition"].startswith("counters behind")
    assert meadow.end("old", signal.SIGTERM) == 0


def test_boards_change_over_to_a_later_task_without_a_hand_on_them(
    meadow: RealCoordinator,
) -> None:
    meadow.wait_for_version("board0", 1)
    names = ("board0", "board1")
    pids = [meadow.running[name].pid for name in names]

    meadow.do(
        *("coordinator", "publish", "--home", meadow.home("coordinator")),
        *("--bundle", meadow.home("bundle"), "--task", meadow.home("task.toml")),
    )

    def learns(name: str) -> bool:
        found = meadow.status(name)
        return found.get("task") == 1 and (found.get("version") or 0) >= 1

    meadow.wait("the later task", lambda: all(map(learns, names)))
    assert [meadow.running[name].pid for name in names] == pids
    assert all(meadow.running[name].poll() is None for name in names)
