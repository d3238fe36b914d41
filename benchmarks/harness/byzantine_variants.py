"""Further attacks of one coordinator on the others: see `benchmarks.attacks`."""

from collections.abc import Callable
from dataclasses import replace

import msgspec

from benchmarks.harness.byzantine_attacks import REQUEST_BYTES_PER_S, Lend, Want
from benchmarks.harness.coordinator_attack import Attack
from starling.broker.link_events import MqttMessage
from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.gossip_messages import FORK, STATUS, FrameSubject, frame
from starling.coordinator.chain.state import transaction_codec
from starling.coordinator.wire.frames import blocks_key, buckets_key, model_key
from starling.protocol.chain.blocks import (
    BLOCK,
    CERTIFICATE,
    PROPOSAL,
    VOTE,
    Certificate,
    Proposal,
    Vote,
    VoteType,
    vote_bytes,
)
from starling.protocol.ids import SIGNATURE_BYTES, BlockHash, Digest, H, PublicKey
from starling.protocol.schema.msgpack_codec import encode
from starling.protocol.wire.envelope import MessageKind, sign
from starling.protocol.wire.message_bodies import REGISTER, Register

KEPT_MAX = 200
KNOWN_MAX = 256
HEIGHTS = range(1, 65)
"""That are asked for: all of them, or one."""
NESTED = 2000
"""Arrays within each other, in a message that nobody signed."""


class Fickle(Lend):
    """Lends votes of both kinds, and tells the others nothing, nil or another block."""

    def begin(self) -> None:
        """Prepares what it remembers."""
        super().begin()
        self.votes: dict[tuple[int, int, VoteType], dict[int, Vote]] = {}
        self.lent: set[tuple[int, int, VoteType]] = set()

    def overhears(self, topic: FrameSubject, content: bytes, payload: bytes) -> None:
        """Something was said of the ledger."""
        if topic is FrameSubject.VOTE:
            vote = VOTE.unpack(content)
            if vote.voter != self.me:
                place = vote.height, vote.round, VoteType(vote.vote_type)
                self.votes.setdefault(place, {})[vote.voter] = vote

    def act(self, now_s: float) -> None:
        """Called many times a second while it is active."""
        top = max((place[0] for place in self.votes), default=0)
        self.votes = {at: one for at, one in self.votes.items() if at[0] >= top - 1}
        for place, cast in self.votes.items():
            blocks = [one for one in cast.values() if one.block_id is not None]
            if place not in self.lent and len(blocks) >= len(self.others) - 1:
                self.lent.add(place)
                self._tell_each(place, blocks[0])

    def _tell_each(self, place: tuple[int, int, VoteType], like: Vote) -> None:
        height, number, kind = place
        lucky = self.draw.choice(self.others)
        for to in self.others:
            junk = BlockHash(H(self.draw.randbytes(8)))
            block = like.block_id if to == lucky else self.draw.choice([None, junk])
            if to != lucky and self.draw.random() < 0.3:
                continue
            extra = like.extra if block == like.block_id else 0
            signed = vote_bytes(self.chain_id, kind, height, number, block, extra)
            signature = self.key.sign(signed)
            vote = Vote(kind, height, number, block, extra, self.me, signature)
            self.tell(to, gossip_messages.wrap_vote(vote))


class WrongRoot(Attack):
    """Signs a state that its block does not lead to, every other turn."""

    def passes(self, message: MqttMessage) -> bool:
        """Whether something that its honest half says is said."""
        said = self.said(message)
        if not isinstance(said, Proposal) or self.draw.random() < 0.5:
            return True
        block = BLOCK.unpack(said.block)
        header = replace(block.header, state_root=Digest(H(self.draw.randbytes(8))))
        packed, block_id = BLOCK.pack(replace(block, header=header)), header.block_id()
        wrong = replace(said, block=packed, block_id=block_id)
        wrong = replace(wrong, signature=bytes(SIGNATURE_BYTES))
        signature = self.key.sign(wrong.signed_bytes(self.chain_id))
        wrong = replace(wrong, signature=signature)
        self.everybody(gossip_messages.wrap_proposal(wrong))
        return False


class Ask(Want):
    """Asks for what is there, of each kind, many things at once or one, 25 kB/s."""

    def begin(self) -> None:
        """Prepares what it remembers."""
        super().begin()
        self.known: list[bytes] = []

    def overhears(self, topic: FrameSubject, content: bytes, payload: bytes) -> None:
        """Something was said of the ledger."""
        if topic is not FrameSubject.PROPOSAL:
            return
        for packed in BLOCK.unpack(PROPOSAL.unpack(content).block).transactions:
            envelope = transaction_codec.unpack(packed)
            if envelope.kind == MessageKind.UPDATE:
                self.known.append(bytes(envelope.identity(self.chain_id)))
        self.known = self.known[-KNOWN_MAX:]

    def _request(self) -> bytes:
        self.turn += 1
        many = self.draw.choice([1, 64])
        # A request that names one thing twice cannot be packed.
        named = tuple(dict.fromkeys(self.known or [self.digest]))[-many:]
        heights = [blocks_key(at) for at in self.draw.sample(HEIGHTS, many)]
        kinds: list[tuple[FrameSubject, tuple[bytes, ...]]] = [
            (FrameSubject.UPLOAD, named),
            (FrameSubject.KEY, named),
            (FrameSubject.MODEL, tuple(model_key(0, one) for one in range(many))),
            (FrameSubject.BLOCKS, tuple(heights)),
            (FrameSubject.BUCKETS, tuple(buckets_key(1, one) for one in range(many))),
            (FrameSubject.WHOLE, (self.digest,)),
        ]
        subject, keys = self.draw.choice(kinds)
        return self.request(subject, keys, ())


