"""Effects that end in messages: what they say is read from the store where need be."""

import logging
from functools import lru_cache

from broker.events import Message
from coordinator.effects import (
    Give,
    GiveKey,
    Publish,
    PublishChunks,
    PublishFinal,
    Tell,
)
from coordinator.gossip import (
    GIVEN_KEY,
    GIVEN_MODEL,
    GIVEN_UPLOAD,
    GivenKey,
    GivenModel,
    GivenUpload,
    Subject,
    parse_model_key,
    payloads,
)
from coordinator.ledger.node import Gossip
from coordinator.ledger.storage import Store
from coordinator.rim import serving
from coordinator.rim.outgoing import Outgoing
from coordinator.rim.tally import Tally
from coordinator.rim.wholes import WholeCache, final_of
from coordinator.state import Settings
from protocol.chunks import CHUNK, chunk_at, chunk_count
from protocol.envelope import ENVELOPE, Kind, sign
from protocol.errors import DecodeError, ProtocolError
from protocol.ids import DeviceId, Digest, device_from_name, device_name
from protocol.light import FINAL
from protocol.messages import CONTRIBUTION
from protocol.sealing import SEALED, open_committed, pass_key
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
                self._tell(Subject.LEDGER, payload)
            case Tell(subject, content):
                self._tell(subject, content)
            case Give(Subject.BLOCKS, key):
                self._answer(serving.blocks(self._store, key))
            case Give(Subject.BUCKETS, key):
                self._answer(serving.buckets(self._store, key))
            case Give(subject, key):
                self._give(subject, self._content(subject, key))
            case GiveKey():
                self._give(Subject.KEY, self._key(effect))

    def _publish(self, topic: str, payload: bytes, retain: bool) -> None:
        self._outgoing.add(Message(topic, payload, retain))
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

    def _tell(self, subject: Subject, content: bytes) -> None:
        for payload in payloads(subject, content):
            message = Message(self._gossip, payload, expiry_s=GOSSIP_EXPIRY_S)
            self._outgoing.add(message)

    def _answer(self, answer: serving.Answer | None) -> None:
        if answer is not None:
            self._tell(*answer)

    def _give(self, subject: Subject, content: bytes | None) -> None:
        if content is not None:
            self._tell(subject, content)

    def _content(self, subject: Subject, key: bytes) -> bytes | None:
        """What a peer asks for; None if we have not got it."""
        match subject:
            case Subject.UPLOAD:
                return self._upload(key)
            case Subject.WHOLE:
                return self._wholes.get(Digest(key))
            case Subject.MODEL:
                return self._model(key)
            case _:
                return None

    def _upload(self, key: bytes) -> bytes | None:
        stored = self._store.upload(key)
        if stored is None:
            return None
        return GIVEN_UPLOAD.pack(GivenUpload(stored.update, stored.blob))

    def _key(self, asked: GiveKey) -> bytes | None:
        stored = self._store.upload(asked.update)
        if stored is None:
            return None
        key, update = self._settings.gate.key, stored.update
        content_key = asked.content_key
        try:
            if content_key is None:
                committed = CONTRIBUTION.unpack(update.body).commitment
                sealed = SEALED.unpack(stored.blob)
                content_key, _ = open_committed(sealed, key, update.sender, committed)
            box = pass_key(content_key, stored.transaction, key, asked.to)
        except ProtocolError:
            # It does not open here either, or their key is of small order.
            return None
        return GIVEN_KEY.pack(GivenKey(update, stored.blob, box))

    def _model(self, key: bytes) -> bytes | None:
        try:
            task, version = parse_model_key(key)
        except DecodeError:
            return None
        model = self._store.model(task, version)
        if model is None:
            return None
        return GIVEN_MODEL.pack(GivenModel(task, version, model))


@lru_cache(maxsize=1 << 16)
def address(topics: Topics, topic: str) -> tuple[str, DeviceId, str]:
    """A topic's branch, whose it is, and its leaf.

    Raises:
      DecodeError: If it is not a topic of one board or coordinator of this fleet.
    """
    branch, whose, leaf = topics.parse(topic)
    return branch, device_from_name(whose), leaf
