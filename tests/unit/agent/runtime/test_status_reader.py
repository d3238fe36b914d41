"""The status as it is seen from outside: fresh or old, running, hung or ended."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from starling import __main__ as starling
from starling.agent.runtime import status_reader
from starling.agent.runtime.checks.status_checks import status_checks
from starling.agent.runtime.status_file import (
    GROUP_MODE,
    HEARTBEAT_S,
    StatusPublisher,
    runtime_folder,
)
from starling.agent.runtime.status_reader import (
    HUNG_S,
    is_well,
    read_shared,
    read_status,
    readable,
)
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.broker.runtime.certificate_authority import CertificateAuthority
from starling.durable.locks import lock
from starling.protocol.chain.enrolment import Admission, request_from_json
from starling.protocol.errors import EXIT_CONFIG, EXIT_DONE, EXIT_FAILED, ConfigError
from starling.protocol.ids import device_name
from tests.unit.agent.runtime.lock_holder import halt, lock_holder
from tests.vectors.protocol_samples import GENESIS

SHOWN: dict[str, Any] = {
    "device": "board",
    "pid": os.getpid(),
    "condition": "waits for a lease",
    "next_action": "",
    "connected": True,
    "last_update": None,
}
NOWHERE = Path("/nonexistent/status.json")


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory: pytest.TempPathFactory) -> AgentHome:
    """A home with keys and an admission."""
    folder = tmp_path_factory.mktemp("board")
    home = AgentHome(folder / "home")
    home.begin({})
    request = request_from_json(home.write_request().read_bytes())
    authority = CertificateAuthority.create(
        folder / "ca.key", folder / "ca.pem", "test"
    )
    name = device_name(request.device)
    certificate = authority.issue(name, request.tls_public_key).decode()
    pem = (folder / "ca.pem").read_text()
    made = Admission(request.device, GENESIS, "127.0.0.1", 1, pem, certificate)
    (folder / "admission.json").write_text(made.to_json())
    home.accept(folder / "admission.json", replace=False)
    return home


@pytest.fixture
def home(enrolled: AgentHome) -> AgentHome:
    """The same, as if it had never run."""
    for file in (enrolled.status_file, enrolled.ended_file, enrolled.state / "lock"):
        file.unlink(missing_ok=True)
    return enrolled


def publish(
    home: AgentHome, folder: Path | None = None, **changes: object
) -> StatusPublisher:
    publisher = StatusPublisher(home, folder)
    publisher.write({**SHOWN, **changes}, changed=True)
    return publisher


def make_older(path: Path, seconds: float) -> None:
    status = path.stat()
    os.utime(path, (status.st_atime, status.st_mtime - seconds))


def test_board_at_work_is_well(home: AgentHome) -> None:
    publish(home)

    with lock(home.state / "lock"):
        document = read_status(home, NOWHERE)

    assert (document["running"], document["hung"]) == (True, False)
    assert is_well(document)
    assert document["as_of"].endswith("Z")
    assert document["age_s"] < HUNG_S


@pytest.mark.parametrize(
    ("condition", "action"),
    [("broker away", "starling agent check"), ("budget spent", "epsilon")],
)
def test_board_that_needs_somebody_is_not_well(
    home: AgentHome, condition: str, action: str
) -> None:
    publish(home, condition=condition)

    with lock(home.state / "lock"):
        document = read_status(home, NOWHERE)

    assert action in document["next_action"]
    assert not is_well(document)


def test_board_that_does_not_run_says_how_to_start_it_and_why_it_ended(
    home: AgentHome,
) -> None:
    publish(home)
    home.ended_file.write_text("2026-01-02T03:04:05Z spool: Read-only file system\n")

    document = read_status(home, NOWHERE)

    assert (document["condition"], document["running"]) == ("not running", False)
    assert document["ended"] == "2026-01-02T03:04:05Z spool: Read-only file system"
    assert "starling agent run" in document["next_action"]
    assert "ended              2026-01-02" in readable(document)
    assert document["next_action"].startswith("mend what `ended` says; then run: ")


@pytest.mark.parametrize(
    "odd",
    [
        {"condition": 5},
        {"heartbeat_s": "x"},
        {"privacy": 7},
        {"coordinators": "x"},
        {"coordinators": {"online": 1}},
        {"spool": [1]},
        {"spool": [{}]},
        {"pid": "1/../1"},
    ],
    ids=str,
)
def test_status_of_another_release_is_as_good_as_none(
    home: AgentHome, odd: dict[str, Any]
) -> None:
    home.status_file.write_text(json.dumps({**SHOWN, **odd}))

    document = read_status(home, NOWHERE)

    assert document["condition"] == "not running"
    assert readable(document)
    assert list(status_checks(document, 0.0))
    assert not is_well(document)


def test_lock_that_names_somebody_elses_process_is_not_running(home: AgentHome) -> None:
    publish(home)
    (home.state / "lock").write_text("1\n")

    assert read_status(home, NOWHERE)["running"] is False


@pytest.mark.parametrize(
    ("in_memory", "age_s", "hung"),
    [(True, 0.0, False), (True, HUNG_S + 5, True), (False, HUNG_S + 5, False)],
    ids=["fresh", "old", "old, but nothing is written while idle"],
)
def test_silence_tells_of_a_hung_agent_only_where_it_writes_all_the_time(
    home: AgentHome, tmp_path: Path, in_memory: bool, age_s: float, hung: bool
) -> None:
    publish(home, tmp_path if in_memory else None)
    shared = tmp_path / "status.json"
    for file in filter(Path.exists, (shared, home.status_file)):
        make_older(file, age_s)

    with lock(home.state / "lock"):
        document = read_status(home, shared)

    assert document["hung"] is hung
    assert ("systemctl restart" in document["next_action"]) is hung
    assert is_well(document) is not hung
    assert document["age_s"] >= age_s


def test_halted_agent_is_hung_at_once(home: AgentHome) -> None:
    publish(home)
    with lock_holder(home) as child:
        halt(child)
        document = read_status(home, NOWHERE)

    assert (document["running"], document["hung"]) == (True, True)
    assert document["next_action"] == f"run: kill -CONT {child.pid}"


def test_heartbeat_leaves_the_home_alone(home: AgentHome, tmp_path: Path) -> None:
    publisher = publish(home, tmp_path)
    before = home.status_file.stat().st_mtime_ns

    publisher.write({**SHOWN, "condition": "training"}, changed=False)

    assert home.status_file.stat().st_mtime_ns == before
    assert json.loads((tmp_path / "status.json").read_text())["condition"] == "training"
    assert publisher.heartbeat_s == HEARTBEAT_S < HUNG_S
    assert StatusPublisher(home, None).heartbeat_s == float("inf")


def test_file_in_memory_is_the_groups_to_read_and_the_homes_is_not(
    home: AgentHome, tmp_path: Path
) -> None:
    publish(home, tmp_path)

    assert (tmp_path / "status.json").stat().st_mode & 0o777 == GROUP_MODE == 0o640
    assert home.status_file.stat().st_mode & 0o777 == 0o600


def test_newer_file_counts_and_another_boards_does_not(
    home: AgentHome, tmp_path: Path
) -> None:
    publish(home, condition="training")
    make_older(home.status_file, 5)
    shared = tmp_path / "status.json"
    ours = {**SHOWN, "condition": "sending an update", "home": str(home.path)}

    shared.write_text(json.dumps({**ours, "home": "/another"}))
    with lock(home.state / "lock"):
        other = read_status(home, shared)
        shared.write_text(json.dumps(ours))
        own = read_status(home, shared)

    assert other["condition"] == "training"
    assert own["condition"] == "sending an update"


def test_last_update_outlives_a_start(home: AgentHome) -> None:
    accepted = {"version": 3, "accepted": "2026-01-02T03:04:05Z"}
    publish(home, last_update=accepted)

    publish(home)

    assert read_status(home, NOWHERE)["last_update"] == accepted


def test_full_disk_loses_the_status_and_not_the_agent(
    home: AgentHome, tmp_path: Path
) -> None:
    StatusPublisher(home, tmp_path / "gone").write(SHOWN, changed=True)

    assert read_status(home, NOWHERE)["device"] == "board"


def test_group_sees_the_service_without_its_home(tmp_path: Path) -> None:
    shared = tmp_path / "status.json"
    shared.write_text(json.dumps(SHOWN))

    document = read_shared(shared)

    assert (document["running"], document["hung"]) == (True, False)
    assert is_well(document)
    make_older(shared, HUNG_S + 5)
    assert read_shared(shared)["hung"] is True
    shared.write_text(json.dumps({**SHOWN, "pid": 1 << 30}))
    assert read_shared(shared)["condition"] == "not running"


def test_group_sees_at_once_that_the_service_is_halted(
    home: AgentHome, tmp_path: Path
) -> None:
    shared = tmp_path / "status.json"
    with lock_holder(home) as child:
        shared.write_text(json.dumps({**SHOWN, "pid": child.pid}))
        assert read_shared(shared)["hung"] is False
        halt(child)

        document = read_shared(shared)

    assert (document["running"], document["hung"]) == (True, True)
    assert document["next_action"] == f"run: kill -CONT {child.pid}"


def test_service_that_is_not_there_asks_for_a_home() -> None:
    with pytest.raises(ConfigError, match="--home"):
        read_shared(NOWHERE)


@pytest.mark.parametrize(
    ("given", "folder"),
    [({}, None), ({"RUNTIME_DIRECTORY": "/run/a:/run/b"}, Path("/run/a"))],
)
def test_folder_in_memory_is_the_first_that_systemd_names(
    given: dict[str, str], folder: Path | None
) -> None:
    assert runtime_folder(given) == folder


def test_quiet_status_is_the_exit_status_alone(
    home: AgentHome, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_reader.read_status, "__defaults__", (NOWHERE,))
    words = ["agent", "status", "--quiet", "--home", str(home.path)]
    publish(home)

    with lock(home.state / "lock"):
        runs = starling.main(words)
    ended = starling.main(words)

    assert (runs, ended) == (EXIT_DONE, EXIT_FAILED)
    assert capsys.readouterr().out == ""
    missing = starling.main([*words[:-1], str(home.path / "none")])
    assert missing == EXIT_CONFIG
