"""Effects that end in messages: what they say is read from the store where need be."""

import logging
from functools import lru_cache, partial

from broker.events import Message
from coordinator.effects import (
    Give,
    GiveKey,
    Publish,
    PublishChunks,
    PublishFinal,
    Tell,
)
from coordinator.gossip import FRAME, Frame, Subject, payloads
from coordinator.ledger import wire
from coordinator.ledger.node import Gossip
from coordinator.ledger.storage import Store
from coordinator.rim.answers import Answers
from coordinator.rim.lanes import Deferred, Lane
from coordinator.rim.outgoing import Outgoing
from coordinator.rim.tally import Tally
from coordinator.rim.wholes import WholeCache, final_of
from coordinator.state import Settings
from protocol.chunks import CHUNK, chunk_at, chunk_count
from protocol.envelope import ENVELOPE, Kind, sign
from protocol.ids import DeviceId, device_from_name, device_id, device_name
from protocol.light import FINAL
from protocol.topics import Topics

log = logging.getLogger("starling.coordinator")

GOSSIP_EXPIRY_S = 20
"""After which the broker need not deliver gossip to whoever was away."""
Said = Publish | PublishChunks | PublishFinal | Gossip | Tell | Give | GiveKey


class Publisher:
    """Turns effects into messages and counts what each board is sent."""

    def __init__(
        self, settings: Settings, store: Store, outgoing: Outgoing, tally: Tally
    ) -> None:
        """Takes over the queue in front of the link.

        Args:
          settings: For topics and our key.
          store: For wholes, proofs and blocks.
          outgoing: Where messages are queued.
          tally: The counters.
        """
        self._settings = settings
        self._store = store
        self._outgoing = outgoing
        self._tally = tally
        self._wholes = WholeCache(store)
        self._answers = Answers(settings, store, self._wholes)
        self._everybody = settings.topics.gossip(settings.name)

    def say(self, effect: Said) -> None:
        """Queues what an effect says."""
        match effect:
            case Publish(topic, payload, retain):
                self._publish(topic, payload, retain)
            case PublishChunks():
                self._publish_chunks(effect)
            case PublishFinal():
                self._publish_final(effect)
            case Gossip(payload, to):
                one = None if to is None else self._private(device_id(to))
                self._gossip(payload, one or self._everybody)
            case Tell(to, subject, content):
                frame = FRAME.pack(Frame(subject, content))
                self._tell(self._private(to), frame, Lane.CONTROL)
            case Give() | GiveKey():
                for frame in self._answers.frames(effect):
                    self._tell(self._private(effect.to), frame, Lane.BULK)

    def _publish(self, topic: str, payload: bytes, retain: bool) -> None:
        self._outgoing.add(Message(topic, payload, retain), Lane.CONTROL)
        # What is retained is for everybody; all the rest goes to one board.
        if not retain:
            _, device, _ = address(self._settings.topics, topic)
            self._tally.device(device).bytes_down += len(payload)

    def _publish_chunks(self, effect: PublishChunks) -> None:
        whole = self._wholes.get(effect.digest)
        if whole is None:
            log.info("a board asks for %s, which is not here", effect.digest.hex())
            return
        topic = self._settings.topics.model(device_name(effect.device))
        for index in effect.indices:
            if index < chunk_count(len(whole)):
                make = partial(self._chunk, topic, effect, index)
                self._outgoing.add(Deferred(topic, make), Lane.BULK)

    def _chunk(self, topic: str, asked: PublishChunks, index: int) -> Message | None:
        whole = self._wholes.get(asked.digest)
        if whole is None:
            return None
        payload = CHUNK.pack(chunk_at(whole, asked.digest, index))
        self._tally.device(asked.device).bytes_down += len(payload)
        return Message(topic, payload)

    def _publish_final(self, effect: PublishFinal) -> None:
        proof = final_of(self._store, effect.transaction)
        if proof is None:
            return
        settings = self._settings
        key, chain_id = settings.ledger.key, settings.gate.chain_id
        body = FINAL.pack(proof)
        envelope = sign(key, chain_id, Kind.FINAL, effect.counter, body)
        topic = settings.topics.down(device_name(effect.device))
        self._publish(topic, ENVELOPE.pack(envelope), False)

    def _gossip(self, content: bytes, topic: str) -> None:
        """What decides goes first, what waits for a block later."""
        waits = wire.topic_of(content) == wire.Topic.TRANSACTION
        lane = Lane.CONTROL if waits else Lane.CONSENSUS
        for payload in payloads(Subject.LEDGER, content):
            self._tell(topic, payload, lane)

    def _tell(self, topic: str, payload: bytes, lane: Lane) -> None:
        self._outgoing.add(Message(topic, payload, expiry_s=GOSSIP_EXPIRY_S), lane)

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
