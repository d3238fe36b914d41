"""Packets that are read without paho, and those that are left to it."""

import pytest

from starling.broker.publish_packet import PublishPacket, read_publish

QOS_1, RETAINED = 0x32, 0x33
EXPIRY = b"\x05\x02\x00\x00\x00\x14"
TOPIC = "starling/1/meadow/d/ann/up"


def packet(
    properties: bytes, topic: bytes = TOPIC.encode(), payload: bytes = b"p"
) -> bytes:
    return len(topic).to_bytes(2) + topic + b"\x01\x02" + properties + payload


@pytest.mark.parametrize("properties", [b"\0", EXPIRY])
@pytest.mark.parametrize("command", [QOS_1, RETAINED, QOS_1 | 0x08])
@pytest.mark.parametrize("payload", [b"", b"\0\x05\x02", bytes(70_000)])
def test_packet_at_qos_1_is_read(
    properties: bytes, command: int, payload: bytes
) -> None:
    found = read_publish(command, bytearray(packet(properties, payload=payload)))
    assert found == PublishPacket(TOPIC, payload, command == RETAINED, 0x102)


@pytest.mark.parametrize(
    ("command", "rest"),
    [
        pytest.param(0x30, packet(b"\0"), id="qos-0"),
        pytest.param(0x34, packet(b"\0"), id="qos-2"),
        pytest.param(QOS_1, packet(b"\x02\x01\x01"), id="another-property"),
        pytest.param(QOS_1, packet(b"\x07" + EXPIRY[1:] + b"\x01\x01"), id="two"),
        pytest.param(QOS_1, packet(b"\x80\x00"), id="length-of-two-bytes"),
    ],
)
def test_packet_of_another_form_is_left_to_paho(command: int, rest: bytes) -> None:
    assert read_publish(command, rest) is None


@pytest.mark.parametrize("properties", [b"\0", EXPIRY])
def test_packet_that_is_cut_before_its_payload_is_left_to_paho(
    properties: bytes,
) -> None:
    whole = packet(properties, payload=b"")
    assert all(read_publish(QOS_1, whole[:end]) is None for end in range(len(whole)))


def test_topic_that_is_no_text_is_malformed() -> None:
    with pytest.raises(UnicodeDecodeError):
        read_publish(QOS_1, packet(b"\0", topic=b"\xff\xfe"))
