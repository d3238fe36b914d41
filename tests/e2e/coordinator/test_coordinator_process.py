"""A coordinator as a process: killed, cut off, commanded, checked."""

import json
import random
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from starling.agent.runtime.storage.agent_home import AgentHome
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.protocol.errors import EXIT_CONFIG
from starling.protocol.ids import device_name
from starling.protocol.wire.envelope import ENVELOPE, MessageKind
from tests.e2e.conftest import Broker
from tests.e2e.coordinator.scripted_board import (
    FLEET,
    TASK,
    Coordinator,
    ScriptedBoard,
    checked,
    done,
    starling,
    until,
    values,
)
from tests.e2e.deadline import DEADLINE_S
from tests.unit.coordinator.fixtures.line_task import write_line

pytestmark = pytest.mark.e2e


@pytest.fixture
def founded(broker: Broker, tmp_path: Path) -> Coordinator:
    home = tmp_path / "coordinator"
    done(
        *("coordinator", "init", "--home", home, "--fleet", FLEET),
        *("--broker", broker.home.path, "--heartbeat", "1"),
    )
    return Coordinator(home, broker.home)


@pytest.fixture
def coordinator(
    founded: Coordinator, broker: Broker, tmp_path: Path
) -> Iterator[Coordinator]:
    home = founded.home
    broker.process.stop()
    broker.process.start()
    bundle = tmp_path / "bundle"
    write_line(bundle)
    (tmp_path / "task.toml").write_text(TASK)
    done(
        *("coordinator", "publish", "--home", home, "--bundle", bundle),
        *("--task", tmp_path / "task.toml"),
    )
    yield founded
    founded.end(signal.SIGKILL)


@pytest.fixture
def idle(founded: Coordinator, broker: Broker) -> Iterator[Coordinator]:
    """One that the broker knows, without a task."""
    broker.process.stop()
    broker.process.start()
    yield founded
    founded.end(signal.SIGKILL)


@pytest.fixture
def boards(coordinator: Coordinator) -> Iterator[list[ScriptedBoard]]:
    made = [ScriptedBoard(number, coordinator) for number in (1, 2)]
    coordinator.start()
    for board in made:
        board.link.link.start()
    yield made
    for board in made:
        board.link.link.stop(1.0)


def chain_updates(coordinator: Coordinator) -> list[bytes]:
    """Ids of all UPDATE transactions of the chain, in order."""
    store = SqliteStore.read(coordinator.home / "state" / CHAIN_FILE)
    found: list[bytes] = []
    for height in range(1, store.height() + 1):
        stored = store.block(height)
        assert stored is not None
        for packed in stored.block.transactions:
            envelope = ENVELOPE.unpack(packed)
            if envelope.kind == MessageKind.UPDATE:
                found.append(envelope.identity(store.genesis.chain_id()))
    store.close()
    return found


def test_coordinator_killed_after_its_receipt_has_lost_nothing(
    coordinator: Coordinator, boards: list[ScriptedBoard]
) -> None:
    boards[0].await_version(0)
    first = boards[0].make(boards[0].lease(0), values(16.0))
    boards[0].send(first)
    boards[0].await_receipt(first)

    coordinator.end(signal.SIGKILL)
    coordinator.start()
    boards[1].await_version(0)
    second = boards[1].make(boards[1].lease(0), values(48.0))
    boards[1].send(second)
    boards[1].await_final(second)
    manifest = boards[1].await_version(1)

    assert manifest.version == 1
    assert coordinator.end(signal.SIGTERM) == 0
    expected = {boards[0].identity(first), boards[1].identity(second)}
    assert set(chain_updates(coordinator)) == expected
    assert len(chain_updates(coordinator)) == 2
    assert coordinator.status()["state"] == "stopped"


def test_coordinator_killed_again_and_again_applies_each_update_once(
    coordinator: Coordinator, boards: list[ScriptedBoard]
) -> None:
    rng = random.Random(7)
    sent = []
    for version in range(4):
        uploads = []
        for board in boards:
            board.await_version(version)
            upload = board.make(board.lease(version), values(1.0))
            uploads.append((board, upload))
            board.send(upload)
        # The moment is drawn: before, within or after the blocks that follow.
        time.sleep(rng.random() * 0.05)
        coordinator.end(signal.SIGKILL)
        coordinator.start()
        for board, upload in uploads:
            board.deliver(upload)
            sent.append(board.identity(upload))
    boards[0].await_version(4)

    assert coordinator.end(signal.SIGTERM) == 0
    assert sorted(chain_updates(coordinator)) == sorted(sent)


def test_broker_killed_the_fleet_goes_on_when_it_is_back(
    coordinator: Coordinator, boards: list[ScriptedBoard], broker: Broker
) -> None:
    for board in boards:
        board.await_version(0)
    uploads = [(board, board.make(board.lease(0), values(1.0))) for board in boards]

    broker.process.kill()
    broker.process.start()
    for board, upload in uploads:
        board.deliver(upload)

    assert boards[0].await_version(1).version == 1
    assert coordinator.end(signal.SIGTERM) == 0


