"""Enrolment by a token against a real Mosquitto: the pages' walk, and strangers."""

import json
import os
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from starling.agent.runtime.storage.agent_home import AgentHome
from starling.broker.backoff import BackoffPolicy
from starling.broker.broker_settings import LOCAL_HOSTS, REGISTRAR, BrokerSettings
from starling.broker.health_checks import Verdict
from starling.broker.link_events import (
    NO_SUBSCRIBER,
    REFUSED_FROM,
    Delivered,
    LinkConnected,
    LinkDisconnected,
    LinkSettings,
    MessageArrived,
    PasswordLogin,
    ServerTls,
)
from starling.broker.runtime.broker_check import check_broker
from starling.broker.runtime.broker_home import BrokerHome
from starling.broker.runtime.enrolment_client import EnrolmentClient
from starling.broker.runtime.mosquitto_process import free_port
from starling.broker.runtime.pinned_authority import fetch_authority, fingerprint
from starling.broker.runtime.token_exchange import admission_by_token
from starling.coordinator.enrolment.registrar import TokenRecord
from starling.coordinator.runtime.enrolment.enrolment_store import EnrolmentStore
from starling.coordinator.runtime.enrolment.registrar_threads import registrar_beside
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.setup.genesis_setup import GenesisOptions, found
from starling.protocol.crypto.scram import scram_keys
from starling.protocol.errors import EXIT_CONFIG, OperationError, TransportError
from starling.protocol.ids import device_name
from starling.protocol.wire.enrolment_messages import (
    CHALLENGE,
    OUTCOME,
    EnrolmentKind,
    EnrolmentState,
)
from starling.protocol.wire.enrolment_token import EnrolmentToken
from starling.protocol.wire.topics import Topics
from tests.e2e.conftest import RecordedLink
from tests.e2e.deadline import DEADLINE_S
from tests.e2e.required_mosquitto import require_mosquitto

pytestmark = pytest.mark.e2e

PAGE = Path(__file__).parents[3] / "docs" / "boards.md"
FLEET = "meadow"
TOPICS = Topics(FLEET)
HOST = LOCAL_HOSTS[0]
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


class Door:
    """An enrolment listener with its registrar, and no coordinator that runs.

    Attributes:
      home: Of the coordinator.
      broker: Of the broker.
      token: Good for two boards.
      registrar: Ends it when it is closed.
    """

    def __init__(self, path: Path) -> None:
        self.stack = ExitStack()
        self.broker = BrokerHome(path / "broker")
        self.settings = BrokerSettings(
            FLEET, bind=HOST, port=free_port(), enrol_port=free_port()
        )
        self.broker.prepare(self.settings)
        self.home = CoordinatorHome(path / "north")
        found(self.home, GenesisOptions(FLEET, self.broker.path, "", 0, 10))
        self.store = EnrolmentStore(self.broker.path)
        self.token = EnrolmentToken(
            HOST,
            self.settings.enrol_port,
            FLEET,
            fingerprint(self.broker.authority_certificate),
            os.urandom(8),
            os.urandom(20),
        )
        keys = scram_keys(self.token.secret)
        until_s = int(time.time()) + 3600
        kind = EnrolmentKind.BOARD
        self.store.add_token(
            TokenRecord(self.token.identity, kind, keys, 2, until_s, True)
        )
        self.stack.enter_context(self.broker.enrolment.process(log_to_file=True))
        gate = self.broker.enrolment.gate(self.settings)
        self.stack.callback(gate.stop)
        gate.start()
        self.registrar = self.stack.enter_context(ExitStack())
        self.registrar.enter_context(registrar_beside(self.home))
        self.until_somebody_listens()

    def until_somebody_listens(self) -> None:
        name = f"probe-{os.urandom(4).hex()}"
        probe = self.connect(name)
        probe.wait(LinkConnected)
        deadline_s = time.monotonic() + DEADLINE_S
        reason = NO_SUBSCRIBER
        while reason == NO_SUBSCRIBER:
            assert time.monotonic() < deadline_s, "no registrar"
            probe.publish(TOPICS.enrolment_hello(name), b"")
            reason = probe.wait(Delivered).reason_code

    def connect(
        self, client: str, *filters: str, login: PasswordLogin | None = None
    ) -> RecordedLink:
        """A stranger's link, begun; it knows the authority as everybody may."""
        settings = LinkSettings(
            host=HOST,
            port=self.settings.enrol_port,
            client_id=client,
            tls=ServerTls(self.broker.authority_certificate),
            login=login,
            session_expiry_s=0,
            subscriptions=filters,
            backoff=BackoffPolicy(first_s=5.0, most_s=5.0),
        )
        recorded = RecordedLink(settings)
        self.stack.callback(recorded.link.stop, 1.0)
        recorded.link.start()
        return recorded

    def newcomer(self, name: str) -> tuple[EnrolmentClient, RecordedLink]:
        """One that asks for admission in earnest, and is connected."""
        board = AgentHome(self.home.path.parent / name)
        board.begin({})
        request = board.write_request().read_bytes()
        kind = EnrolmentKind.BOARD
        talk = EnrolmentClient(self.token, kind, request, name, os.urandom(32))
        link = self.connect(name, *talk.filters)
        link.wait(LinkConnected)
        return talk, link


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    require_mosquitto()
    made = Door(tmp_path)
    with made.stack:
        yield made


