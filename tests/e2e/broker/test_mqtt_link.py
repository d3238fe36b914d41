"""The link against a real broker: limits, restarts, redelivery, wills."""

import multiprocessing
import os
import signal
import socket
import threading
from dataclasses import replace

import pytest

from starling.broker.backoff import BackoffPolicy
from starling.broker.link_events import (
    PACKET_BYTES_MAX,
    Delivered,
    LinkConnected,
    LinkDisconnected,
    LinkEvent,
    LinkSettings,
    MessageArrived,
    MqttMessage,
    packet_bytes,
)
from starling.broker.runtime.mqtt_link import MqttLink
from starling.protocol.errors import LimitError, TransportError
from tests.e2e.conftest import COORDINATOR, Broker, RecordedLink
from tests.e2e.deadline import DEADLINE_S

pytestmark = pytest.mark.e2e

ANN = "ann-board"
SPAWN = multiprocessing.get_context("spawn")


def test_largest_packet_passes_and_one_byte_more_is_refused_before_it_is_sent(
    broker: Broker,
) -> None:
    board = broker.connect(ANN, packet_bytes_max=1 << 20)
    up = broker.topics.up(ANN)
    coordinator = broker.connect(COORDINATOR, up)
    overhead = packet_bytes(MqttMessage(up, b""))
    largest = 131_072 - overhead

    with pytest.raises(LimitError, match="131072 max"):
        board.publish(up, bytes(largest + 1))
    board.publish(up, bytes(largest))

    assert board.wait(Delivered).reason_code == 0
    assert len(coordinator.wait(MessageArrived).payload) == largest
    assert not [e for e in board.seen if isinstance(e, LinkDisconnected)]


@pytest.mark.parametrize("expiry_s", [None, 60])
def test_trace_context_passes_the_broker_and_counts_in_the_packet(
    broker: Broker, expiry_s: int | None
) -> None:
    context = "00-" + 32 * "a" + "-" + 16 * "b" + "-01"
    up = broker.topics.up(ANN)
    coordinator = broker.connect(COORDINATOR, up)
    board = broker.connect(ANN)
    small = MqttMessage(up, b"", expiry_s=expiry_s, traceparent=context)
    largest = replace(small, payload=bytes(PACKET_BYTES_MAX - packet_bytes(small)))

    board.link.publish(largest)

    arrived = coordinator.wait(MessageArrived)
    assert (arrived.traceparent, arrived.payload) == (context, largest.payload)
    with pytest.raises(LimitError):
        board.link.publish(replace(largest, payload=largest.payload + b"x"))


def test_own_limit_counts_when_it_is_below_the_servers(broker: Broker) -> None:
    board = broker.connect(ANN, packet_bytes_max=1000)

    with pytest.raises(LimitError, match="1000 max"):
        board.publish(broker.topics.up(ANN), bytes(1000))


def test_publishes_open_when_the_connection_breaks_are_void(broker: Broker) -> None:
    board = broker.connect(ANN, window=2)
    up = broker.topics.up(ANN)
    pid = broker.process.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    board.publish(up, b"1")
    board.publish(up, b"2")
    broker.process.kill()
    board.wait(LinkDisconnected)

    with pytest.raises(TransportError, match="not connected"):
        board.publish(up, b"x")
    broker.process.start()
    board.wait(LinkConnected)
    again = [board.publish(up, b"1"), board.publish(up, b"2")]

    assert [board.wait(Delivered).publish_id for _ in again] == again == [3, 4]


def test_window_that_is_full_refuses_until_something_is_delivered(
    broker: Broker,
) -> None:
    board = broker.connect(ANN, window=2)
    up = broker.topics.up(ANN)
    pid = broker.process.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        board.publish(up, b"1")
        board.publish(up, b"2")
        with pytest.raises(TransportError, match="2 messages are in flight"):
            board.publish(up, b"3")
    finally:
        os.kill(pid, signal.SIGCONT)
    board.wait(Delivered)
    assert board.publish(up, b"3") == 3


