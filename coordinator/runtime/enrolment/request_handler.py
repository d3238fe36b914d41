"""Port of the registrar's threads: the handler of its clients' requests."""

from typing import Protocol

from starling.broker.link_events import MqttMessage
from starling.protocol.wire.enrolment_messages import DETAIL_BYTES_MAX


class RequestHandler(Protocol):
    """Answers messages; each of its threads calls it by itself."""

    def admits(self, topic: str, size: int) -> bool:
        """True if `receive` would take a message of so many bytes; at once."""

    def receive(self, topic: str, payload: bytes) -> list[MqttMessage]:
        """Takes one message, and returns the answers; at once."""

    def process_pending(self) -> list[MqttMessage]:
        """Carries out what takes a while, and returns what to send of it."""

    def write_status(self) -> None:
        """Writes the files that an operator reads; called from time to time."""


def printable(detail: str) -> str:
    """A text as it may travel: printable, and not too long."""
    plain = "".join(letter if letter.isprintable() else " " for letter in detail)
    return plain.encode()[:DETAIL_BYTES_MAX].decode(errors="ignore")
