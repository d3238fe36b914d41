"""Effects that end in messages: what they say is read from the store where need be."""

from functools import lru_cache, partial

from starling.broker.link_events import MqttMessage
from starling.coordinator.chain.gossip_messages import frame, subject_of
from starling.coordinator.chain.node.node import SendGossip
from starling.coordinator.handlers.peer_messages import SUBJECTS
from starling.coordinator.loop.counters import CoordinatorCounters
from starling.coordinator.loop.messaging.answers_to_peers import PeerAnswers
from starling.coordinator.loop.messaging.outbound_queue import OutboundQueue
from starling.coordinator.loop.messaging.priority_lanes import (
    DeferredMessage,
)
from starling.coordinator.loop.ports import LoopPorts
from starling.coordinator.loop.storage.blob_cache import BlobCache, final_of
from starling.coordinator.loop.storage.delta_cache import DeltaCache
from starling.coordinator.step.effects import (
    LogLine,
    PublishChunks,
    PublishFinality,
    SendAnswer,
    SendContentKey,
    SendFrame,
    SendMessage,
)
from starling.coordinator.step.state import CoordinatorSettings
from starling.coordinator.wire.frames import payloads
from starling.coordinator.wire.lanes import PriorityLane
from starling.protocol.chain.light_client import FINAL
from starling.protocol.ids import (
    DeviceId,
    Digest,
    device_from_name,
    device_id,
    device_name,
)
from starling.protocol.wire.chunks import CHUNK, chunk_at, chunk_count
from starling.protocol.wire.envelope import ENVELOPE, MessageKind, sign
from starling.protocol.wire.topics import Topics

GOSSIP_EXPIRY_S = 20
"""After which the broker need not deliver gossip to whoever was away."""
OutboundEffect = (
    SendMessage
    | PublishChunks
    | PublishFinality
    | SendGossip
    | SendFrame
    | SendAnswer
    | SendContentKey
)


class Publisher:
    """Turns effects into messages and counts what each board is sent."""

    def __init__(
        self,
        settings: CoordinatorSettings,
        ports: LoopPorts,
        blobs: BlobCache,
        outgoing: OutboundQueue,
        tally: CoordinatorCounters,
    ) -> None:
        """Takes over the queue in front of the link.

        Args:
          settings: For topics and our key.
          ports: For proofs, blocks and spans, and to tell people of vain questions.
          blobs: Of the store.
          outgoing: Where messages are queued.
          tally: The counters.
        """
        self._settings = settings
        self._ports = ports
        self._outgoing = outgoing
        self._tally = tally
        self._blobs = blobs
        self._deltas = DeltaCache()
        self._answers = PeerAnswers(settings, ports.store, self._blobs)
        self._everybody = settings.topics.gossip(settings.name)

    def say(self, effect: OutboundEffect) -> None:
        """Queues what an effect says."""
        match effect:
            case SendMessage(topic, payload, retain, update):
                self._publish(topic, payload, retain, update)
            case PublishChunks():
                self._publish_chunks(effect)
            case PublishFinality():
                self._publish_final(effect)
            case SendGossip(packed, to):
                one = None if to is None else self._private(device_id(to))
                self._publish_frame(one or self._everybody, packed)
            case SendFrame(to, subject, content):
                self._publish_frame(self._private(to), frame(subject, content))
            case SendAnswer() | SendContentKey():
                for packed in self._answers.frames(effect):
                    self._publish_frame(self._private(effect.to), packed)

    def _publish(
        self, topic: str, payload: bytes, retain: bool, update: Digest | None
    ) -> None:
        spans, context = self._ports.spans, ""
        if spans is not None and update is not None:
            context = spans.context(update)
        message = MqttMessage(topic, payload, retain, traceparent=context)
        self._outgoing.add(message, PriorityLane.CONTROL)
        # What is retained is for everybody; all the rest goes to one board.
        if not retain:
            _, device, _ = address(self._settings.topics, topic)
            self._tally.device(device).bytes_down += len(payload)

    def _publish_chunks(self, effect: PublishChunks) -> None:
        blob = self._blobs.get(effect.digest)
        if blob is None:
            text = f"a board asks for {effect.digest.hex()}, which is not here"
            self._ports.monitor.log(LogLine(text))
            return
        topic = self._settings.topics.model(device_name(effect.device))
        for index in effect.indices:
            if index < chunk_count(len(blob)):
                make = partial(self._chunk, topic, effect, index)
                self._outgoing.add(DeferredMessage(topic, make), PriorityLane.BULK)

    def _chunk(
        self, topic: str, asked: PublishChunks, index: int
    ) -> MqttMessage | None:
        blob = self._blobs.get(asked.digest)
        if blob is None:
            return None
        payload = self._delta(asked, index, blob)
        payload = payload or CHUNK.pack(chunk_at(blob, asked.digest, index))
        self._tally.device(asked.device).bytes_down += len(payload)
        return MqttMessage(topic, payload)

    def _delta(self, asked: PublishChunks, index: int, blob: bytes) -> bytes:
        """A chunk as its difference from what the board has; empty if longer."""
        base = None if asked.base is None else self._blobs.get(asked.base)
        if asked.base is None or base is None:
            return b""
        return self._deltas.get((asked.base, base), (asked.digest, blob), index)

    def _publish_final(self, effect: PublishFinality) -> None:
        proof = final_of(self._ports.store, effect.transaction)
        if proof is None:
            return
        settings = self._settings
        key, chain_id = settings.ledger.key, settings.gate.chain_id
        body = FINAL.pack(proof)
        envelope = sign(key, chain_id, MessageKind.FINAL, effect.counter, body)
        topic = settings.topics.down(device_name(effect.device))
        self._publish(topic, ENVELOPE.pack(envelope), False, effect.transaction)

    def _publish_frame(self, topic: str, packed: bytes) -> None:
        """Publishes a frame for coordinators in the lane of its subject."""
        lane = SUBJECTS[subject_of(packed)].lane
        for payload in payloads(packed):
            message = MqttMessage(topic, payload, expiry_s=GOSSIP_EXPIRY_S)
            self._outgoing.add(message, lane)

    def _private(self, to: DeviceId) -> str:
        return self._settings.topics.private(self._settings.name, device_name(to))


@lru_cache(maxsize=1 << 16)
def address(topics: Topics, topic: str) -> tuple[str, DeviceId, str]:
    """A topic's branch, whose it is, and its leaf.

    Raises:
      DecodeError: If it is not a topic of one board or coordinator of this fleet.
    """
    branch, whose, leaf = topics.parse(topic)
    return branch, device_from_name(whose), leaf