def challenge(talk: EnrolmentClient, link: RecordedLink) -> None:
    """Says hello until it is answered: whoever comes first may be overheard."""
    link.publish(talk.topic, talk.payload)
    arrived = link.wait(MessageArrived)
    link.link.acknowledge(arrived.token)
    talk.hear(arrived.topic, arrived.payload)


def answered(talk: EnrolmentClient, link: RecordedLink) -> int:
    """State of the answer to a claim."""
    link.publish(talk.topic, talk.payload)
    arrived = link.wait(MessageArrived, lambda each: each.topic.endswith("/outcome"))
    link.link.acknowledge(arrived.token)
    talk.hear(arrived.topic, arrived.payload)
    return OUTCOME.unpack(arrived.payload).state


def test_strangers_write_and_read_nothing_but_their_own_topics(door: Door) -> None:
    listening = door.connect("listening", "#", TOPICS.enrolment_hello("+"))
    wild = door.connect("+", "#", TOPICS.enrolment_challenge("+"))
    speaking = door.connect("speaking")
    for link in (listening, wild, speaking):
        link.wait(LinkConnected)
    talk, honest = door.newcomer("honest")

    for topic in (
        TOPICS.enrolment_hello("honest"),
        TOPICS.enrolment_outcome("speaking"),
        TOPICS.enrolment_challenge("honest"),
        TOPICS.say("board"),
        TOPICS.gossip("north"),
        TOPICS.manifest(0),
        "$SYS/broker/x",
    ):
        speaking.publish(topic, b"x")
        assert speaking.wait(Delivered).reason_code >= REFUSED_FROM, topic
    challenge(talk, honest)
    assert answered(talk, honest) == EnrolmentState.PENDING

    heard = [
        event
        for link in (listening, wild)
        for event in link.drain()
        if isinstance(event, MessageArrived)
    ]
    assert heard == []


@pytest.mark.parametrize(
    ("user", "password"), [(REGISTRAR, "guess"), (REGISTRAR, ""), ("north", "north")]
)
def test_client_that_gives_a_name_needs_its_password(
    door: Door, user: str, password: str
) -> None:
    link = door.connect("x", login=PasswordLogin(user, password))

    assert "uthori" in link.wait(LinkDisconnected).reason


def test_hostile_messages_are_counted_and_a_newcomer_is_served_after_them(
    door: Door,
) -> None:
    talk, honest = door.newcomer("honest")
    challenge(talk, honest)
    thief = door.connect("thief", TOPICS.enrolment_challenge("thief"))
    thief.wait(LinkConnected)
    wrong = replace(door.token, secret=b"\x00" * 20)
    guess = EnrolmentClient(wrong, EnrolmentKind.BOARD, b"{}", "thief", b"n" * 32)
    thief.publish(guess.topic, guess.payload)
    arrived = thief.wait(MessageArrived)
    guess.hear(arrived.topic, arrived.payload)

    hello, claim = TOPICS.enrolment_hello("thief"), TOPICS.enrolment_claim("thief")
    for topic, payload in (
        (claim, guess.payload),
        (claim, talk.payload),
        (hello, b""),
        (hello, b"\xff" * 500),
        (claim, b"\x93" * 100_000),
        *[(hello, os.urandom(64)) for _ in range(20)],
    ):
        thief.publish(topic, payload)
        thief.wait(Delivered)
    state = answered(talk, honest)

    assert state == EnrolmentState.PENDING
    assert [each.name for each in door.store.claims()] == [
        device_name(AgentHome(door.home.path.parent / "honest").identity())
    ]
    deadline_s = time.monotonic() + DEADLINE_S
    wanted = {"BAD_SIGNATURE", "REPLAYED", "MALFORMED", "TOO_LARGE"}
    while not wanted <= set(refused := door.store.refused()):
        assert time.monotonic() < deadline_s, refused
        time.sleep(0.05)