class Flood(Attack):
    """Says something to everybody all the time, 25 kB a second."""

    def begin(self) -> None:
        """Prepares what it remembers."""
        self.said_bytes, self.from_s = 0, 0.0

    def pour(self, now_s: float, made: Callable[[], bytes]) -> None:
        """Says what is made, as much as is due."""
        if now_s - self.from_s > 1.0:
            self.from_s, self.said_bytes = now_s, 0
        while self.said_bytes < (now_s - self.from_s) * REQUEST_BYTES_PER_S:
            payload = made()
            self.said_bytes += len(payload)
            self.everybody(payload)


class Forge(Flood):
    """Says what others said with something changed, and what cannot be read."""

    def begin(self) -> None:
        """Prepares what it remembers."""
        super().begin()
        self.statuses: list[gossip_messages.ValidatorStatus] = []
        self.votes: list[Vote] = []

    def overhears(self, topic: FrameSubject, content: bytes, payload: bytes) -> None:
        """Something was said of the ledger."""
        if topic is FrameSubject.STATUS:
            self.statuses = [*self.statuses[-KEPT_MAX:], STATUS.unpack(content)]
        elif topic is FrameSubject.VOTE:
            vote = VOTE.unpack(content)
            if vote.block_id is not None:
                self.votes = [*self.votes[-KEPT_MAX:], vote]

    def act(self, now_s: float) -> None:
        """Called many times a second while it is active."""
        if self.votes and self.statuses:
            self.pour(now_s, self._forged)

    def _forged(self) -> bytes:
        certificate = self._certificate()
        packed = CERTIFICATE.pack(certificate)
        fields = msgspec.msgpack.decode(packed)
        fields[3] ^= 1 << self.draw.randrange(len(self.ids))
        uneven = encode(fields)
        status = self.draw.choice(self.statuses)
        ahead = replace(status, counter=status.counter + self.draw.randrange(1, 99))
        height = self.votes[-1].height
        moved = replace(self.draw.choice(self.votes), height=height)
        fork = gossip_messages.ForkProof(certificate, self._certificate(), None, ())
        subject = FrameSubject(self.draw.randrange(1, 19))
        nested = b"\x91" * NESTED + b"\xc0"
        counted = b"\xdd\xff\xff\xff\xff" + self.draw.randbytes(8)
        choices = [
            frame(FrameSubject.STATUS, STATUS.pack(ahead)),
            frame(FrameSubject.POLKA, packed),
            frame(FrameSubject.POLKA, uneven),
            frame(FrameSubject.CERTIFICATE, uneven),
            frame(FrameSubject.CERTIFICATE, packed),
            frame(FrameSubject.FORK, FORK.pack(fork)),
            gossip_messages.wrap_vote(moved),
            frame(subject, nested),
            frame(subject, counted),
            nested,
        ]
        return self.draw.choice(choices)

    def _certificate(self) -> Certificate:
        """A quorum put together from votes of several rounds, heights and kinds."""
        count = self.draw.choice([1, 2, 3, len(self.ids)])
        votes = [self.draw.choice(self.votes) for _ in range(count)]
        members = self.draw.sample(range(len(self.ids)), count)
        last = self.votes[-1]
        block = votes[0].block_id
        assert block is not None
        return Certificate(
            last.height + self.draw.randrange(-1, 2) if last.height > 1 else 1,
            last.round,
            block,
            sum(1 << member for member in members),
            tuple(vote.signature for vote in votes),
            tuple(vote.extra for vote in votes),
        )


class Admit(Flood):
    """Admits boards that nobody has, by its own operator's key, as fast as may be."""

    def begin(self) -> None:
        """Prepares what it remembers."""
        super().begin()
        self.counter = 1 << 20

    def act(self, now_s: float) -> None:
        """Called many times a second while it is active."""
        self.pour(now_s, self._admission)

    def _admission(self) -> bytes:
        self.counter += 1
        body = REGISTER.pack(Register(PublicKey(self.draw.randbytes(32))))
        kind = MessageKind.REGISTER
        signed = sign(self.operator, self.chain_id, kind, self.counter, body)
        return frame(FrameSubject.TRANSACTION, transaction_codec.pack(signed))


VARIANTS: dict[str, type[Attack]] = {
    "empty": Attack,
    "fickle": Fickle,
    "root": WrongRoot,
    "ask": Ask,
    "forge": Forge,
    "admit": Admit,
}
