"""Four parties found a chain on two brokers, by one line, and a fleet trains on it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from starling.broker.link_events import (
    Delivered,
    LinkConnected,
    LinkSettings,
    MessageArrived,
    ServerTls,
)
from starling.broker.runtime.enrolment_client import EnrolmentClient
from starling.broker.runtime.mosquitto_process import free_port
from starling.compiler import compile_model, write_bundle
from starling.coordinator.runtime.home import CoordinatorHome
from starling.fleet.reference_models import build_model
from starling.protocol.chain.founding import ENTRY_FORMAT, document
from starling.protocol.chain.founding_messages import FOUNDING_ENTRY
from starling.protocol.errors import EXIT_CONFIG, EXIT_DONE, EXIT_FAILED, OperationError
from starling.protocol.wire.enrolment_messages import EnrolmentKind
from starling.protocol.wire.enrolment_token import token_from_line
from starling.protocol.wire.topics import Topics
from tests.e2e.agent.test_agent_process import TASK
from tests.e2e.conftest import RecordedLink
from tests.e2e.deadline import DEADLINE_S
from tests.e2e.required_mosquitto import require_mosquitto
from tests.vectors import founding_samples as samples

pytestmark = pytest.mark.e2e

FLEET = "meadow"
HOSTS = ("west", "east")
"""Machines with a broker; the first is the founder's."""
MACHINES = (*HOSTS, "third", "fourth")
HALF = "run the same `starling coordinator init` again"