def test_link_reconnects_and_subscribes_again_after_the_broker_was_killed(
    broker: Broker,
) -> None:
    board = broker.connect(ANN, broker.topics.down(ANN))
    coordinator = broker.connect(COORDINATOR)

    broker.process.kill()
    assert board.wait(LinkDisconnected).retry_in_s is not None
    coordinator.wait(LinkDisconnected)
    broker.process.start()
    # The broker keeps nothing on disk, so the session is gone with it.
    assert not board.wait(LinkConnected).session_present
    coordinator.wait(LinkConnected)
    coordinator.publish(broker.topics.down(ANN), b"again")

    assert board.wait(MessageArrived).payload == b"again"


def test_broker_that_falls_silent_is_given_up_by_keepalive(broker: Broker) -> None:
    board = broker.connect(ANN, keepalive_s=1, connect_timeout_s=0.5)
    pid = broker.process.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        lost = board.wait(LinkDisconnected)
        failed = board.wait(LinkDisconnected)
    finally:
        os.kill(pid, signal.SIGCONT)

    assert lost.reason == "connection lost"
    assert "cannot connect" in failed.reason
    board.wait(LinkConnected)


def test_link_can_be_stopped_from_its_own_callback(broker: Broker) -> None:
    settings = broker.settings(ANN)
    ended = threading.Event()

    def on_event(event: LinkEvent) -> None:
        if isinstance(event, LinkConnected):
            link.stop()
        elif isinstance(event, LinkDisconnected):
            ended.set()

    link = MqttLink(settings, on_event, lambda: 0.5)
    link.start()

    assert ended.wait(DEADLINE_S)
    link.stop()
    assert not link._thread.is_alive()


def test_session_keeps_messages_for_an_absent_board(broker: Broker) -> None:
    down = broker.topics.down(ANN)
    coordinator = broker.connect(COORDINATOR)
    board = broker.connect(ANN, down)
    board.link.stop()
    board.wait(LinkDisconnected)
    coordinator.publish(down, b"while away")
    coordinator.wait(Delivered, lambda event: event.reason_code == 0)

    back = broker.begin(broker.settings(ANN, down))

    assert back.wait(MessageArrived).payload == b"while away"


def crash_with_unacknowledged(settings: LinkSettings) -> None:
    """Receives two messages, acknowledges the first and dies before the second."""
    recorded = RecordedLink(settings)
    recorded.link.start()
    first = recorded.wait(MessageArrived)
    recorded.wait(MessageArrived)
    recorded.link.acknowledge(first.token)
    # A publish behind the acknowledgement proves that it has reached the broker.
    if LinkConnected not in map(type, recorded.seen):
        recorded.wait(LinkConnected)
    recorded.publish(settings.subscriptions[0].replace("down", "say"), b"")
    recorded.wait(Delivered)
    os.kill(os.getpid(), signal.SIGKILL)


def test_message_not_acknowledged_before_a_crash_is_delivered_again(
    broker: Broker,
) -> None:
    down = broker.topics.down(ANN)
    settings = broker.settings(ANN, down)
    coordinator = broker.connect(COORDINATOR)
    broker.connect(ANN, down).link.stop()
    for payload in (b"first", b"second"):
        coordinator.publish(down, payload)
        coordinator.wait(Delivered, lambda event: event.reason_code == 0)
    crashing = SPAWN.Process(target=crash_with_unacknowledged, args=(settings,))
    crashing.start()
    crashing.join(30)
    assert crashing.exitcode == -signal.SIGKILL

    back = broker.begin(settings)
    again = back.wait(MessageArrived)
    back.link.acknowledge_many([again.token])
    coordinator.publish(down, b"third")

    assert again.payload == b"second"
    assert back.wait(MessageArrived).payload == b"third"


