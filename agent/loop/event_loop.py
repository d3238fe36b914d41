"""The loop around the core: takes what happened, and carries out what the core wants.

A message is acknowledged to the broker after its effects are done, so that whatever it
led to is durable. Whoever drives it calls `turn` with what came in, not later than
`wake_at_s`.
"""

from collections.abc import Callable, Iterable

from starling.agent import machine
from starling.agent.loop.effect_executor import AgentEffectExecutor
from starling.agent.loop.ports import AgentItem, AgentPorts
from starling.agent.step import events as e
from starling.agent.step.effects import Effect
from starling.agent.step.state import AgentSettings, AgentState
from starling.broker.link_events import (
    REFUSED_FROM,
    Delivered,
    LinkConnected,
    LinkDisconnected,
    MessageArrived,
    MqttMessage,
)
from starling.protocol.errors import DecodeError, ProtocolError
from starling.protocol.wire.chunk_deltas import CHUNK_DELTA, is_delta
from starling.protocol.wire.chunks import CHUNK, CHUNK_BYTES
from starling.protocol.wire.message_bodies import DevicePhase

_MESSAGES: dict[tuple[str, str], Callable[[bytes], e.Event]] = {
    ("d", "down"): e.DownArrived,
    ("d", "model"): e.ModelChunkArrived,
    ("t", "manifest"): e.ManifestArrived,
    ("c", "state"): e.CoordinatorStateArrived,
}
"""Events by branch and leaf of a message's topic."""


class AgentLoop:
    """One agent, from its start to its end.

    Attributes:
      settings: Of the core.
      state: Of the core.
      bytes_down: Received since the start.
      bytes_saved: By which chunks that came as differences were shorter.
    """

    def __init__(
        self, settings: AgentSettings, state: AgentState, ports: AgentPorts
    ) -> None:
        """Says and writes nothing yet; see `begin`.

        Args:
          settings: Of the core.
          state: Of the core, at the start.
          ports: The world.
        """
        self.settings = settings
        self.state = state
        self.bytes_down = self.bytes_saved = 0
        self._ports = ports
        self._hands = AgentEffectExecutor(ports, settings.topics.up(settings.device))

    @property
    def wake_at_s(self) -> float:
        """Time of the next turn, though nothing comes in."""
        return self.state.wake_at_s

    @property
    def bytes_up(self) -> int:
        """Published since the start."""
        return self._hands.bytes_up

    def begin(self, effects: tuple[Effect, ...]) -> None:
        """Carries out the first effects of the core.

        Raises:
          StorageError: If the disk refuses.
        """
        self._hands.carry_out(effects)

    def turn(self, items: Iterable[AgentItem]) -> None:
        """Takes what happened, in order, and then the time.

        Args:
          items: What came in since the last turn.

        Raises:
          StorageError: If the disk refuses; nothing after that happens.
        """
        for item in items:
            self._take(item)
        # After the items: what came in may have moved the moment.
        if self._ports.now_s() >= self.state.wake_at_s:
            self._step(e.WakeTimeReached())

    def last_will(self) -> MqttMessage:
        """Last will: the broker publishes it once the next connection is lost."""
        return self._farewell(DevicePhase.LOST)

    def say_goodbye(self) -> None:
        """Tells everybody that it ends, so that nobody takes it for a loss."""
        # Without a connection the broker publishes the last will by itself.
        if self.state.connected:
            self._hands.publish(self._farewell(DevicePhase.DISCONNECTED))

    def _farewell(self, parting: DevicePhase) -> MqttMessage:
        # The core signs it, as it signs every status: a will that anybody could write
        # would let a stranger declare a board lost.
        self.state, said = machine.farewell(self.settings, self.state, parting)
        return MqttMessage(said.topic, said.payload, said.retain)

    def _take(self, item: AgentItem) -> None:
        match item:
            case MessageArrived():
                self._message(item)
            case Delivered(publish_id, reason_code):
                self._delivered(publish_id, reason_code)
            case LinkConnected():
                self._ports.monitor.connected()
                self._step(e.BrokerConnected())
            case LinkDisconnected():
                self._ports.monitor.disconnected(item)
                # Void, as no answer to them comes: the core sends these chunks again.
                self._hands.in_flight.clear()
                self._step(e.BrokerDisconnected())
            case _:
                self._step(item)

    def _message(self, message: MessageArrived) -> None:
        self.bytes_down += len(message.payload)
        try:
            branch, _, leaf = self.settings.topics.parse(message.topic)
        except DecodeError as error:
            self._ports.monitor.note(str(error), warns=True)
        else:
            # A leaf that this release does not know is acknowledged and left alone, so
            # that later releases can add some.
            maker = _MESSAGES.get((branch, leaf))
            payload = (
                self._plain(message.payload) if leaf == "model" else message.payload
            )
            if maker is not None and payload:
                self._step(maker(payload), message.traceparent)
        # Also what could not be read: the broker would deliver it again for ever.
        self._ports.bus.acknowledge(message.token)

    def _plain(self, payload: bytes) -> bytes:
        """A chunk of a model, made out of its difference from what is stored here.

        Returns:
          Nothing for a difference that is of no use; its chunk is asked for again.
        """
        fetch = self.state.fetch
        if not is_delta(payload):
            return payload
        try:
            delta = CHUNK_DELTA.unpack(payload)
            is_wanted = fetch is not None and fetch.assembly.digest == delta.digest
            # Bytes that no download asked for would be rebuilt and thrown away.
            if not is_wanted or delta.base not in self.state.blobs:
                return b""
            store = self._ports.store
            # What comes out is compared with the wanted digest once all pieces are
            # there: a wrong difference costs a download, and nothing else.
            piece = store.blob_piece(delta.base, delta.start, CHUNK_BYTES)
            chunk = CHUNK.pack(delta.chunk(piece))
        except ProtocolError as error:
            self._ports.monitor.note(str(error), warns=True)
            return b""
        self.bytes_saved += len(chunk) - len(payload)
        return chunk

    def _delivered(self, publish_id: int, reason_code: int) -> None:
        # Codes below are successes of several kinds, such as 0x10, no matching
        # subscribers.
        code = reason_code if reason_code >= REFUSED_FROM else 0
        # Only changes: each chunk is answered, and nearly all alike.
        if code != self.state.answers.broker_code:
            self._step(e.BrokerAnswered(code))
        chunk = self._hands.in_flight.pop(publish_id, None)
        if chunk is not None:
            self._step(e.ChunkDelivered(*chunk, taken=reason_code == 0))

    def _step(self, event: e.Event, context: str = "") -> None:
        spans = self._ports.spans
        if spans is not None:
            spans.taken(event, context)
        self.state, effects = machine.step(
            self.settings, self.state, event, self._ports.now_s()
        )
        # Before the effects: a log that ends in a fault then shows what was being done.
        self._ports.monitor.stepped(event, effects)
        self._hands.carry_out(effects)
        if spans is not None:
            spans.done(event, effects)
