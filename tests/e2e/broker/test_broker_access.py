"""What Mosquitto lets boards and coordinators do, by outcome and not by SUBACK."""

import socket
import ssl
from dataclasses import replace

import pytest

from starling.broker.link_events import (
    Delivered,
    LinkConnected,
    LinkDisconnected,
    MessageArrived,
)
from starling.broker.runtime.broker_home import BrokerHome
from tests.e2e.conftest import COORDINATOR, Broker

pytestmark = pytest.mark.e2e

NOT_AUTHORISED = 0x87
ANN, BEN = "ann-board", "ben-board"


def allowed_topics(broker: Broker, user: str) -> list[str]:
    topics = broker.topics
    if user == COORDINATOR:
        return [
            *[topics.down(device) for device in (ANN, BEN)],
            *[topics.model(device) for device in (ANN, BEN)],
            topics.manifest(0),
            topics.coordinator_state(COORDINATOR),
            topics.gossip(COORDINATOR),
            topics.private(COORDINATOR, "other"),
        ]
    return [topics.device_state(user), topics.up(user), topics.say(user)]


def every_topic(broker: Broker) -> list[str]:
    topics = broker.topics
    per_device = (
        topics.device_state,
        topics.up,
        topics.say,
        topics.down,
        topics.model,
    )
    return [
        *[name(device) for name in per_device for device in (ANN, BEN)],
        topics.manifest(0),
        *[topics.coordinator_state(name) for name in (COORDINATOR, "other")],
        *[topics.gossip(name) for name in (COORDINATOR, "other")],
        topics.private(COORDINATOR, "other"),
        topics.private("other", COORDINATOR),
        "starling/1/test",
        "starling/1/other/d/ann-board/up",
        "elsewhere",
        f"starling/1/test/d/{ANN}/up/deeper",
    ]


@pytest.mark.parametrize("user", [ANN, COORDINATOR])
def test_publish_is_allowed_to_own_topics_and_refused_to_all_others(
    broker: Broker, user: str
) -> None:
    client = broker.connect(user)
    everything = every_topic(broker)

    sent = {client.publish(topic, b"x"): topic for topic in everything}
    answers = {}
    for _ in everything:
        answer = client.wait(Delivered)
        answers[sent[answer.publish_id]] = answer.reason_code

    refused = {topic for topic, code in answers.items() if code == NOT_AUTHORISED}
    assert sorted(set(everything) - refused) == sorted(allowed_topics(broker, user))
    assert set(answers.values()) == {NOT_AUTHORISED, 0x10}


def test_subscription_to_everything_delivers_only_what_the_board_may_read(
    broker: Broker,
) -> None:
    board = broker.connect(ANN, "#")
    other = broker.connect(BEN)
    coordinator = broker.connect(COORDINATOR)
    topics = broker.topics
    mine = [topics.down(ANN), topics.model(ANN), topics.manifest(0)]
    mine.append(topics.coordinator_state(COORDINATOR))
    not_mine = [topics.down(BEN), topics.model(BEN), topics.gossip(COORDINATOR)]
    not_mine.append(topics.private(COORDINATOR, ANN))

    other.publish(topics.up(BEN), b"x")
    other.publish(topics.device_state(BEN), b"x")
    other.wait(Delivered)
    other.wait(Delivered)
    for topic in not_mine + mine:
        coordinator.publish(topic, b"x")
    arrived = [board.wait(MessageArrived).topic for _ in mine]

    # The broker keeps the order, so all that was sent before `mine` has been judged.
    assert arrived == mine


def test_coordinator_receives_what_boards_send_and_its_peers_gossip(
    broker: Broker,
) -> None:
    broker.home.admit_coordinator("coordinator-2")
    broker.process.reload()
    topics = broker.topics
    coordinator = broker.connect(COORDINATOR, *topics.coordinator_filters(COORDINATOR))
    board = broker.connect(ANN)
    peer = broker.connect("coordinator-2")

    for topic in allowed_topics(broker, ANN):
        board.publish(topic, b"x")
    peer.publish(topics.gossip("coordinator-2"), b"x")
    for reader in ("coordinator-3", COORDINATOR):
        peer.publish(topics.private("coordinator-2", reader), b"x")
    arrived = {coordinator.wait(MessageArrived).topic for _ in range(5)}

    assert arrived == {
        *allowed_topics(broker, ANN),
        topics.gossip("coordinator-2"),
        topics.private("coordinator-2", COORDINATOR),
    }


def test_what_is_private_to_one_coordinator_reaches_no_other(broker: Broker) -> None:
    broker.home.admit_coordinator("coordinator-2")
    broker.process.reload()
    topics = broker.topics
    curious = broker.connect("coordinator-2", topics.private("+", "+"))
    speaker = broker.connect(COORDINATOR)

    speaker.publish(topics.private(COORDINATOR, "other"), b"x")
    speaker.publish(topics.private(COORDINATOR, "coordinator-2"), b"y")

    # The broker keeps the order, so the first one has been judged.
    assert curious.wait(MessageArrived).payload == b"y"


def test_client_id_of_another_board_does_not_take_its_session_over(
    broker: Broker,
) -> None:
    victim = broker.connect(ANN, broker.topics.down(ANN))
    thief = broker.connect(BEN, broker.topics.down(ANN), client_id=ANN)
    coordinator = broker.connect(COORDINATOR)

    coordinator.publish(broker.topics.down(ANN), b"for ann")
    victim.wait(MessageArrived, lambda event: event.payload == b"for ann")
    coordinator.publish(broker.topics.down(BEN), b"for ben")
    coordinator.wait(Delivered)
    coordinator.wait(Delivered)

    assert not [e for e in victim.drain() if isinstance(e, LinkDisconnected)]
    assert not [e for e in thief.drain() if isinstance(e, MessageArrived)]


def test_client_without_certificate_is_refused(broker: Broker) -> None:
    context = ssl.create_default_context(cafile=broker.home.authority_certificate)

    with (
        socket.create_connection(("127.0.0.1", broker.process.port), 5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as encrypted,
        pytest.raises(ssl.SSLError, match=r"(?i)certificate.required"),
    ):
        # In TLS 1.3 the server's refusal arrives with the first read.
        encrypted.recv(1)


def test_client_of_another_authority_is_told_why_it_cannot_connect(
    broker: Broker, tmp_path_factory: pytest.TempPathFactory
) -> None:
    foreign = BrokerHome(tmp_path_factory.mktemp("foreign"))
    foreign.prepare(broker.home.require_settings())
    settings = broker.settings(ANN)
    assert settings.tls is not None
    wrong_server = replace(settings.tls, authority=foreign.authority_certificate)
    wrong_client = foreign.certificates.issue_files(ANN, foreign.path)
    wrong_client = replace(wrong_client, authority=broker.home.authority_certificate)

    pinned = broker.begin(replace(settings, tls=wrong_server))
    said = pinned.wait(LinkDisconnected).reason
    assert "not of the authority that is pinned here" in said
    issued = broker.begin(replace(settings, tls=wrong_client))
    refused = issued.wait(LinkDisconnected)
    assert refused.retry_in_s is not None
    assert "the broker refuses our certificate: unknown ca" in refused.reason
    assert not [e for e in issued.drain() if isinstance(e, LinkConnected)]
