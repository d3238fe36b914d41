"""Publishes prepared messages through a real broker, and waits for each one's receipt.

`python -m benchmarks.harness.load_generator FILE` publishes what `run_load` wrote and
prints a JSON document; see `LoadOutcome`. It is the load of other benchmarks, in a
process of its own.
"""

import json
import queue
import random
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from starling.broker.link_events import (
    LinkConnected,
    LinkEvent,
    LinkSettings,
    MessageArrived,
    MqttMessage,
    TlsFiles,
)
from starling.broker.runtime.broker_home import BrokerHome
from starling.broker.runtime.mqtt_link import MqttLink
from starling.protocol.errors import TransportError
from starling.protocol.schema.msgpack_codec import encode
from starling.protocol.wire.envelope import ENVELOPE, MessageKind
from starling.protocol.wire.topics import Topics

USER = "loader"
SILENCE_S_MAX = 30.0


@dataclass(frozen=True)
class PreparedLoad:
    """What to publish.

    Attributes:
      port: The broker's, on this machine.
      files: TLS of a user who may publish and listen.
      fleet: Whose topics.
      receipts: Kinds of envelopes that each end one update's wait.
      rate: Updates that are published in a second; 0 for as many as the broker takes.
      open_max: Updates that wait for a receipt at once.
      overhears: Whether to count what coordinators say to each other.
      messages: Topic and payload of each.
    """

    port: int
    files: TlsFiles
    fleet: str
    receipts: tuple[MessageKind, ...]
    rate: int
    open_max: int
    overhears: bool
    messages: list[tuple[str, bytes]]


@dataclass(frozen=True)
class LoadOutcome:
    """What came of it.

    Attributes:
      elapsed_s: From the first publish to the last receipt.
      waits_s: From each update's publish to its receipt, rising.
      gossip: Messages that coordinators sent each other meanwhile; 0 unless overheard.
      gossip_bytes: Their payloads.
    """

    elapsed_s: float
    waits_s: list[float]
    gossip: int
    gossip_bytes: int


def admit_loader(broker: BrokerHome, folder: Path) -> TlsFiles:
    """Gives the load its rights, before the broker starts."""
    topics = Topics(broker.require_settings().fleet)
    access = broker.path / "access"
    rights = [
        f"user {USER}",
        f"topic write {topics.up('+')}",
        f"topic read {topics.down('+')}",
        f"topic read {topics.gossip('+')}",
        f"topic read {topics.private('+', '+')}",
    ]
    access.write_text("\n".join([access.read_text(), *rights, ""]))
    return broker.certificates.issue_files(USER, folder)


def run_load(load: PreparedLoad, folder: Path, timeout_s: float) -> LoadOutcome:
    """Publishes a load from a process of its own."""
    file = folder / "load"
    names = [str(part) for part in asdict(load.files).values()]
    settings = [load.port, names, load.fleet, [int(kind) for kind in load.receipts]]
    pace = [load.rate, load.open_max, int(load.overhears)]
    file.write_bytes(encode([settings, pace, load.messages]))
    command = [sys.executable, "-m", "benchmarks.harness.load_generator", str(file)]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, timeout=timeout_s
    )
    return LoadOutcome(**json.loads(done.stdout))


def read_load(path: Path) -> PreparedLoad:
    """Reads what `run_load` wrote."""
    match msgspec.msgpack.decode(path.read_bytes()):
        case [
            [int(port), [str(ca), str(certificate), str(key)], str(fleet), list(kinds)],
            [int(rate), int(open_max), int(overhears)],
            list(rows),
        ]:
            files = TlsFiles(Path(ca), Path(certificate), Path(key))
            receipts = tuple(kind for kind in MessageKind if kind in kinds)
            messages = [_message(row) for row in rows]
            heard = bool(overhears)
            return PreparedLoad(
                port, files, fleet, receipts, rate, open_max, heard, messages
            )
        case _:
            raise ValueError(f"{path}: not a load")


def _message(row: object) -> tuple[str, bytes]:
    match row:
        case [str(topic), bytes(payload)]:
            return topic, payload
        case _:
            raise ValueError("not a message")


class _Boards:
    """All boards of a load, seen from the broker."""

    def __init__(self, load: PreparedLoad) -> None:
        self._load = load
        self._topics = Topics(load.fleet)
        self._events: queue.SimpleQueue[LinkEvent] = queue.SimpleQueue()
        filters = [self._topics.down("+")]
        if load.overhears:
            filters.append(self._topics.gossip("+"))
            filters.append(self._topics.private("+", "+"))
        settings = LinkSettings(
            "127.0.0.1",
            load.port,
            USER,
            load.files,
            receive_maximum=1024,
            window=256,
            subscriptions=tuple(filters),
        )
        self._link = MqttLink(settings, self._events.put, random.SystemRandom().random)
        self._sent = 0
        self._sent_s: dict[str, float] = {}
        self._waits_s: list[float] = []
        self._gossip: list[int] = []

    def run(self) -> LoadOutcome:
        """Publishes everything."""
        self._link.start()
        while not isinstance(self._events.get(timeout=SILENCE_S_MAX), LinkConnected):
            pass
        start_s = time.monotonic()
        while len(self._waits_s) < len(self._load.messages):
            pause_s = self._publish(time.monotonic() - start_s)
            try:
                event = self._events.get(timeout=pause_s)
            except queue.Empty:
                if pause_s == SILENCE_S_MAX:
                    raise
                continue
            if isinstance(event, MessageArrived):
                self._link.acknowledge(event.token)
                self._hear(event)
        elapsed_s = time.monotonic() - start_s
        self._link.stop()
        waits_s = sorted(self._waits_s)
        return LoadOutcome(elapsed_s, waits_s, len(self._gossip), sum(self._gossip))

    def _publish(self, time_s: float) -> float:
        """Publishes what is due; seconds until the next is, unless an event comes."""
        load = self._load
        while self._sent < len(load.messages):
            if load.rate and self._sent > time_s * load.rate:
                return max(0.0, self._sent / load.rate - time_s)
            if len(self._sent_s) >= load.open_max:
                break
            topic, payload = load.messages[self._sent]
            try:
                self._link.publish(MqttMessage(topic, payload))
            except TransportError:
                break
            self._sent_s[self._topics.parse(topic)[1]] = time.monotonic()
            self._sent += 1
        return SILENCE_S_MAX

    def _hear(self, event: MessageArrived) -> None:
        branch, who, _ = self._topics.parse(event.topic)
        if branch == "g":
            self._gossip.append(len(event.payload))
        elif ENVELOPE.unpack(event.payload).kind in self._load.receipts:
            sent_s = self._sent_s.pop(who, None)
            if sent_s is not None:
                self._waits_s.append(time.monotonic() - sent_s)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(_Boards(read_load(Path(sys.argv[1]))).run())))
