"""Boards and coordinators join by tokens, as docs/boards.md says."""

import json
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from starling.agent.runtime.storage.agent_home import AgentHome
from starling.broker.broker_settings import BrokerSettings
from starling.broker.runtime.broker_home import BrokerHome
from starling.broker.runtime.mosquitto_process import free_port
from starling.broker.runtime.token_exchange import admission_by_token
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.setup.genesis_setup import GenesisOptions, found
from starling.protocol.errors import EXIT_CONFIG, OperationError
from starling.protocol.ids import device_name
from starling.protocol.wire.enrolment_messages import EnrolmentKind
from tests.e2e.coordinator.enrolment_programs import (
    FLEET,
    HOST,
    Door,
)
from tests.e2e.deadline import DEADLINE_S
from tests.e2e.required_mosquitto import require_mosquitto

pytestmark = pytest.mark.e2e


PAGE = Path(__file__).parents[3] / "docs" / "boards.md"


WAIT_S = 60.0


def starling(*words: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "starling", *map(str, words)],
        capture_output=True,
        text=True,
        input=text,
        check=False,
        timeout=120,
    )


def done(*words: str | Path, text: str = "") -> str:
    result = starling(*words, text=text)
    assert result.returncode == 0, result.stderr
    return result.stdout


@contextmanager
def service(log: Path, *words: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """A command that runs until the block ends."""
    with (
        log.open("ab") as file,
        subprocess.Popen(
            [sys.executable, "-m", "starling", *map(str, words)], stderr=file
        ) as child,
    ):
        try:
            yield child
        finally:
            child.send_signal(signal.SIGTERM)


def until_said(log: Path, text: str) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while text not in (said := log.read_text()):
        assert time.monotonic() < deadline_s, said
        time.sleep(0.05)


def documented() -> list[list[str]]:
    """The three commands with which docs/boards.md has a board enrol."""
    section = PAGE.read_text("utf-8").split("## Enrol\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("    starling ")]
    return [shlex.split(line, comments=True)[1:] for line in lines[:3]]


def test_board_and_coordinator_join_by_tokens_and_no_file_is_carried(
    tmp_path: Path,
) -> None:
    require_mosquitto()
    broker, home, board = (tmp_path / name for name in ("broker", "north", "board"))
    ports = ("--port", str(free_port()), "--enrol-port", str(free_port()))
    done("broker", "init", "--home", broker, "--fleet", FLEET, "--bind", HOST, *ports)
    done("coordinator", "init", "--home", home, "--fleet", FLEET, "--broker", broker)
    logs = {name: tmp_path / f"{name}.log" for name in ("broker", "north", "board")}
    with ExitStack() as stack:
        run = stack.enter_context
        run(service(logs["broker"], "broker", "run", "--home", broker))
        until_said(logs["broker"], "for newcomers")
        run(service(logs["north"], "coordinator", "run", "--home", home))
        until_said(logs["north"], "newcomers are answered")

        token, enrol, training = documented()
        known = {"coordinator": str(home), "board": str(board)}
        line = known["LINE"] = done(*[known.get(word, word) for word in token]).strip()
        said = done(*[known.get(word, word) for word in enrol])
        words = [known.get(word, word) for word in training]
        run(service(logs["board"], *words))

        until_said(logs["board"], "connected")
        assert f"fleet {FLEET}" in said
        second = starling("agent", "enrol", "--home", tmp_path / "b", "--token", line)
        assert (second.returncode, "was used" in second.stderr) == (1, True)

        other = line.replace(f"/{FLEET}/", "/other/")
        third = starling("agent", "enrol", "--home", board, "--token", other)
        assert (third.returncode, "--replace" in third.stderr) == (EXIT_CONFIG, True)

        line = done("enrol", "token", "--coordinator", "--home", home).strip()
        south = tmp_path / "south"
        done("coordinator", "init", "--home", south, "--token", "-", text=line)
        run(service(tmp_path / "s.log", "coordinator", "run", "--home", south))
        until_said(tmp_path / "s.log", "connected to the broker")
        assert not list(south.rglob("authority.key"))

        name = AgentHome(board).signing_key().identity
        shown = json.loads(
            done("coordinator", "enrol", "list", "--home", home, "--json")
        )
        assert {claim["state"] for claim in shown["claims"]} == {"admitted"}
        assert len(shown["claims"]) == 2

        done("coordinator", "revoke", device_name(name), "--home", home)
        settings = BrokerHome(broker).require_settings()
        assert settings.expelled == (device_name(name),)


def test_newcomer_that_goes_on_asking_meets_the_operators_word(door: Door) -> None:
    board = AgentHome(door.home.path.parent / "board")
    board.begin({})
    request = board.write_request().read_bytes()

    def reject(code: str) -> None:
        def when_it_waits() -> None:
            deadline_s = time.monotonic() + DEADLINE_S
            while not door.store.claims() and time.monotonic() < deadline_s:
                time.sleep(0.02)
            door.store.decide(code, accepts=False)

        threading.Thread(target=when_it_waits, daemon=True).start()

    with pytest.raises(OperationError, match="rejected"):
        admission_by_token(door.token, EnrolmentKind.BOARD, request, WAIT_S, reject)


def test_token_without_an_enrolment_listener_says_what_to_do(tmp_path: Path) -> None:
    require_mosquitto()
    broker, home = tmp_path / "broker", tmp_path / "north"
    BrokerHome(broker).prepare(BrokerSettings(FLEET, bind=HOST))
    found(CoordinatorHome(home), GenesisOptions(FLEET, broker, "", 0, 10))

    asked = starling("enrol", "token", "--home", home)

    assert asked.returncode == EXIT_CONFIG
    assert "--enrol-port 8884" in asked.stderr
