"""A board's home is put back, emptied, damaged and copied, with real processes."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from starling.agent.runtime.privacy_ledger.dataset_claim import FILE
from starling.protocol.ids import ChainId
from tests.e2e.agent.test_agent_process import RealCoordinator, releases
from tests.e2e.deadline import DEADLINE_S
from tests.e2e.required_mosquitto import require_mosquitto

pytestmark = pytest.mark.e2e

CAP = "8.0"
PLANNED = 6
TASK = f"""
name = "meadow"
buffer = 1
leases = 2
pledge_least = 16
pledge_most = 64
patience = 1
patience_s = 1
[privacy]
releases = {PLANNED}
epsilon = {CAP}
"""
BOARD = "board0"


@pytest.fixture
def meadow(tmp_path: Path) -> Iterator[RealCoordinator]:
    """A fleet of one board whose owner allows a few releases; broker and all run."""
    require_mosquitto()
    found = RealCoordinator(tmp_path)
    found.task = TASK
    found.found(1)
    settings = found.home(BOARD) / "agent.toml"
    text = settings.read_text().replace("epsilon = 100.0", f"epsilon = {CAP}")
    settings.write_text(text)
    for name in ("broker", "coordinator", BOARD):
        found.start(name)
    yield found
    found.stop()


def spend(meadow: RealCoordinator) -> None:
    """Lets the board work until its budget is spent, and stops it."""
    meadow.wait(
        "a spent budget",
        lambda: meadow.status(BOARD).get("condition") == "budget spent",
    )
    meadow.end(BOARD, signal.SIGTERM)


def on_the_chain(meadow: RealCoordinator) -> dict[str, float]:
    (device,) = meadow.status("coordinator")["devices"]
    return {key: device[key] for key in ("updates_accepted", "epsilon")}


def refused(meadow: RealCoordinator, name: str) -> str:
    """What an agent says that does not start, for its service manager not to."""
    command = [sys.executable, "-m", "starling", "agent", "run", "--home"]
    done = subprocess.run(
        [*command, str(meadow.home(name))],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 78, done.stderr
    return done.stderr


def test_old_backup_of_a_home_spends_no_budget_twice(meadow: RealCoordinator) -> None:
    home, backup = meadow.home(BOARD), meadow.folder / "backup"
    meadow.wait_for_version(BOARD, 2)
    meadow.end(BOARD, signal.SIGTERM)
    shutil.copytree(home, backup)
    meadow.start(BOARD)
    spend(meadow)
    meadow.wait(
        "all of it on the chain",
        lambda: on_the_chain(meadow)["updates_accepted"] == PLANNED,
    )

    for _ in range(2):
        shutil.rmtree(home)
        shutil.copytree(backup, home)
        status = meadow.home(BOARD) / "status.json"
        status.unlink()
        meadow.start(BOARD)
        spend(meadow)

        found = meadow.status(BOARD)
        assert found["privacy"]["proven_elsewhere"] > 0
        assert found["privacy"]["epsilon"] <= float(CAP)
        assert releases(home).releases(_chain(home)) >= PLANNED
    assert on_the_chain(meadow)["updates_accepted"] == PLANNED
    assert on_the_chain(meadow)["epsilon"] <= float(CAP)
    assert "behind the chain" in (meadow.folder / f"{BOARD}.log").read_text()


def test_home_put_back_with_room_left_goes_on_with_what_is_left(
    meadow: RealCoordinator,
) -> None:
    home, backup = meadow.home(BOARD), meadow.folder / "backup"
    meadow.wait_for_version(BOARD, 1)
    meadow.end(BOARD, signal.SIGTERM)
    shutil.copytree(home, backup)
    meadow.start(BOARD)
    meadow.wait_for_version(BOARD, 3)
    meadow.end(BOARD, signal.SIGKILL)
    before = meadow.version("coordinator")

    shutil.rmtree(home)
    shutil.copytree(backup, home)
    (home / "status.json").unlink()
    meadow.start(BOARD)
    spend(meadow)

    found = on_the_chain(meadow)
    assert before <= found["updates_accepted"] <= PLANNED
    assert found["epsilon"] <= float(CAP)


def test_ledger_that_is_damaged_emptied_or_another_s_keeps_the_agent_from_starting(
    meadow: RealCoordinator,
) -> None:
    meadow.wait_for_version(BOARD, 2)
    meadow.end(BOARD, signal.SIGTERM)
    journal = meadow.home(BOARD) / "state" / "privacy.journal"
    content = journal.read_bytes()

    flipped = bytearray(content)
    flipped[-3] ^= 4
    journal.write_bytes(flipped)
    assert str(journal) in refused(meadow, BOARD)
    journal.write_bytes(b"")
    assert "lost entries" in refused(meadow, BOARD)
    journal.write_bytes(content)

    meadow.enrol("second", 5)
    data = meadow.home("second") / "data"
    shutil.copy(meadow.home(BOARD) / "data" / FILE, data / FILE)
    assert "--take-data" in refused(meadow, "second")
    second = meadow.home("second")
    meadow.do("agent", "recount", "--home", second, "--take-data")
    assert releases(second).units == releases(meadow.home(BOARD)).units
    # The first board keeps its own folder, and its ledger pays for nothing any more.
    assert releases(meadow.home(BOARD)).spent


def _chain(home: Path) -> ChainId:
    return next(iter(releases(home).charges))[0]