def test_packet_over_the_limit_ends_its_connection_alone(door: Door) -> None:
    talk, honest = door.newcomer("honest")
    context = ssl.create_default_context(cafile=str(door.broker.authority_certificate))
    with (
        socket.create_connection((HOST, door.settings.enrol_port)) as plain,
        context.wrap_socket(plain, server_hostname=HOST) as stranger,
    ):
        # CONNECT of MQTT 5 as `big`, then a PUBLISH that says it has 200 MB.
        body = b"\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x03big"
        stranger.sendall(b"\x10" + bytes([len(body)]) + body)
        assert stranger.recv(1) == b"\x20"
        stranger.sendall(b"\x32\x80\x84\xaf\x5f" + b"\x00" * 1000)
        stranger.settimeout(DEADLINE_S)
        while stranger.recv(4096):
            pass

    challenge(talk, honest)

    assert answered(talk, honest) == EnrolmentState.PENDING


def test_connections_of_strangers_do_not_touch_a_boards_session(door: Door) -> None:
    with door.broker.process():
        user = "board-1"
        files = door.broker.certificates.issue_files(user, door.broker.path)
        board = RecordedLink(LinkSettings(HOST, door.settings.port, user, tls=files))
        door.stack.callback(board.link.stop, 1.0)
        board.link.start()
        board.wait(LinkConnected)

        door.connect(user).wait(LinkConnected)
        board.publish(TOPICS.say(user), b"still here")

        assert board.wait(Delivered).reason_code < REFUSED_FROM
        assert not any(isinstance(each, LinkDisconnected) for each in board.seen)


def test_of_two_coordinators_with_the_brokers_folder_one_answers(door: Door) -> None:
    second = CoordinatorHome(door.home.path.parent / "south")
    found(second, GenesisOptions(FLEET, door.broker.path, "", 0, 10))
    with registrar_beside(second):
        talk, link = door.newcomer("first")
        link.publish(talk.topic, talk.payload)
        first = link.wait(MessageArrived)
        talk.hear(first.topic, first.payload)

        assert answered(talk, link) == EnrolmentState.PENDING

    registrar = CHALLENGE.unpack(first.payload).registrar
    assert registrar == door.home.signing_key().public
    topics = [each.topic for each in link.drain() if isinstance(each, MessageArrived)]
    assert sum(topic.endswith("/challenge") for topic in topics) == 1


def test_another_coordinator_takes_the_place_of_the_one_that_answered(
    door: Door,
) -> None:
    second = CoordinatorHome(door.home.path.parent / "south")
    found(second, GenesisOptions(FLEET, door.broker.path, "", 0, 10))
    with registrar_beside(second):
        door.registrar.close()
        door.until_somebody_listens()
        talk, link = door.newcomer("late")
        link.publish(talk.topic, talk.payload)
        heard = link.wait(MessageArrived)

    registrar = CHALLENGE.unpack(heard.payload).registrar
    assert registrar == second.signing_key().public


def test_check_of_the_broker_looks_at_the_door(door: Door) -> None:
    with door.broker.process():
        rows = {row.name: row.verdict for row in check_broker(door.broker)}

    for name in ("enrolment.listener", "files.registrar-private"):
        assert rows[name] is Verdict.OK


def test_broker_with_another_authority_gets_no_word_of_the_secret(
    door: Door, tmp_path: Path
) -> None:
    other = BrokerHome(tmp_path / "other")
    other.prepare(replace(door.settings, port=free_port(), enrol_port=free_port()))
    settings = other.require_settings()
    gate = other.enrolment.gate(settings)
    with other.enrolment.process(log_to_file=True), ExitStack() as stack:
        gate.start()
        stack.callback(gate.stop)
        token = replace(door.token, port=settings.enrol_port)
        with pytest.raises(OperationError, match="is not the broker"):
            admission_by_token(token, EnrolmentKind.BOARD, b"{}", 5.0, print)


def test_man_in_the_middle_that_shows_the_right_authority_fails_at_tls(
    door: Door, tmp_path: Path
) -> None:
    other = BrokerHome(tmp_path / "other")
    other.prepare(replace(door.settings, port=free_port(), enrol_port=free_port()))
    chain = tmp_path / "chain.pem"
    shown = other.certificates.server.read_text()
    chain.write_text(shown + door.broker.authority_certificate.read_text())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, other.path / "server.key")
    received: list[bytes] = []

    def serve(listening: socket.socket) -> None:
        while True:
            try:
                plain, _ = listening.accept()
                with plain, context.wrap_socket(plain, server_side=True) as secure:
                    received.append(secure.recv(4096))
            except ssl.SSLError:
                continue
            except OSError:
                return

    with socket.create_server((HOST, 0)) as listening:
        threading.Thread(target=serve, args=(listening,), daemon=True).start()
        port = listening.getsockname()[1]
        token = replace(door.token, port=port)
        # The first step believes the fingerprint, and it is shown.
        assert fetch_authority(HOST, port, token.authority)
        with pytest.raises(TransportError, match="certificate verify failed"):
            admission_by_token(token, EnrolmentKind.BOARD, b"{}", 3.0, print)
        listening.shutdown(socket.SHUT_RDWR)

    assert not any(received)


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
