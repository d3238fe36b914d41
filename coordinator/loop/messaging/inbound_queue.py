"""Inbound queue: messages that others wait for come before uploads.

Uploads are long work and come in swarms; votes and proposals behind them would make
every coordinator wait for the busiest one. The broker gets its acknowledgements in the
order of arrival all the same.

Source: MQTT 5.0 section 4.6, [MQTT-4.6.0-2] (order of acknowledgements).
"""

from collections import deque
from typing import Generic, TypeVar

from starling.broker.link_events import AckToken, MessageArrived

_T = TypeVar("_T")
_UPLOADS = "/up"


class InboundQueue(Generic[_T]):
    """Two queues, and the acknowledgements that are due."""

    def __init__(self) -> None:
        """Starts empty."""
        self._urgent: deque[_T | MessageArrived] = deque()
        self._uploads: deque[MessageArrived] = deque()
        self._arrived: deque[MessageArrived] = deque()
        self._open: set[int] = set()

    @property
    def uploads(self) -> int:
        """Number of waiting messages with parts of uploads."""
        return len(self._uploads)

    def add(self, item: _T | MessageArrived) -> None:
        """Takes something that came in."""
        if not isinstance(item, MessageArrived):
            self._urgent.append(item)
            return
        self._arrived.append(item)
        if item.topic.endswith(_UPLOADS):
            self._uploads.append(item)
            self._open.add(id(item))
        else:
            self._urgent.append(item)

    def urgent(self) -> list[_T | MessageArrived]:
        """Takes all that others wait for, in the order of arrival."""
        taken = list(self._urgent)
        self._urgent.clear()
        return taken

    def upload(self) -> MessageArrived | None:
        """Takes the next message that uploads something."""
        if not self._uploads:
            return None
        message = self._uploads.popleft()
        self._open.remove(id(message))
        return message

    def acknowledgements(self) -> list[AckToken]:
        """Takes the tokens of what was taken, up to the first that was not."""
        due: list[AckToken] = []
        while self._arrived and id(self._arrived[0]) not in self._open:
            due.append(self._arrived.popleft().token)
        return due