def hold_connection(settings: LinkSettings, ready: str) -> None:
    recorded = RecordedLink(settings)
    recorded.link.start()
    recorded.wait(LinkConnected)
    recorded.publish(ready, b"ready")
    signal.pause()


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "stopped"])
def test_will_is_sent_when_the_client_is_killed_but_not_when_it_stops(
    broker: Broker, killed: bool
) -> None:
    state = broker.topics.device_state(ANN)
    coordinator = broker.connect(COORDINATOR, state)
    will = MqttMessage(state, b"lost", retain=True)
    if killed:
        settings = replace(broker.settings(ANN), will=will)
        holder = SPAWN.Process(target=hold_connection, args=(settings, state))
        holder.start()
        assert coordinator.wait(MessageArrived).payload == b"ready"
        holder.kill()
        holder.join()
    else:
        board = broker.connect(ANN, will=will)
        board.publish(state, b"disconnected")
        board.link.stop()

    expected = b"lost" if killed else b"disconnected"
    assert coordinator.wait(MessageArrived).payload == expected
    if not killed:
        # What came after the clean stop has passed by when this arrives.
        again = broker.connect(ANN)
        again.publish(state, b"ready")
        assert coordinator.wait(MessageArrived).payload == b"ready"


def test_stop_delivers_what_was_published_before_it(broker: Broker) -> None:
    up = broker.topics.up(ANN)
    coordinator = broker.connect(COORDINATOR, up)
    board = broker.connect(ANN)

    for number in range(50):
        board.publish(up, b"%d" % number)
    board.link.stop()

    payloads = [coordinator.wait(MessageArrived).payload for _ in range(50)]
    assert payloads == [b"%d" % number for number in range(50)]
    assert len([e for e in board.drain() if isinstance(e, Delivered)]) == 50


def test_two_clients_with_one_identity_back_off_to_the_most_and_say_so(
    broker: Broker,
) -> None:
    policy = BackoffPolicy(first_s=0.01, most_s=0.5)
    one = broker.begin(replace(broker.settings(ANN), backoff=policy))
    two = broker.begin(replace(broker.settings(ANN), backoff=policy))

    for client in (one, two):
        event = client.wait(
            LinkDisconnected, lambda event: "another client uses" in event.reason
        )
        assert event.retry_in_s is not None
        assert event.retry_in_s >= 0.25


def test_retained_manifest_reaches_a_board_that_comes_later(broker: Broker) -> None:
    coordinator = broker.connect(COORDINATOR)
    manifest = broker.topics.manifest(0)
    coordinator.link.publish(MqttMessage(manifest, b"version 3", retain=True))
    coordinator.wait(Delivered)

    board = broker.connect(ANN, *broker.topics.board_filters(ANN))
    arrived = board.wait(MessageArrived)

    assert arrived.payload == b"version 3"


def test_link_survives_a_server_that_speaks_no_mqtt(broker: Broker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer() -> None:
            for reply in (b"HTTP/1.1 400\r\n\r\n", b"\x20\x02\x00\xff", b""):
                peer, _ = server.accept()
                with peer:
                    peer.recv(1024)
                    peer.sendall(reply)

        thread = threading.Thread(target=answer)
        thread.start()
        settings = replace(broker.settings(ANN), port=port, tls=None)
        client = broker.begin(settings)
        for _ in range(3):
            assert client.wait(LinkDisconnected).retry_in_s is not None
        thread.join()


def test_link_whose_reading_rests_publishes_and_reads_what_came_later(
    broker: Broker,
) -> None:
    rests = threading.Event()
    up, down = broker.topics.up(ANN), broker.topics.down(ANN)
    board = broker.connect(ANN, down)
    coordinator = broker.connect(
        COORDINATOR, up, rest_s=lambda: 3600.0 if rests.is_set() else 0.0
    )
    board.publish(up, b"1")
    assert coordinator.wait(MessageArrived).payload == b"1"

    # After the turn of the first it rests: the second is sent out of a rest.
    rests.set()
    for content in (b"a", b"b"):
        coordinator.publish(down, content)
        assert board.wait(MessageArrived).payload == content
    rests.clear()
    board.publish(up, b"2")
    coordinator.publish(down, b"c")
    assert coordinator.wait(MessageArrived).payload == b"2"
