"""Somebody at the broker who damages, repeats and misdelivers what he sees.

He signs nothing, so that whatever he does may cost time and must cost nothing else. He
does not touch what the broker retains, which would only be a broker that is away.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from random import Random

from starling.broker.link_events import MqttMessage
from starling.protocol.chain.light_client import MANIFEST
from starling.protocol.ids import H, Version
from starling.protocol.wire.chunk_deltas import CHUNK_DELTA, is_delta
from starling.protocol.wire.chunks import CHUNK
from tests.sim.simulator.virtual_time import Timeline

SEEN_MAX = 200


def flipped(payload: bytes, rng: Random) -> bytes:
    """One bit is another."""
    place, bit = rng.randrange(len(payload)), 1 << rng.randrange(8)
    return payload[:place] + bytes([payload[place] ^ bit]) + payload[place + 1 :]


def truncated(payload: bytes, rng: Random) -> bytes:
    """The end is missing."""
    return payload[: rng.randrange(len(payload))]


def extended(payload: bytes, rng: Random) -> bytes:
    """There is something behind the end."""
    return payload + rng.randbytes(1 + rng.randrange(9))


def noise(payload: bytes, rng: Random) -> bytes:
    """Nothing that anybody ever said."""
    return rng.randbytes(1 + rng.randrange(2 * len(payload)))


def lie(payload: bytes, rng: Random) -> bytes:
    """A manifest of a newer version than there is."""
    manifest = MANIFEST.unpack(payload)
    version = Version(manifest.version + 1 + rng.randrange(3))
    model = replace(manifest.model, training=H(rng.randbytes(8)))
    return MANIFEST.pack(replace(manifest, version=version, model=model))


def swapped(payload: bytes, rng: Random) -> bytes:
    """A chunk, or its difference, under the right name with other data."""
    if is_delta(payload):
        delta = CHUNK_DELTA.unpack(payload)
        return CHUNK_DELTA.pack(replace(delta, data=rng.randbytes(len(delta.data))))
    chunk = CHUNK.unpack(payload)
    return CHUNK.pack(replace(chunk, data=rng.randbytes(len(chunk.data))))


LIES: dict[str, Callable[[bytes, Random], bytes]] = {
    "manifest": lie,
    "model": swapped,
    "up": swapped,
}
"""What he says where a plain damage would hardly be believed."""
DAMAGES: tuple[Callable[[bytes, Random], bytes], ...] = (
    flipped,
    truncated,
    extended,
    noise,
)


class MessageForger:
    """Follows every message with another one, now and then.

    Attributes:
      seen: The last messages that passed.
    """

    def __init__(self, time: Timeline) -> None:
        self._time = time
        self.seen: deque[MqttMessage] = deque(maxlen=SEEN_MAX)
        self.deliver: Callable[[MqttMessage], None] = lambda message: None

    def saw(self, message: MqttMessage) -> None:
        """A message passes."""
        self.seen.append(message)
        if self._time.happens(self._time.weather.forge):
            forged = MqttMessage(message.topic, self._forge(message))
            wait_s = self._time.rng.choice((0.0, 0.0, 0.3, 3.0))
            self._time.after(wait_s, lambda: self.deliver(forged))

    def _forge(self, message: MqttMessage) -> bytes:
        rng = self._time.rng
        leaf = message.topic.rsplit("/", 1)[1]
        if leaf in LIES and rng.random() < 0.5:
            return LIES[leaf](message.payload, rng)
        if rng.random() < 0.4:
            return rng.choice(self.seen).payload
        return rng.choice(DAMAGES)(message.payload, rng)
