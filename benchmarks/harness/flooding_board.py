"""A board that floods: `python -m benchmarks.harness.flooding_board FILE`.

In turns it sends junk as uploads, junk as requests, check-ins, requests for chunks, and
its own valid update again, while the switch of its load is there. It runs until it is
ended, so that it is connected in calm, too.
"""

import itertools
import random
import sys
import threading
import time
from contextlib import suppress
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
from starling.broker.runtime.mqtt_link import MqttLink
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.errors import TransportError
from starling.protocol.ids import ChainId, Digest, TaskId, Version, device_name
from starling.protocol.schema.msgpack_codec import encode
from starling.protocol.wire.envelope import ENVELOPE, MessageKind, sign
from starling.protocol.wire.message_bodies import (
    CHECK_IN,
    CHUNK_REQUEST,
    CheckIn,
    ChunkRequest,
)
from starling.protocol.wire.topics import Topics

JUNK_BYTES = 300


class Flood:
    """What it sends, in turns."""

    def __init__(self, key: SigningKey, chain: ChainId, digest: Digest) -> None:
        """Takes over the board's key and what there is to ask for."""
        self._key, self._chain, self._digest = key, chain, digest
        self._counters = itertools.count(time.time_ns() // 1_000_000)
        self.name = device_name(key.identity)

    def messages(self, topics: Topics, again: bytes) -> list[MqttMessage]:
        """One of each kind."""
        draw = random.Random()  # noqa: S311 - junk
        up, say = topics.up(self.name), topics.say(self.name)
        check_in = CheckIn(TaskId(0), Version(0), 0, 0, 0, 600)
        asked = ChunkRequest(self._digest, (0,))
        return [
            MqttMessage(up, draw.randbytes(JUNK_BYTES)),
            MqttMessage(say, draw.randbytes(JUNK_BYTES)),
            MqttMessage(say, self._said(MessageKind.CHECK_IN, CHECK_IN.pack(check_in))),
            MqttMessage(
                say, self._said(MessageKind.CHUNK_REQUEST, CHUNK_REQUEST.pack(asked))
            ),
            MqttMessage(up, again),
        ]

    def _said(self, kind: MessageKind, body: bytes) -> bytes:
        envelope = sign(self._key, self._chain, kind, next(self._counters), body)
        return ENVELOPE.pack(envelope)


def write_flood(path: Path, port: int, files: TlsFiles, fields: list[object]) -> None:
    """Writes what `main` reads.

    Args:
      path: Where to.
      port: The broker's.
      files: The board's.
      fields: Fleet, switch, rate, seed of the key, chain id, digest, valid update.
    """
    names = [str(files.authority), str(files.certificate), str(files.key)]
    path.write_bytes(encode([port, names, *fields]))


def main() -> None:
    """Floods until it is ended."""
    port, names, fleet, switch, rate, seed, chain, digest, again = (
        msgspec.msgpack.decode(Path(sys.argv[1]).read_bytes())
    )
    flood, topics = Flood(SigningKey(seed), chain, digest), Topics(fleet)
    connected = threading.Event()

    def happened(event: LinkEvent) -> None:
        if isinstance(event, LinkConnected):
            connected.set()
        elif isinstance(event, MessageArrived):
            link.acknowledge(event.token)

    settings = LinkSettings(
        "127.0.0.1",
        port,
        flood.name,
        TlsFiles(*map(Path, names)),
        window=256,
        subscriptions=topics.board_filters(flood.name),
    )
    link = MqttLink(settings, happened, random.SystemRandom().random)
    link.start()
    connected.wait()
    waiting: list[MqttMessage] = []
    next_s = time.monotonic()
    while True:
        time.sleep(0.005)
        now_s = time.monotonic()
        if not Path(switch).exists():
            next_s = now_s
            continue
        while now_s >= next_s:
            waiting = waiting or flood.messages(topics, again)
            with suppress(TransportError):
                link.publish(waiting.pop())
            next_s += 1 / rate


if __name__ == "__main__":
    main()
