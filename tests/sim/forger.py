"""Somebody at the broker who damages, repeats and misdelivers what he sees.

He signs nothing, so that whatever he does may cost time and must cost nothing else. He
does not touch what the broker retains, which would only be a broker that is away.
"""

from collections import deque
from collections.abc import Callable

from broker.events import Message
from tests.sim.timeline import Timeline

SEEN_MAX = 64


class Forger:
    """Follows every message with another one, now and then."""

    def __init__(self, time: Timeline) -> None:
        self._time = time
        self._seen: deque[Message] = deque(maxlen=SEEN_MAX)
        self.deliver: Callable[[Message], None] = lambda message: None

    def saw(self, message: Message) -> None:
        """A message passes."""
        self._seen.append(message)
        if not self._time.happens(self._time.weather.forge):
            return
        forged = Message(message.topic, self._forge(message.payload))
        self._time.after(self._time.about(0.5), lambda: self.deliver(forged))

    def _forge(self, payload: bytes) -> bytes:
        rng = self._time.rng
        place = rng.randrange(len(payload))
        match rng.randrange(6):
            case 0:
                bit = 1 << rng.randrange(8)
                return (
                    payload[:place]
                    + bytes([payload[place] ^ bit])
                    + payload[place + 1 :]
                )
            case 1:
                return payload[:place]
            case 2:
                return payload + rng.randbytes(1 + place % 9)
            case 3:
                return rng.randbytes(place + 1)
            case 4:
                return self._seen[0].payload
            case _:
                return rng.choice(self._seen).payload