def test_inbox_garbage_is_cleared_away_and_stops_nobody(
    coordinator: Coordinator, boards: list[ScriptedBoard]
) -> None:
    inbox = coordinator.home / "inbox"
    (inbox / "long.tx").write_bytes(bytes(10**5))
    (inbox / "odd.tx").write_bytes(b"odd")
    (inbox / "folder.tx").mkdir()
    (inbox / "some.blob").write_bytes(b"any bytes")

    boards[0].await_version(0)
    upload = boards[0].make(boards[0].lease(0), values(1.0))
    boards[0].send(upload)
    boards[0].await_final(upload)

    left = {entry.name for entry in inbox.iterdir()}
    # Whoever dropped a transaction finds there why it was refused.
    assert left == {"folder.tx", "long.refused", "odd.refused"}
    assert coordinator.end(signal.SIGTERM) == 0


def test_admit_and_revoke_say_what_the_chain_decided(
    idle: Coordinator, tmp_path: Path
) -> None:
    idle.start()
    until(lambda: (idle.home / "status.json").exists(), "a status")
    board = AgentHome(tmp_path / "board")
    board.begin({})
    name, place = device_name(board.identity()), ("--home", idle.home)
    out = ("--out", tmp_path / "a.json")
    admit = ("coordinator", "admit", board.write_request(), *out, *place)

    unknown = starling("coordinator", "revoke", name, *place)
    first, again = done(*admit), done(*admit)
    revoked = done("coordinator", "revoke", name, *place)
    revoked_again = done("coordinator", "revoke", name, *place)
    late = starling(*admit)

    assert unknown.returncode == 1
    assert f"not revoked: the chain knows no board {name}" in unknown.stderr
    assert re.search(f"^admitted {name} at height [0-9]+\n", first)
    assert f"{name} was admitted before, at height" in again
    assert re.search(f"^revoked {name} at height [0-9]+\n", revoked)
    assert f"{name} was revoked before" in revoked_again
    assert late.returncode == 1
    assert "the board was revoked (NOT_AUTHORISED). It comes back with" in late.stderr


def test_broker_check_counts_nothing_at_the_coordinator(
    idle: Coordinator, broker: Broker
) -> None:
    idle.start()
    until(lambda: connected(idle), "a connection")

    checked = starling("broker", "check", "--home", broker.home.path, "--json")

    verdicts = {
        row["name"]: row["verdict"] for row in json.loads(checked.stdout)["checks"]
    }
    assert verdicts["mqtt.coordinator-present"] == "ok"
    written = idle.status()["now_ms"]
    until(lambda: idle.status()["now_ms"] != written, "a later status")
    assert idle.status()["updates"] == {"accepted": 0, "refused": {}, "passing": {}}


def connected(coordinator: Coordinator) -> bool:
    if not (coordinator.home / "status.json").exists():
        return False
    return coordinator.status()["broker"] == "connected"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("port = ", "prot = ", "did you mean 'port'"),
        (
            "duration_s = 600",
            "duration_s = 1",
            "leases.duration_s: 1 is not at least 5",
        ),
        ('data = ""', 'data = "nothing.npz"', "nothing.npz: evaluation.data"),
    ],
    ids=["unknown key", "out of bounds", "missing data"],
)
def test_coordinator_misconfigured_says_file_key_and_bound(
    founded: Coordinator, old: str, new: str, said: str
) -> None:
    file = founded.home / "coordinator.toml"
    file.write_text(file.read_text().replace(old, new, 1))

    result = starling("coordinator", "run", "--home", founded.home)

    assert result.returncode == EXIT_CONFIG
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_coordinator_key_readable_by_others_does_not_start(
    founded: Coordinator,
) -> None:
    (founded.home / "keys" / "signing").chmod(0o644)

    result = starling("coordinator", "run", "--home", founded.home)

    assert result.returncode == EXIT_CONFIG
    assert "chmod 600" in result.stderr


def test_check_is_well_while_it_runs_and_names_what_is_missing_after(
    idle: Coordinator,
) -> None:
    status, rows = checked(idle.home)
    assert (status, rows["status.fresh"]) == (1, "fail")

    idle.start()
    deadline_s = time.monotonic() + DEADLINE_S
    while (found := checked(idle.home))[0]:
        assert time.monotonic() < deadline_s, found
    assert found[1]["process.alive"] == "ok"
    assert found[1]["broker.rights"] == "ok"
    (idle.home / "keys" / "signing").chmod(0o644)
    status, rows = checked(idle.home)
    assert (status, rows["keys.signing-private"]) == (1, "fail")
    (idle.home / "keys" / "signing").chmod(0o600)

    idle.end(signal.SIGKILL)
    status, rows = checked(idle.home)
    assert (status, rows["process.alive"]) == (1, "fail")
    shown = starling("coordinator", "check", "--home", idle.home).stdout
    assert "-> run: starling coordinator run" in shown


def test_coordinator_whose_broker_rights_are_taken_says_so(
    idle: Coordinator, broker: Broker
) -> None:
    (broker.home.path / "access").write_text("# nobody may do anything\n")
    broker.process.reload()
    idle.start()
    deadline_s = time.monotonic() + DEADLINE_S
    while (rows := checked(idle.home)[1]).get("broker.rights") != "fail":
        assert time.monotonic() < deadline_s, (rows, idle.log.read_text())
    assert "0x87 not authorised" in idle.log.read_text()