@dataclass
class Machines:
    """Four machines: folders that share nothing, and commands that run in one each.

    Attributes:
      path: Folder of all of them.
      stack: Ends what runs.
      running: Commands by name.
    """

    path: Path
    stack: ExitStack
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def home(self, machine: str) -> CoordinatorHome:
        return CoordinatorHome(self.path / machine / "coordinator")

    def log(self, name: str) -> str:
        return (self.path / f"{name}.log").read_text()

    def out(self, name: str) -> str:
        return (self.path / f"{name}.out").read_text()

    def start(self, name: str, machine: str, *words: str) -> subprocess.Popen[bytes]:
        """Begins a command in a machine's folder."""
        with (
            (self.path / f"{name}.log").open("ab") as log,
            (self.path / f"{name}.out").open("wb") as out,
        ):
            child = subprocess.Popen(
                [sys.executable, "-m", "starling", *words],
                cwd=self.path / machine,
                stdout=out,
                stderr=log,
            )
        self.running[name] = child
        self.stack.callback(child.wait)
        self.stack.callback(child.kill)
        return child

    def done(self, machine: str, *words: str) -> str:
        result = self.tried(machine, *words)
        assert result.returncode == EXIT_DONE, result.stderr
        return result.stdout

    def tried(self, machine: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "starling", *words],
            cwd=self.path / machine,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
        )

    def kill(self, name: str) -> None:
        """Cuts the power."""
        self.running[name].send_signal(signal.SIGKILL)
        self.running[name].wait()

    def until(self, what: str, condition: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + DEADLINE_S
        while not condition():
            logs = {path.name: path.read_text() for path in self.path.glob("*.log")}
            assert time.monotonic() < deadline_s, f"{what}: {logs}"
            time.sleep(0.05)

    def until_said(self, name: str, text: str) -> None:
        self.until(f"{name}: {text}", lambda: text in self.log(name))

    def run_brokers(self) -> None:
        for machine in HOSTS:
            ports = ("--port", str(free_port()), "--enrol-port", str(free_port()))
            place = ("--home", "broker", "--fleet", FLEET, "--bind", "127.0.0.1")
            self.done(machine, "broker", "init", *place, *ports)
            name = f"{machine}-broker"
            self.start(name, machine, "broker", "run", "--home", "broker")
            self.until_said(name, "for newcomers")

    def found(self, *more: str) -> str:
        """Begins the founder's command, and returns the line for the others."""
        self.start("west", "west", *FOUNDER, *more)
        self.until("the token", lambda: self.out("west").endswith("\n"))
        return self.out("west").splitlines()[0]

    def join(self, machine: str, line: str, *words: str) -> None:
        """Begins the command of another party."""
        place = ("--home", "coordinator", "--name", machine, "--token", line)
        self.start(machine, machine, "coordinator", "init", *place, *words)


FOUNDER = (
    *("coordinator", "init", "--home", "coordinator", "--name", "west"),
    *("--fleet", FLEET, "--broker", "broker", "--parties", "4", "--heartbeat", "1"),
)


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    require_mosquitto()
    with ExitStack() as stack:
        made = Machines(tmp_path, stack)
        for machine in MACHINES:
            (tmp_path / machine).mkdir()
        made.run_brokers()
        yield made


def secrets(machines: Machines, machine: str) -> dict[Path, bytes]:
    """What only this machine may know."""
    folders = [machines.path / machine / name for name in ("broker", "coordinator")]
    found = [
        path
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and (path.suffix == ".key" or path.parent.name == "keys")
        if path.suffix not in {".pem", ".machine"}
    ]
    assert len(found) >= 4
    return {path: path.read_bytes() for path in found}


def require_nothing_shared(machines: Machines) -> None:
    """No secret of one machine is on another."""
    for machine in MACHINES:
        known = secrets(machines, machine)
        for other in MACHINES:
            files = list((machines.path / other).rglob("*"))
            contents = [each.read_bytes() for each in files if each.is_file()]
            for path, secret in known.items():
                assert other == machine or not any(
                    secret in content for content in contents
                ), f"{path} is at {other}"


def enrol_board(machines: Machines, host: str, name: str, seed: int) -> None:
    """A board at one of the brokers, by a token of the coordinator there."""
    place = ("--home", "coordinator")
    line = machines.done(host, "enrol", "token", *place).strip()
    board = machines.path / name
    board.mkdir()
    machines.done(name, "agent", "init", "--home", "agent")
    toml = (board / "agent" / "agent.toml").read_text()
    for before, after in (
        ("epsilon = 8.0", "epsilon = 100.0"),
        ("check_in_s = 15.0", "check_in_s = 1.0"),
        ("accept_s = 20.0", "accept_s = 1.0"),
        ("period_days = 30.0", "period_days = 0.0"),
    ):
        toml = toml.replace(before, after)
    (board / "agent" / "agent.toml").write_text(toml)
    machines.done(name, "agent", "enrol", "--home", "agent", "--token", line)
    x = np.random.default_rng(seed).normal(size=(64, 8)).astype(np.float32)
    data = board / "agent" / "data" / "a.npz"
    np.savez(data, x=x, y=x[:, :4].argmax(axis=1))
    machines.start(name, name, "agent", "run", "--home", "agent")


def publish(machines: Machines) -> None:
    rng = np.random.default_rng(1)
    model = build_model("softmax", (8,), 4, rng)
    folder = machines.path / "west"
    write_bundle(compile_model(model, loss="cross-entropy"), folder / "bundle")
    (folder / "task.toml").write_text(TASK)
    words = ("--home", "coordinator", "--bundle", "bundle", "--task", "task.toml")
    machines.done("west", "coordinator", "publish", *words)


def half_founded(machines: Machines, machine: str) -> bool:
    """Whether a coordinator refuses to run, since not all agreed."""
    half = machines.tried(machine, "coordinator", "run", "--home", "coordinator")
    return half.returncode == EXIT_CONFIG and HALF in half.stderr


def found_with_cuts(machines: Machines) -> str:
    """Four parties agree, while the power of three of them goes; returns the line."""
    line = machines.found()
    assert half_founded(machines, "west")
    machines.join("east", line, "--broker", "broker")
    machines.until_said("east", "waits until all parties are in")
    machines.until_said("west", "2 of 4 parties are in: west, east")
    machines.until_said("east", "2 of 4 parties are in: west, east")
    machines.kill("east")
    machines.kill("west")
    assert half_founded(machines, "east")

    assert machines.found() == line
    taken = ("--home", "coordinator", "--name", "west", "--token", line)
    refused = machines.tried("third", "coordinator", "init", *taken)
    assert (refused.returncode, "give --name" in refused.stderr) == (EXIT_FAILED, True)
    machines.join("third", line, "--at", "east")
    machines.until_said("west", "3 of 4 parties are in")
    machines.kill("third")
    machines.join("fourth", line)
    machines.until_said("fourth", "all 4 parties are in")
    machines.kill("west")
    for machine in MACHINES:
        assert half_founded(machines, machine)

    machines.join("east", line, "--broker", "broker")
    machines.join("third", line, "--at", "east")
    assert machines.found() == line
    for machine in MACHINES:
        machines.running[machine].wait(DEADLINE_S)
        assert machines.running[machine].returncode == EXIT_DONE, machines.log(machine)
    return line


def codes(machines: Machines) -> set[str]:
    """What the parties compare by voice."""
    said = [line for each in MACHINES for line in machines.out(each).splitlines()]
    return {line.split()[1] for line in said if line.startswith("code ")}


def test_four_parties_found_a_chain_by_one_line_and_a_fleet_trains(
    machines: Machines,
) -> None:
    line = found_with_cuts(machines)

    assert len(codes(machines)) == 1
    chains = {machines.home(each).genesis().chain_id() for each in MACHINES}
    assert len(chains) == 1
    for machine in MACHINES:
        words = ("coordinator", "run", "--home", "coordinator")
        machines.start(f"{machine}-run", machine, *words)
    for host in HOSTS:
        machines.until_said(f"{host}-run", "newcomers are answered")
    publish(machines)
    fifth = ("coordinator", "init", "--home", "x", "--token", line)
    refused = machines.tried("third", *fifth)
    assert (refused.returncode, "as often as" in refused.stderr) == (EXIT_FAILED, True)
    for number, host in enumerate(HOSTS):
        enrol_board(machines, host, f"board-{host}", number)
    for machine in MACHINES:
        machines.until(f"{machine} learns", partial(learns, machines, machine))
    require_nothing_shared(machines)


def learns(machines: Machines, machine: str) -> bool:
    """Whether a coordinator knows of a second version."""
    words = ("coordinator", "status", "--home", "coordinator", "--json")
    found = machines.tried(machine, *words)
    try:
        tasks = json.loads(found.stdout)["tasks"]
    except (ValueError, KeyError):
        return False
    return any(each["version"] > 1 for task in tasks for each in task["versions"])


def test_strangers_at_the_founders_listener_found_nothing(machines: Machines) -> None:
    line = machines.found()
    token = token_from_line(line)
    guessed = line[:-4] + ("aaaa" if not line.endswith("aaaa") else "bbbb")

    wrong = machines.tried(
        *("third", "coordinator", "init", "--home", "x", "--token", guessed),
        *("--wait", "5"),
    )
    board = machines.tried("third", "agent", "enrol", "--home", "b", "--token", line)
    forged = document(ENTRY_FORMAT, FOUNDING_ENTRY, replace(samples.ENTRY, name="x"))
    thief = Stranger(machines, token.port)
    kind = EnrolmentKind.PARTY
    talk = EnrolmentClient(token, kind, forged, thief.name, os.urandom(32))
    refusal = thief.refused(talk)
    for junk in (b"", b"\xff" * 500, b"\x93" * 18_000, talk.payload[:-1]):
        thief.say(talk.topic, junk)

    assert (wrong.returncode, "refused" in wrong.stderr) == (EXIT_FAILED, True)
    assert (board.returncode, "coordinator init" in board.stderr) == (EXIT_FAILED, True)
    assert "signature" in refusal
    machines.join("east", line)
    machines.until_said("west", "2 of 4 parties are in: west, east")
    assert "3 of 4" not in machines.log("west")


def test_line_that_expired_is_refused_and_the_founder_prints_another(
    machines: Machines,
) -> None:
    first = machines.found("--for", "1s")
    words = ("coordinator", "init", "--home", "x", "--wait", "3", "--token", first)

    def expired() -> bool:
        refused = machines.tried("third", *words)
        return refused.returncode == EXIT_FAILED and "it expired" in refused.stderr

    machines.until("the end of the line's life", expired)
    machines.kill("west")
    second = machines.found()

    assert second != first
    machines.join("east", second)
    machines.until(
        "the party with the second line",
        lambda: bool(re.search(r"parties are in: west,.*\beast", machines.log("west"))),
    )


class Stranger:
    """Somebody at the founder's listener, who knows the token and lies.

    Attributes:
      name: At the broker.
    """

    def __init__(self, machines: Machines, port: int) -> None:
        self.name = f"thief-{os.urandom(4).hex()}"
        self._topics = Topics(FLEET)
        authority = machines.path / "west" / "broker" / "authority.pem"
        self._link = RecordedLink(
            LinkSettings(
                host="127.0.0.1",
                port=port,
                client_id=self.name,
                tls=ServerTls(authority),
                session_expiry_s=0,
                subscriptions=(
                    self._topics.enrolment_challenge(self.name),
                    self._topics.enrolment_outcome(self.name),
                ),
            )
        )
        machines.stack.callback(self._link.link.stop, 1.0)
        self._link.link.start()
        self._link.wait(LinkConnected)

    def say(self, topic: str, payload: bytes) -> None:
        self._link.publish(topic, payload)
        self._link.wait(Delivered)

    def refused(self, talk: EnrolmentClient) -> str:
        """Goes through the exchange, and returns why it was turned away."""
        for _ in range(2):
            self._link.publish(talk.topic, talk.payload)
            arrived = self._link.wait(MessageArrived)
            self._link.link.acknowledge(arrived.token)
            try:
                talk.receive(arrived.topic, arrived.payload)
            except OperationError as error:
                return str(error)
        raise AssertionError("not refused")
