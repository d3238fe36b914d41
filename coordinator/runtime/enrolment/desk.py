"""Port of the registrar's threads: who answers clients of a broker."""

from typing import Protocol

from starling.broker.link_events import MqttMessage
from starling.protocol.wire.enrolment_messages import DETAIL_BYTES_MAX


class Desk(Protocol):
    """Answers messages; each of its threads calls it by itself."""

    def admits(self, topic: str, size: int) -> bool:
        """True if a message of so many bytes is heard; at once, and before `hear`."""

    def hear(self, topic: str, payload: bytes) -> list[MqttMessage]:
        """Takes one message, and returns the answers; at once."""

    def work(self) -> list[MqttMessage]:
        """Carries out what takes a while, and returns what is to be told of it."""

    def note(self) -> None:
        """Writes down what people look at; called from time to time."""


def printable(detail: str) -> str:
    """A text as it may travel: printable, and not too long."""
    plain = "".join(letter if letter.isprintable() else " " for letter in detail)
    return plain.encode()[:DETAIL_BYTES_MAX].decode(errors="ignore")
