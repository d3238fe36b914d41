"""Effects that end in messages: what they say is read from the store where need be."""

import logging
from functools import lru_cache

from broker.events import Message
from coordinator.events import Publish, PublishChunks, PublishFinal
from coordinator.ledger import wire
from coordinator.ledger.node import Gossip, ServeBlocks
from coordinator.ledger.storage import Store
from coordinator.rim.outgoing import Outgoing
from coordinator.rim.status import Tally
from coordinator.rim.wholes import WholeCache, final_of
from coordinator.state import Settings
from protocol.chunks import CHUNK, chunk_at, chunk_count
from protocol.envelope import ENVELOPE, Kind, sign
from protocol.ids import DeviceId, device_from_name, device_name
from protocol.light import FINAL
from protocol.topics import Topics

log = logging.getLogger("starling.coordinator")

Said = Publish | PublishChunks | PublishFinal | Gossip | ServeBlocks


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
        self._gossip = settings.topics.gossip(settings.name)

    def say(self, effect: Said) -> None:
        """Queues what an effect says."""
        match effect:
            case Publish(topic, payload, retain):
                self._publish(topic, payload, retain)
            case PublishChunks():
                self._publish_chunks(effect)
            case PublishFinal():
                self._publish_final(effect)
            case Gossip(payload):
                self._outgoing.add(Message(self._gossip, payload))
            case ServeBlocks(first, last):
                for height in range(first, last + 1):
                    self._serve_block(height)

    def _publish(self, topic: str, payload: bytes, retain: bool) -> None:
        self._outgoing.add(Message(topic, payload, retain))
        # What is retained is for everybody; all the rest goes to one board.
        if not retain:
            _, device, _ = address(self._settings.topics, topic)
            self._tally.device(device).bytes_down += len(payload)

    def _publish_chunks(self, effect: PublishChunks) -> None:
        whole = self._wholes.get(effect.digest)
        if whole is None:
            log.warning("a board asks for %s, which is gone", effect.digest.hex())
            return
        topic = self._settings.topics.model(device_name(effect.device))
        for index in effect.indices:
            if index < chunk_count(len(whole)):
                chunk = chunk_at(whole, effect.digest, index)
                self._publish(topic, CHUNK.pack(chunk), False)

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

    def _serve_block(self, height: int) -> None:
        stored = self._store.block(height)
        if stored is not None:
            payload = wire.wrap_decision(stored.block, stored.certificate)
            self._outgoing.add(Message(self._gossip, payload))


@lru_cache(maxsize=1 << 16)
def address(topics: Topics, topic: str) -> tuple[str, DeviceId, str]:
    """A topic's branch, whose it is, and its leaf.

    Raises:
      DecodeError: If it is not a topic of one board or coordinator of this fleet.
    """
    branch, whose, leaf = topics.parse(topic)
    return branch, device_from_name(whose), leaf
