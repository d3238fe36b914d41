"""Brokers and who is connected to them, in memory: nothing is lost and nothing is slow.

Boards and coordinators are dealt out over the brokers in turn. A coordinator hears the
boards of its own broker, and at every broker what other coordinators say.
"""

from collections.abc import Callable, Sequence

from starling.broker.link_events import AckToken, MessageArrived, MqttMessage
from starling.fleet.virtual.virtual_coordinator import VirtualCoordinator
from starling.protocol.wire.topics import Topics

ToBoard = Callable[[str, MessageArrived], None]
"""Delivers to a board, by its name."""
ToEveryBoard = Callable[[int, MessageArrived], None]
"""Delivers a manifest to the boards of a broker."""
_NO_ANSWER = AckToken(0, 0)


def broker_of(number: int, brokers: int) -> int:
    """The broker of a coordinator or board, counted from 1 as they are."""
    return (number - 1) % brokers + 1


class VirtualNetwork:
    """All brokers of a fleet.

    Attributes:
      topics: Of the fleet.
      manifests: The retained manifest of each broker.
    """

    def __init__(self, topics: Topics, to_board: ToBoard, to_all: ToEveryBoard) -> None:
        """Nobody is connected yet.

        Args:
          topics: Of the fleet.
          to_board: Takes what is for one board.
          to_all: Takes what is for all boards of a broker.
        """
        self.manifests: dict[int, MessageArrived] = {}
        self.topics = topics
        self._to_board = to_board
        self._to_all = to_all
        self._coordinators: list[VirtualCoordinator] = []

    def join(self, coordinators: Sequence[VirtualCoordinator]) -> None:
        """Connects coordinators."""
        self._coordinators.extend(coordinators)

    def from_coordinator(
        self, speaker: VirtualCoordinator, message: MqttMessage
    ) -> None:
        """A coordinator published something at its broker."""
        branch, name, leaf = self.topics.parse(message.topic)
        event = MessageArrived(message.topic, message.payload, _NO_ANSWER)
        if branch == "d":
            self._to_board(name, event)
        elif branch == "t":
            self.manifests[speaker.broker] = event
            self._to_all(speaker.broker, event)
        elif branch == "g":
            self._gossip(speaker, event, leaf)

    def from_board(self, broker: int, message: MqttMessage) -> None:
        """A board published something at its broker."""
        event = MessageArrived(message.topic, message.payload, _NO_ANSWER)
        for each in self._coordinators:
            if each.broker == broker:
                each.happened(event, 0)

    def _gossip(
        self, speaker: VirtualCoordinator, event: MessageArrived, leaf: str
    ) -> None:
        for each in self._coordinators:
            # To all, or to one: the access rights of a real broker let nobody else read
            # it.
            if each is not speaker and leaf in ("say", f"to/{each.name}"):
                each.happened(event, self._link(each.broker, speaker.broker))

    def _link(self, own: int, other: int) -> int:
        """Number of a client's link to a broker: 0 to its own, then in order."""
        if own == other:
            return 0
        return other if other < own else other - 1
