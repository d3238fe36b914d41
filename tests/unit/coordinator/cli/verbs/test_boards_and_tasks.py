"""`admit`, `revoke` and `publish` as an operator uses them."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.harness.synthetic_chain import of_nobody, write
from starling import __main__ as starling
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.broker.broker_settings import BrokerSettings
from starling.broker.runtime.broker_home import BrokerHome
from starling.coordinator.chain.state.board_records import BOARDS, KEY_OWNERS
from starling.coordinator.runtime.enrolment.newcomers import NEWCOMERS
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.operations import board_admission, task_publication
from starling.coordinator.runtime.setup.genesis_setup import (
    GenesisOptions,
    found,
    identify,
)
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.protocol.chain.board_statement import BoardRecord
from starling.protocol.chain.enrolment import admission_from_json, request_enrolment
from starling.protocol.chain.light_client import pin
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.errors import (
    EXIT_CONFIG,
    EXIT_DONE,
    EXIT_FAILED,
    ConfigError,
    OperationError,
)
from starling.protocol.ids import DeviceId, device_id, device_name
from starling.protocol.wire.enrolment_messages import EnrolmentKind


def coordinator(*words: str | Path) -> int:
    return starling.main(["coordinator", *map(str, words)])


def fleet(folder: Path, settings: BrokerSettings, **asked: str) -> CoordinatorHome:
    """A broker and a coordinator that never ran."""
    broker = BrokerHome(folder / "broker")
    try:
        broker.prepare(settings)
    except ConfigError as error:
        pytest.skip(str(error))
    home = CoordinatorHome(folder / "coordinator")
    host, own = asked.get("host", ""), asked.get("broker_host", "")
    found(
        home,
        GenesisOptions("meadow", broker.path, host, 0, 10, broker_host=own),
    )
    return home


def request(folder: Path) -> Path:
    board = AgentHome(folder / "board")
    board.begin({})
    return board.write_request()


@pytest.mark.parametrize(
    ("settings", "asked", "told"),
    [
        (
            BrokerSettings("meadow", hosts=("b.example.org", "b2")),
            "",
            "b.example.org",
        ),
        (BrokerSettings("meadow", hosts=("b.example.org",)), "c.org", "c.org"),
        (BrokerSettings("meadow", "192.0.2.7"), "", "192.0.2.7"),
        (BrokerSettings("meadow", "127.0.0.1"), "", "127.0.0.1"),
        (BrokerSettings("meadow", hosts=("localhost",)), "", "localhost"),
        (BrokerSettings("meadow"), "127.0.0.1", "127.0.0.1"),
    ],
    ids=["first-host", "flag", "bound", "one-machine", "asked-so", "flag-says-so"],
)
def test_admission_tells_boards_where_the_broker_is_and_so_does_the_command(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    settings: BrokerSettings,
    asked: str,
    told: str,
) -> None:
    home = fleet(tmp_path, settings, host=asked)
    out = tmp_path / "admission.json"

    words = ("admit", request(tmp_path), "--out", out, "--home", home.path)
    assert coordinator(*words) == EXIT_DONE

    assert json.loads(out.read_text())["broker_host"] == told
    assert f"connects to {told}:8883" in capsys.readouterr().out


def rotated(home: CoordinatorHome, first: SigningKey, present: SigningKey) -> None:
    """A stored chain in which a board has changed its key."""
    record = BoardRecord(present.public, DeviceId(bytes(16)), 1, 0, 0, 0, 1)
    rows = [
        (BOARDS.key(first.identity), BOARDS.codec.pack(record)),
        (KEY_OWNERS.key(present.public), bytes(first.identity)),
    ]
    write(home.state / CHAIN_FILE, of_nobody(1), 3).close()
    with closing(sqlite3.connect(home.state / CHAIN_FILE)) as connection:
        connection.executemany("INSERT INTO state VALUES (?, ?)", rows)
        connection.commit()


def test_board_that_rotated_enrols_again_by_its_present_key_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The stored blocks are of another chain; only the records of the board count here.
    monkeypatch.setattr(board_admission, "checkpoint", lambda _, genesis: pin(genesis))
    home = fleet(tmp_path, BrokerSettings("meadow", hosts=("b.example.org",)))
    board = AgentHome(tmp_path / "board")
    board.begin({})
    before = board.write_request().read_bytes()
    first, present = board.signing_key(), SigningKey(b"\x07" * 32)
    rotated(home, first, present)
    asked, out = tmp_path / "asked.json", tmp_path / "admission.json"
    words = ("admit", asked, "--out", out, "--home", home.path)

    asked.write_bytes(before)
    assert coordinator(*words) == EXIT_FAILED
    assert "it gave up the key of this request" in capsys.readouterr().err
    assert not out.exists()
    assert list(home.inbox.iterdir()) == []

    asked.write_text(
        request_enrolment(present, board.tls_public_file.read_bytes()).to_json()
    )
    assert coordinator(*words) == EXIT_DONE
    found = admission_from_json(out.read_text())
    assert found.device == first.identity
    board.take(out.read_bytes(), out, replace=False)


def test_admission_that_leads_each_board_to_itself_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = fleet(tmp_path, BrokerSettings("meadow"))
    out = tmp_path / "admission.json"

    words = ("admit", request(tmp_path), "--out", out, "--home", home.path)
    assert coordinator(*words) == EXIT_CONFIG

    said = capsys.readouterr().err
    assert "a board elsewhere cannot reach 127.0.0.1" in said
    assert "starling broker init" in said
    assert not out.exists()
    assert list(home.inbox.iterdir()) == []


def test_coordinator_that_the_broker_expelled_is_told_so(tmp_path: Path) -> None:
    home = fleet(tmp_path, BrokerSettings("meadow", hosts=("b.example.org",)))
    newcomer = identify(CoordinatorHome(tmp_path / "south"), "south")
    name = device_name(device_id(newcomer.public))
    BrokerHome(tmp_path / "broker").expel(name)
    document = newcomer.to_json().encode()

    with pytest.raises(OperationError, match=f"init --coordinator {name}") as caught:
        NEWCOMERS[EnrolmentKind.COORDINATOR].admit(home, document)

    assert f"{name} was expelled from the broker" in str(caught.value)
    assert list(home.inbox.iterdir()) == []


def test_host_that_is_named_later_counts_without_touching_the_coordinator(
    tmp_path: Path,
) -> None:
    home = fleet(tmp_path, BrokerSettings("meadow"))
    named = BrokerSettings("meadow", hosts=("b.example.org",))
    BrokerHome(tmp_path / "broker").prepare(named)
    out = tmp_path / "admission.json"

    words = ("admit", request(tmp_path), "--out", out, "--home", home.path)
    assert coordinator(*words) == EXIT_DONE
    assert json.loads(out.read_text())["broker_host"] == "b.example.org"


def test_coordinator_elsewhere_reaches_the_broker_by_its_own_name(
    tmp_path: Path,
) -> None:
    home = fleet(tmp_path, BrokerSettings("meadow"), broker_host="inner.example.org")

    assert home.config().broker.host == "inner.example.org"


@pytest.mark.parametrize(
    ("buffer", "boards", "force", "said"),
    [
        (10, 10, False, ""),
        (1, 1, False, ""),
        (10, 0, False, "0 boards are admitted yet"),
        (10, 5, False, "waits until the task's patience is over"),
        (10, 4, True, "waits until the task's patience is over"),
    ],
)
def test_task_is_compared_with_the_boards_there_are(
    buffer: int, boards: int, force: bool, said: str
) -> None:
    found = task_publication.compared(buffer, boards, force=force)

    assert (said in found) if said else not found


@pytest.mark.parametrize(("boards", "instead"), [(1, 1), (2, 1), (4, 2)])
def test_task_that_would_wait_for_ever_is_refused(boards: int, instead: int) -> None:
    with pytest.raises(ConfigError, match=f"take buffer = {instead}, admit boards"):
        task_publication.compared(10, boards, force=False)


def test_task_of_which_no_loss_is_known_cannot_be_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = fleet(tmp_path, BrokerSettings("meadow"))

    assert coordinator("resume-task", "0", "--home", home.path) == EXIT_FAILED

    said = capsys.readouterr().err
    assert "no quorum stated a held-out loss of task 0 yet" in said
    assert list(home.inbox.iterdir()) == []
