"""Attack of one coordinator that knows the rules, on the wire.

It answers what the others say, as far as a real one can: it hears what is published,
and may say to each listener something else on the topic that is that listener's alone.
"""

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from starling.broker.link_events import MqttMessage
from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.gossip_messages import FrameSubject, open_frame
from starling.coordinator.wire.frames import payloads
from starling.protocol.chain.blocks import (
    PROPOSAL,
    VOTE,
    Proposal,
    Vote,
    VoteType,
    vote_bytes,
)
from starling.protocol.chain.genesis import Genesis
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.errors import LimitError, ProtocolError, TransportError
from starling.protocol.ids import (
    BlockHash,
    device_id,
    device_name,
)
from starling.protocol.wire.topics import Topics

OF_CHAIN = range(FrameSubject.PROPOSAL, FrameSubject.CHUNK)
"""Subjects of what the chain hears."""
_EXPIRY_S = 20


@dataclass
class Attack:
    """Does nothing by itself.

    Attributes:
      key: The liar's.
      genesis: Of the chain.
      digest: Of the task's bundle.
      draw: Its chance.
      operator: The key of whoever runs it.
      send: Hands a message to the broker.
    """

    key: SigningKey
    genesis: Genesis
    digest: bytes
    draw: random.Random
    operator: SigningKey
    send: Callable[[MqttMessage], int] = field(init=False)

    def __post_init__(self) -> None:
        """Finds out who is who."""
        self.topics = Topics(self.genesis.fleet)
        self.chain_id = self.genesis.chain_id()
        members = self.genesis.validators.members
        place = self.genesis.validators.index_of(self.key.public)
        assert place is not None
        self.me = place
        self.ids = [device_id(member.public) for member in members]
        self.names = [device_name(one) for one in self.ids]
        self.others = [at for at in range(len(members)) if at != self.me]
        self.begin()

    def begin(self) -> None:
        """Prepares what it remembers."""

    def passes(self, message: MqttMessage) -> bool:
        """Whether something that its honest half says is said."""
        return True

    def hears(self, topic: str, payload: bytes, active: bool) -> None:
        """Something was published."""
        if "/g/" not in topic:
            return
        with suppress(ProtocolError):
            found = open_frame(payload)
            if found.subject in OF_CHAIN:
                self.overhears(FrameSubject(found.subject), found.content, payload)

    def overhears(self, topic: FrameSubject, content: bytes, payload: bytes) -> None:
        """Something was said of the ledger."""

    def act(self, now_s: float) -> None:
        """Called many times a second while it is active."""

    def everybody(self, payload: bytes) -> None:
        """Says something to all."""
        self._say(self.topics.gossip(self.names[self.me]), payload)

    def tell(self, to: int, packed: bytes) -> None:
        """Sends a frame to one of them."""
        topic = self.topics.private(self.names[self.me], self.names[to])
        for payload in payloads(packed):
            self._say(topic, payload)

    def _say(self, topic: str, payload: bytes) -> None:
        with suppress(TransportError, LimitError):
            self.send(MqttMessage(topic, payload, expiry_s=_EXPIRY_S))

    def vote(
        self, kind: VoteType, at: int, number: int, block: BlockHash | None
    ) -> bytes:
        """A signed vote for a fresh proposal, or for nothing."""
        signed = vote_bytes(self.chain_id, kind, at, number, block, 0)
        found = Vote(kind, at, number, block, 0, self.me, self.key.sign(signed))
        return gossip_messages.wrap_vote(found)

    def said(self, message: MqttMessage) -> Proposal | Vote | FrameSubject | None:
        """What of the ledger its honest half says; None for anything else."""
        try:
            inner = open_frame(message.payload)
        except ProtocolError:
            return None
        if inner.subject == FrameSubject.CHUNK:
            return FrameSubject.PROPOSAL
        if inner.subject == FrameSubject.PROPOSAL:
            return PROPOSAL.unpack(inner.content)
        if inner.subject == FrameSubject.VOTE:
            return VOTE.unpack(inner.content)
        return FrameSubject(inner.subject) if inner.subject in OF_CHAIN else None
