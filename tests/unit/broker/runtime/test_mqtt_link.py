"""What the link decides without a broker: sizes, refusals, stopping."""

import queue
import socket
import threading
from pathlib import Path

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from starling.broker.backoff import BackoffPolicy
from starling.broker.link_events import (
    LinkDisconnected,
    LinkEvent,
    LinkSettings,
    MqttMessage,
    ServerTls,
    TlsFiles,
    packet_bytes,
)
from starling.broker.runtime.certificate_authority import CertificateAuthority
from starling.broker.runtime.mosquitto_process import free_port
from starling.broker.runtime.mqtt_link import MqttLink
from starling.protocol.errors import LimitError, TransportError

FAST = BackoffPolicy(first_s=0.001, most_s=0.001)


def link_to_nobody(
    tls: TlsFiles | None = None,
) -> "tuple[MqttLink, queue.SimpleQueue[LinkEvent]]":
    events: queue.SimpleQueue[LinkEvent] = queue.SimpleQueue()
    settings = LinkSettings(
        "127.0.0.1", free_port(), "ann", tls=tls, packet_bytes_max=500, backoff=FAST
    )
    return MqttLink(settings, events.put, lambda: 0.5), events


@pytest.mark.parametrize("expiry_s", [None, 60])
@pytest.mark.parametrize("length", [0, 100, 70_000])
@pytest.mark.parametrize("context", ["", "00-trace-span-01"])
def test_packet_bytes_is_an_upper_bound_within_four_bytes(
    length: int, expiry_s: int | None, context: str
) -> None:
    message = MqttMessage("a/ä", bytes(length), expiry_s=expiry_s, traceparent=context)
    # paho's properties have no annotations.
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho's
    if expiry_s is not None:
        properties.MessageExpiryInterval = expiry_s
    if context:
        properties.UserProperty = ("traceparent", context)
    packed = properties.pack()  # type: ignore[no-untyped-call]  # paho's
    body = 2 + len(message.topic.encode()) + 2 + len(packed) + length
    header = 1 + (1 if body < 128 else 2 if body < 16_384 else 3)

    assert 0 <= packet_bytes(message) - (header + body) <= 3


def test_publish_over_the_limit_is_refused_even_before_the_first_connection() -> None:
    link, _ = link_to_nobody()

    with pytest.raises(LimitError, match="500 max"):
        link.publish(MqttMessage("a", bytes(500)))
    with pytest.raises(TransportError, match="not connected"):
        link.publish(MqttMessage("a", b""))
    link.stop()


def test_link_without_broker_goes_on_trying_until_it_is_stopped() -> None:
    link, events = link_to_nobody()
    link.start()

    for _ in range(3):
        event = events.get(timeout=180)
        assert isinstance(event, LinkDisconnected)
        assert "refused" in event.reason
        assert event.retry_in_s is not None
    link.stop()
    link.stop()

    assert not link._thread.is_alive()


def test_link_with_missing_certificates_says_so_and_goes_on_trying(
    tmp_path: Path,
) -> None:
    missing = tmp_path / "none"
    link, events = link_to_nobody(TlsFiles(missing, missing, missing))
    link.start()

    event = events.get(timeout=180)
    link.stop()

    assert isinstance(event, LinkDisconnected)
    assert f"{missing}, or its key: No such file" in event.reason
    assert "enrol again" in event.reason


def test_link_to_what_is_no_broker_says_so_and_goes_on_trying(tmp_path: Path) -> None:
    CertificateAuthority.create(tmp_path / "key", tmp_path / "pem", "test")
    with socket.create_server(("127.0.0.1", 0)) as server:
        events: queue.SimpleQueue[LinkEvent] = queue.SimpleQueue()
        port = server.getsockname()[1]
        files = ServerTls(tmp_path / "pem")
        settings = LinkSettings("127.0.0.1", port, "ann", files, backoff=FAST)
        link = MqttLink(settings, events.put, lambda: 0.5)
        link.start()
        way, _ = server.accept()
        with way:
            way.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            event = events.get(timeout=180)
        link.stop()

    assert isinstance(event, LinkDisconnected)
    assert "does not speak TLS; see broker.port" in event.reason
    assert event.retry_in_s is not None


@pytest.mark.parametrize(
    "odd",
    [
        b"\x32\x00",
        b"\x34\x00",
        b"\x32\x0c\x00\x03\xc5\x00\x01\x03\x03\x00\x00\x01\x02\x02",
        b"\x90\x04\x00\x01\x00\x01",
    ],
    ids=["message without a length", "QoS 2", "no letters", "answer to nothing"],
)
def test_link_whose_broker_sends_no_packets_of_mqtt_comes_back(odd: bytes) -> None:
    events: queue.SimpleQueue[LinkEvent] = queue.SimpleQueue()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        settings = LinkSettings(
            "127.0.0.1", port, "ann", subscriptions=("a",), backoff=FAST
        )
        link = MqttLink(settings, events.put, lambda: 0.5)
        link.start()
        for _ in range(2):
            way, _ = server.accept()
            with way:
                way.recv(1024)
                way.sendall(odd)
                event = events.get(timeout=180)
            assert isinstance(event, LinkDisconnected)
            assert event.reason.startswith("malformed packet from the broker: ")
            assert event.retry_in_s is not None
        link.stop()


def test_link_whose_callback_fails_does_not_die_unnoticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events: list[LinkEvent] = []
    failures: list[BaseException | None] = []
    monkeypatch.setattr(
        "threading.excepthook", lambda details: failures.append(details.exc_value)
    )

    def on_event(event: LinkEvent) -> None:
        events.append(event)
        if len(events) == 1:
            raise RuntimeError("planted")

    settings = LinkSettings("127.0.0.1", free_port(), "ann", backoff=FAST)
    link = MqttLink(settings, on_event, lambda: 0.5)
    link.start()
    link._thread.join(10)

    assert isinstance(events[-1], LinkDisconnected)
    assert events[-1].retry_in_s is None
    assert "planted" in events[-1].reason
    assert [str(failure) for failure in failures] == ["planted"]


@pytest.mark.parametrize("expiry_s", [0, -1])
def test_message_that_expires_at_once_is_a_bug(expiry_s: int) -> None:
    with pytest.raises(AssertionError):
        MqttMessage("a", b"", expiry_s=expiry_s)


def test_link_that_gets_no_thread_says_what_to_raise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    link = MqttLink(LinkSettings("127.0.0.1", 1, "ann"), print, lambda: 0.5)

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(TransportError, match="can't start new thread; raise the limit"):
        link.start()
    link.stop()
