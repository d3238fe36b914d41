"""Publishes prepared messages as fast as the broker takes them, and counts receipts.

`python -m benchmarks.ingest_load FILE` prints the seconds from the first publish to
the last receipt. It is the load of `benchmarks.ingest`, in a process of its own.
"""

import queue
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from broker.events import (
    Connected,
    LinkEvent,
    LinkSettings,
    Message,
    MessageArrived,
    TlsFiles,
)
from broker.rim.link import Link
from protocol.codec import decode, encode
from protocol.envelope import ENVELOPE, Kind
from protocol.errors import TransportError

RECEIPTS = (Kind.ACCEPTED, Kind.FINAL)

FILE_BYTES_MAX = 1 << 30


@dataclass(frozen=True)
class Load:
    """What to publish.

    Attributes:
      port: The broker's, on this machine.
      files: TLS of a user who may publish and listen.
      receipts: Topic filter of the receipts.
      messages: Topic and payload of each.
    """

    port: int
    files: TlsFiles
    receipts: str
    messages: list[tuple[str, bytes]]


def write_load(path: Path, load: Load) -> None:
    """Writes a load for the process that publishes it."""
    files = load.files
    names = [str(files.authority), str(files.certificate), str(files.key)]
    path.write_bytes(encode([load.port, names, load.receipts, load.messages]))


def read_load(path: Path) -> Load:
    """Reads what `write_load` wrote."""
    match decode(path.read_bytes(), FILE_BYTES_MAX):
        case [int(port), [str(ca), str(certificate), str(key)], str(topic), list(rows)]:
            files = TlsFiles(Path(ca), Path(certificate), Path(key))
            return Load(port, files, topic, [_message(row) for row in rows])
        case _:
            raise ValueError(f"{path}: not a load")


def _message(row: object) -> tuple[str, bytes]:
    match row:
        case [str(topic), bytes(payload)]:
            return topic, payload
        case _:
            raise ValueError("not a message")


def publish_all(load: Load) -> float:
    """Publishes everything; seconds until the last receipt."""
    events: queue.SimpleQueue[LinkEvent] = queue.SimpleQueue()
    settings = LinkSettings(
        "127.0.0.1",
        load.port,
        "loader",
        load.files,
        receive_maximum=1024,
        subscriptions=(load.receipts,),
    )
    link = Link(settings, events.put, random.SystemRandom().random)
    link.start()
    while not isinstance(events.get(timeout=30), Connected):
        pass
    start_s = time.monotonic()
    sent = 0
    boards: set[str] = set()
    while len(boards) < len(load.messages):
        try:
            while sent < len(load.messages):
                link.publish(Message(*load.messages[sent]))
                sent += 1
        except TransportError:
            pass
        event = events.get(timeout=30)
        if isinstance(event, MessageArrived):
            link.acknowledge(event.token)
            if ENVELOPE.unpack(event.payload).kind in RECEIPTS:
                boards.add(event.topic)
    elapsed_s = time.monotonic() - start_s
    link.stop()
    return elapsed_s


if __name__ == "__main__":
    sys.stdout.write(f"{publish_all(read_load(Path(sys.argv[1])))}\n")
