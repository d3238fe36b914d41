"""Packets that are read without paho, whatever strangers put into them."""

import pytest

from starling.broker.publish_packet import PublishPacket, read_publish

QOS_1, RETAINED = 0x32, 0x33
EXPIRY = b"\x05\x02\x00\x00\x00\x14"
CONTEXT = "00-" + 32 * "a" + "-" + 16 * "b" + "-01"
TOPIC = "starling/1/meadow/d/ann/up"


def user_property(name: str, value: bytes) -> bytes:
    return (
        b"\x26" + len(name).to_bytes(2) + name.encode() + len(value).to_bytes(2) + value
    )


def properties_of(*properties: bytes) -> bytes:
    """Behind their length: seven bits a byte, the lowest first."""
    joined, head = b"".join(properties), b""
    size = len(joined)
    while size > 0x7F:
        head, size = head + bytes([size & 0x7F | 0x80]), size >> 7
    return head + bytes([size]) + joined


def packet(
    properties: bytes, topic: bytes = TOPIC.encode(), payload: bytes = b"p"
) -> bytes:
    return len(topic).to_bytes(2) + topic + b"\x01\x02" + properties + payload


@pytest.mark.parametrize(
    "properties",
    [
        pytest.param(b"\0", id="none"),
        pytest.param(EXPIRY, id="expiry"),
        pytest.param(b"\x02\x01\x01", id="another"),
        pytest.param(b"\x07" + EXPIRY[1:] + b"\x01\x01", id="two"),
        pytest.param(properties_of(user_property("x", bytes(200))), id="long"),
        pytest.param(properties_of(*[user_property("x", b"")] * 9000), id="many"),
    ],
)
@pytest.mark.parametrize("command", [QOS_1, RETAINED, QOS_1 | 0x08])
@pytest.mark.parametrize("payload", [b"", b"\0\x05\x02", bytes(70_000)])
def test_packet_is_read(properties: bytes, command: int, payload: bytes) -> None:
    found = read_publish(command, bytearray(packet(properties, payload=payload)))
    assert found == PublishPacket(TOPIC, payload, command == RETAINED, 0x102)


def test_packet_at_qos_0_has_no_id() -> None:
    rest = len(TOPIC).to_bytes(2) + TOPIC.encode() + EXPIRY + b"p"

    assert read_publish(0x30, rest) == PublishPacket(TOPIC, b"p", False, 0)


@pytest.mark.parametrize(
    ("command", "rest"),
    [
        pytest.param(0x34, packet(b"\0"), id="qos-2"),
        pytest.param(QOS_1, packet(4 * b"\x80" + b"\0"), id="length-of-five-bytes"),
        pytest.param(QOS_1, packet(b"\x02\x01", payload=b""), id="cut"),
        pytest.param(QOS_1, packet(b"\0", topic=b"\xff\xfe"), id="topic-no-text"),
    ],
)
def test_packet_of_another_form_is_malformed(command: int, rest: bytes) -> None:
    with pytest.raises(ValueError, match=r"message|codec"):
        read_publish(command, rest)


@pytest.mark.parametrize(
    ("properties", "found"),
    [
        pytest.param(
            [user_property("traceparent", CONTEXT.encode())], CONTEXT, id="is"
        ),
        pytest.param(
            [EXPIRY[1:], user_property("traceparent", b"x")], "x", id="behind"
        ),
        pytest.param([user_property("tracestate", b"x")], "", id="another"),
        pytest.param(
            [user_property("traceparent", 9000 * b"0")], 56 * "0", id="endless"
        ),
        pytest.param([user_property("traceparent", b"\xff")], "\ufffd", id="no-text"),
        pytest.param([user_property("traceparent", b"")[:-1]], "", id="cut"),
    ],
)
def test_trace_context_is_read_and_bounded(properties: list[bytes], found: str) -> None:
    read = read_publish(QOS_1, packet(properties_of(*properties)))

    assert read is not None
    assert read.traceparent == found
    assert read.payload == b"p"


@pytest.mark.parametrize("properties", [b"\0", EXPIRY])
def test_packet_that_is_cut_before_its_payload_is_malformed(properties: bytes) -> None:
    whole = packet(properties, payload=b"")
    for end in range(len(whole)):
        with pytest.raises(ValueError, match="message"):
            read_publish(QOS_1, whole[:end])
