"""A board as a service on a real systemd: what ends it, and what it is kept from."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from starling.agent.privacy.ledger import PrivacyLedger
from starling.agent.runtime.storage.spool import SUFFIX
from starling.durable.journal import Journal
from starling.protocol.errors import EXIT_CONFIG
from tests.deploy.machines.deployed_fleet import (
    AGENT_UNIT,
    COORDINATOR,
    HOME,
    DeployedFleet,
    agent_status,
    final,
    goes_on,
)
from tests.deploy.machines.nspawn_machine import NspawnMachine

pytestmark = pytest.mark.machine
PROBE = Path(__file__).with_name("sandbox_probe.py")
COORDINATOR_UNIT = "starling-coordinator"


@contextmanager
def edited(board: NspawnMachine, text: str) -> Iterator[None]:
    """Lines below [Service], as `systemctl edit` adds them, for a while."""
    folder = f"/etc/systemd/system/{AGENT_UNIT}.service.d"
    board.run("mkdir", "-p", folder)
    board.run("tee", f"{folder}/test.conf", given=f"[Service]\n{text}\n")
    board.run("systemctl", "daemon-reload")
    try:
        yield
    finally:
        board.run("rm", "-r", folder)
        board.run("systemctl", "daemon-reload")
        board.run("systemctl", "restart", AGENT_UNIT)


def another_process(board: NspawnMachine, unit: str, before: int) -> None:
    """Waits until a unit runs again, as another process."""
    board.wait(
        f"new {unit}",
        lambda: (
            board.shown(unit, "ActiveState") == "active"
            and board.main_pid(unit) not in (0, before)
        ),
    )


def test_three_commands_of_the_readme_make_a_training_board(
    fleet: DeployedFleet, package: Path
) -> None:
    board = fleet.new_board(package)
    said = fleet.enrol(board)

    board.wait("first update", lambda: final(board) == 1)
    fleet.server.wait("update in the chain", lambda: fleet.accepted(board) == 1)
    assert len(said) == 3
    assert "belongs to fleet meadow, broker meadow.example.org:8883" in said[1]
    status = board.run("starling", "agent", "status")
    assert len(status.splitlines()) <= 40
    # What it does, why, and until when.
    for row in ("rests between two updates", "pace.period_days = 30", "until  "):
        assert row in status
    assert board.shown(AGENT_UNIT, "StatusText") == "rests between two updates"
    assert board.journal(AGENT_UNIT, "-p", "err") == ""


def test_check_has_no_fault_on_a_fresh_board(board: NspawnMachine) -> None:
    command = ["sudo", "-u", "starling", "starling", "agent", "check", "--json"]
    rows = json.loads(board.run(*command, "--home", HOME))

    assert [row for row in rows["checks"] if row["verdict"] == "fail"] == []


def test_killed_agent_is_started_again_and_goes_on(training: NspawnMachine) -> None:
    before = training.main_pid(AGENT_UNIT)

    training.signal(before, "KILL")

    another_process(training, AGENT_UNIT, before)
    goes_on(training)
    assert "code=killed, status=9/KILL" in training.journal(AGENT_UNIT)


def test_killed_coordinator_is_started_again_and_the_board_goes_on(
    fleet: DeployedFleet, training: NspawnMachine
) -> None:
    before = fleet.server.main_pid(COORDINATOR_UNIT)

    fleet.server.signal(before, "KILL")

    another_process(fleet.server, COORDINATOR_UNIT, before)
    goes_on(training)


def test_agent_that_hangs_is_seen_and_ended_by_the_watchdog(
    training: NspawnMachine,
) -> None:
    with edited(training, "WatchdogSec=5\nTimeoutAbortSec=1"):
        training.run("systemctl", "restart", AGENT_UNIT)
        goes_on(training)
        before = training.main_pid(AGENT_UNIT)

        training.signal(before, "STOP")
        hung = agent_status(training)["hung"]

        another_process(training, AGENT_UNIT, before)
        goes_on(training)
    assert hung
    assert "Watchdog timeout (limit 5s)!" in training.journal(AGENT_UNIT)


def test_wrong_configuration_is_not_tried_again(training: NspawnMachine) -> None:
    settings = training.root / HOME.lstrip("/") / "agent.toml"
    right = settings.read_text()
    settings.write_text(right.replace("pledge = 600", 'pledge = "many"'))

    training.try_run("systemctl", "restart", AGENT_UNIT)

    shown = {
        name: training.shown(AGENT_UNIT, name)
        for name in ("ActiveState", "ExecMainStatus", "NRestarts")
    }
    said = training.journal(AGENT_UNIT, "-p", "err")
    settings.write_text(right)
    training.run("systemctl", "restart", AGENT_UNIT)
    goes_on(training)
    assert shown == {
        "ActiveState": "failed",
        "ExecMainStatus": str(EXIT_CONFIG),
        "NRestarts": "0",
    }
    assert "agent.toml" in said
    assert "pledge" in said


def test_trainer_beyond_the_units_memory_dies_alone(training: NspawnMachine) -> None:
    training.enforce_limits()
    # An idle agent has 28 MB; a trainer needs at least 60 more.
    with edited(training, "MemoryHigh=infinity\nMemoryMax=48M"):
        training.run("systemctl", "restart", AGENT_UNIT)
        if training.shown(AGENT_UNIT, "MemoryCurrent") == "[not set]":
            pytest.skip("systemd may not limit memory in machines here")
        before = training.main_pid(AGENT_UNIT)
        training.wait("trainer's end", lambda: bool(agent_status(training)["fault"]))

        status = agent_status(training)

        assert training.main_pid(AGENT_UNIT) == before
        assert status["running"]
        assert status["condition"] == "rests after a failed training"
        assert status["until"] is not None
    goes_on(training)


def test_check_says_where_limits_of_memory_are_not_held(
    training: NspawnMachine,
) -> None:
    held = training.shown(AGENT_UNIT, "MemoryCurrent") != "[not set]"
    command = ["sudo", "-u", "starling", "starling", "agent", "check", "--json"]
    rows = json.loads(training.try_run(*command, "--home", HOME).stdout)["checks"]

    (row,) = [row for row in rows if row["name"] == "memory.cgroup"]
    assert row["verdict"] == ("ok" if held else "warn")


def test_service_reaches_nothing_outside_its_home(training: NspawnMachine) -> None:
    training.run("install", "-d", "-m", "0755", "/home/pi")
    probe = f"{HOME}/probe.json"
    training.run("tee", "/usr/local/lib/sandbox_probe.py", given=PROBE.read_text())
    line = f"ExecStartPre=/usr/bin/python3 /usr/local/lib/sandbox_probe.py {probe}"
    with edited(training, line):
        training.run("systemctl", "restart", AGENT_UNIT)
        found = json.loads((training.root / probe.lstrip("/")).read_text())
        training.run("rm", probe)

    assert found == {
        "writes": [HOME],
        "sees": [],
        "no_new_privileges": "1",
        "capabilities": "0000000000000000",
        "uid_0": False,
        "raw_socket": False,
        "netlink_socket": False,
        "mounts": False,
        "maps_writable_code": False,
        "new_namespace": False,
    }


def spooled(home: Path) -> set[str]:
    """Names of updates without a proof."""
    return {path.name for path in home.glob(f"spool/*{SUFFIX}")}


def test_power_cut_in_training_loses_nothing(
    fleet: DeployedFleet, training: NspawnMachine
) -> None:
    home = training.root / HOME.lstrip("/")
    before, accepted = final(training), fleet.accepted(training)
    training.wait("a training", lambda: agent_status(training)["phase"] == "training")

    training.cut_power()
    waiting, paid = spooled(home), len(ledger(home).charges)
    training.boot()
    fleet.connect(training)

    goes_on(training)
    training.wait("what waited", lambda: not waiting & spooled(home))
    assert final(training) > before + len(waiting)
    assert fleet.accepted(training) > accepted + len(waiting)
    training.run("systemctl", "stop", AGENT_UNIT)
    assert len(ledger(home).charges) > paid
    training.run("systemctl", "start", AGENT_UNIT)


def test_power_cut_of_the_server_loses_nothing(
    fleet: DeployedFleet, training: NspawnMachine
) -> None:
    before = fleet.status()

    fleet.server.cut_power()
    fleet.server.boot()
    for board in fleet.boards:
        fleet.connect(board)
    goes_on(training)

    after = fleet.status()
    fleet.server.run("systemctl", "stop", COORDINATOR_UNIT)
    command = ["sudo", "-u", "starling", "starling", "chain", "verify"]
    verified = fleet.server.try_run(*command, "--home", COORDINATOR)
    fleet.server.run("systemctl", "start", COORDINATOR_UNIT)
    assert after["chain"]["height"] > before["chain"]["height"]
    assert verified.returncode == 0, verified.stdout + verified.stderr


def ledger(home: Path) -> PrivacyLedger:
    """The privacy ledger on a board's disk; refuses a version that was paid twice."""
    journal, payloads = Journal.open(home / "state" / "privacy.journal")
    journal.close()
    return PrivacyLedger.load(None, payloads)
