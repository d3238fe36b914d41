"""Strangers at the enrolment door of a real broker: what they reach."""

import os
import socket
import ssl
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from starling.agent.runtime.storage.agent_home import AgentHome
from starling.broker.broker_settings import REGISTRAR
from starling.broker.health_checks import Verdict
from starling.broker.link_events import (
    REFUSED_FROM,
    Delivered,
    LinkConnected,
    LinkDisconnected,
    LinkSettings,
    MessageArrived,
    PasswordLogin,
)
from starling.broker.runtime.broker_check import check_broker
from starling.broker.runtime.broker_home import BrokerHome
from starling.broker.runtime.enrolment_client import EnrolmentClient
from starling.broker.runtime.mosquitto_process import free_port
from starling.broker.runtime.pinned_authority import fetch_authority
from starling.broker.runtime.token_exchange import admission_by_token
from starling.coordinator.runtime.enrolment.registrar_threads import registrar_beside
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.setup.genesis_setup import GenesisOptions, found
from starling.protocol.errors import OperationError, TransportError
from starling.protocol.ids import device_name
from starling.protocol.wire.enrolment_messages import (
    CHALLENGE,
    EnrolmentKind,
    EnrolmentState,
)
from tests.e2e.conftest import RecordedLink
from tests.e2e.coordinator.enrolment_programs import (
    FLEET,
    HOST,
    TOPICS,
    Door,
    answered,
)
from tests.e2e.deadline import DEADLINE_S

pytestmark = pytest.mark.e2e


def challenge(talk: EnrolmentClient, link: RecordedLink) -> None:
    """Says hello until it is answered: whoever comes first may be overheard."""
    link.publish(talk.topic, talk.payload)
    arrived = link.wait(MessageArrived)
    link.link.acknowledge(arrived.token)
    talk.receive(arrived.topic, arrived.payload)


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
    guess.receive(arrived.topic, arrived.payload)

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
        talk.receive(first.topic, first.payload)

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
        with pytest.raises(
            TransportError, match="not of the authority that is pinned here"
        ):
            admission_by_token(token, EnrolmentKind.BOARD, b"{}", 3.0, print)
        listening.shutdown(socket.SHUT_RDWR)

    assert not any(received)
