"""Boards that publish updates at a steady pace and repeat what is not answered."""

import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from starling.broker.backoff import BackoffPolicy
from starling.broker.link_events import (
    LinkConnected,
    LinkEvent,
    LinkSettings,
    MessageArrived,
    MqttMessage,
    TlsFiles,
)
from starling.broker.runtime.mqtt_link import MqttLink
from starling.protocol.errors import TransportError
from starling.protocol.wire.envelope import ENVELOPE, MessageKind
from starling.protocol.wire.topics import Topics

AGAIN_S = 5.0
"""After which a board sends again what has no proof."""
_WAKE_S = 0.002


@dataclass
class _Sent:
    at_s: float
    again_s: float
    message: MqttMessage
    final_s: float | None = None


class SteadyFeed:
    """All boards, on a thread of its own."""

    def __init__(
        self,
        port: int,
        files: TlsFiles,
        user: str,
        fleet: str,
        messages: Sequence[tuple[str, bytes]],
    ) -> None:
        """Connects to nothing yet.

        Args:
          port: The broker's, on this machine.
          files: TLS of a user who may publish for boards and listen.
          user: Its name.
          fleet: Whose topics.
          messages: Topic and payload of each update.
        """
        self._topics = Topics(fleet)
        self._left = deque(messages)
        self._sent: dict[str, _Sent] = {}
        self._open: set[str] = set()
        self._rate, self._open_max, self._next_s = 0.0, 0, 0.0
        self._more = 0
        self._connected = threading.Event()
        self._ends = threading.Event()
        settings = LinkSettings(
            "127.0.0.1",
            port,
            user,
            files,
            receive_maximum=1024,
            window=512,
            subscriptions=(self._topics.down("+"),),
            # What it waits for after a restart of the broker is the coordinators.
            backoff=BackoffPolicy(first_s=0.1, most_s=1.0),
        )
        draw = random.SystemRandom().random
        self._link = MqttLink(settings, self._happened, draw)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self, timeout_s: float) -> None:
        """Connects; publishes nothing before `pace`."""
        self._link.start()
        assert self._connected.wait(timeout_s), "the load is not let in"
        self._thread.start()

    def stop(self) -> None:
        """Ends."""
        self._ends.set()
        self._thread.join()
        self._link.stop()

    def pace(self, rate: float, open_max: int = 1 << 16, count: int = 1 << 30) -> None:
        """Sets how many a second, how many wait at once, and how many in all."""
        self._next_s = time.monotonic()
        self._rate, self._open_max, self._more = rate, open_max, count

    def wait_idle(self, timeout_s: float) -> None:
        """Waits until all that were to be sent are final, or for so long."""
        until_s = time.monotonic() + timeout_s
        while (self._more or self._open) and time.monotonic() < until_s:
            time.sleep(_WAKE_S)

    @property
    def waiting(self) -> int:
        """How many wait for their proof now."""
        return len(self._open)

    def waits_s(self, from_s: float, to_s: float) -> list[float | None]:
        """How long each waited that was sent between two moments; None still waits."""
        sent = list(self._sent.values())
        return [
            None if one.final_s is None else one.final_s - one.at_s
            for one in sent
            if from_s <= one.at_s < to_s
        ]

    def final(self, from_s: float, to_s: float) -> int:
        """How many were proven final between two moments."""
        sent = list(self._sent.values())
        return sum(
            one.final_s is not None and from_s <= one.final_s < to_s for one in sent
        )

    def _happened(self, event: LinkEvent) -> None:
        if isinstance(event, LinkConnected):
            self._connected.set()
        elif isinstance(event, MessageArrived):
            self._link.acknowledge(event.token)
            if ENVELOPE.unpack(event.payload).kind != MessageKind.FINAL:
                return
            who = self._topics.parse(event.topic)[1]
            sent = self._sent.get(who)
            if sent is not None and sent.final_s is None:
                sent.final_s = time.monotonic()
                self._open.discard(who)

    def _run(self) -> None:
        while not self._ends.wait(_WAKE_S):
            now_s = time.monotonic()
            while self._is_due(now_s):
                self._next_s = max(self._next_s + 1 / self._rate, now_s - 1.0)
                self._publish_next(now_s)
            for who in list(self._open):
                sent = self._sent[who]
                if now_s >= sent.again_s and self._publish(sent.message):
                    sent.again_s = now_s + AGAIN_S

    def _is_due(self, now_s: float) -> bool:
        due = self._rate > 0 and now_s >= self._next_s
        return due and self._more > 0 and len(self._open) < self._open_max

    def _publish_next(self, now_s: float) -> None:
        topic, payload = self._left.popleft()
        self._more -= 1
        message, who = MqttMessage(topic, payload), self._topics.parse(topic)[1]
        self._sent[who] = _Sent(now_s, now_s + AGAIN_S, message)
        self._open.add(who)
        if not self._publish(message):
            self._sent[who].again_s = now_s + _WAKE_S

    def _publish(self, message: MqttMessage) -> bool:
        try:
            self._link.publish(message)
        except TransportError:
            return False
        return True
