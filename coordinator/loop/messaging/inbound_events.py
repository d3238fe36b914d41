"""Messages of the broker as events of the core; floods are dropped unread.

A topic belongs to one account of the broker. One whose message the core ignored, since
it is over the account's allowance, is muted for a while; see `muted_topics`.
"""

from collections.abc import Callable, Mapping

from starling.broker.broker_settings import CHECKER
from starling.broker.link_events import LinkEvent, MessageArrived
from starling.coordinator.loop.counters import CoordinatorCounters
from starling.coordinator.loop.messaging.muted_topics import MutedTopics
from starling.coordinator.loop.messaging.publisher import address
from starling.coordinator.step.effects import Effect, RecordOverLimit, RecordRefusal
from starling.coordinator.step.events import (
    BoardMessageArrived,
    BoardStateArrived,
    ChunkArrived,
    Event,
    PeerFrameArrived,
)
from starling.coordinator.step.state import CoordinatorSettings
from starling.protocol.errors import DecodeError, Reason

REST_S = 0.05
"""That a flood is left unread at a time: votes wait no longer, and
messages at 100 a second cost less than half."""
_EVENTS: Mapping[str, type[ChunkArrived | BoardMessageArrived | BoardStateArrived]] = {
    "up": ChunkArrived,
    "say": BoardMessageArrived,
    "state": BoardStateArrived,
}


class InboundEvents:
    """From topics to events."""

    def __init__(
        self,
        settings: CoordinatorSettings,
        tally: CoordinatorCounters,
        now_s: Callable[[], float],
    ) -> None:
        """Mutes nothing yet.

        Args:
          settings: For topics and our own id.
          tally: Where boards' bytes and what is dropped are counted.
          now_s: Monotonic clock.
        """
        self._topics = settings.topics
        self._check = settings.topics.say(CHECKER)
        self._myself = settings.ledger.key.identity
        self._tally = tally
        self._muted = MutedTopics(now_s)
        self._dropped_last = self._heard_last = False

    def may_wait(self, event: LinkEvent) -> bool:
        """True if an event of the link need not wake the loop; its thread asks."""
        if not isinstance(event, MessageArrived):
            return False
        muted = event.topic in self._muted
        self._dropped_last |= muted
        self._heard_last |= not muted
        return muted

    def rest_s(self) -> float:
        """Pause in which the link may leave what comes unread; `LinkSettings.rest_s`.

        Only after a turn that brought nothing but what will be dropped.
        """
        rests = self._dropped_last and not self._heard_last
        self._dropped_last = self._heard_last = False
        return REST_S if rests else 0.0

    def event(self, message: MessageArrived) -> Event | None:
        """The event that a message is; None if it is to be dropped."""
        if message.topic == self._check:
            # Somebody asks the broker, not us, whether we listen.
            return None
        try:
            branch, device, leaf = address(self._topics, message.topic)
        except DecodeError as error:
            self._tally.refuse(RecordRefusal(None, Reason.MALFORMED, str(error)))
            return None
        if branch == "g":
            own = device == self._myself
            return None if own else PeerFrameArrived(device, message.payload)
        self._tally.device(device).bytes_up += len(message.payload)
        if message.topic in self._muted:
            self._tally.ignore(device)
            return None
        make = _EVENTS.get(leaf)
        if make is None:
            self._tally.refuse(RecordRefusal(device, Reason.UNKNOWN_KIND, leaf))
            return None
        # A board's check, too, asks the broker, not us, whether somebody listens.
        is_check = make is BoardMessageArrived and not message.payload
        return None if is_check else make(device, message.payload)

    def caused(self, message: MessageArrived, effects: list[Effect]) -> None:
        """Notes what came of a message that was an event."""
        if any(isinstance(effect, RecordOverLimit) for effect in effects):
            self._muted.add(message.topic)
