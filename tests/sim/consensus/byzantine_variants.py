"""Further liars of the simulation: see `byzantine_validators`."""

import random
from dataclasses import replace

from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.gossip_messages import FrameSubject, frame
from starling.coordinator.chain.state import transaction_codec, validator_records
from starling.protocol.chain.blocks import (
    BLOCK,
    PROPOSAL,
    VOTE,
    Certificate,
    Proposal,
    Vote,
    VoteType,
    vote_bytes,
)
from starling.protocol.chain.evidence import EVIDENCE, duplicate_votes
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.ids import (
    SIGNATURE_BYTES,
    BlockHash,
    Digest,
    H,
    PublicKey,
    TaskId,
    Version,
)
from starling.protocol.learning.progress_guard import EVALUATION, Evaluation
from starling.protocol.wire.envelope import MessageKind, sign
from starling.protocol.wire.message_bodies import PRESENT, Present
from tests.sim.consensus.byzantine_validators import ByzantineValidators, Lender
from tests.unit.coordinator.fixtures.single_validator import SingleValidator

KEPT_MAX = 300
EVERY_S = 0.5
"""Between two transactions of the driver."""
_ANOTHER = BlockHash(H(b"another"))


class Splitter(Lender):
    """Offers another valid block to each, and lends its votes to who may lock it."""

    def _lead(self, height: int, number: int, here: dict[int, SingleValidator]) -> None:
        node = next(iter(here.values()))
        leader = node.state.validator.proposer(number)
        waits = number == 0 and not node.state.mempool.size
        if leader not in self.keys or waits or not self._once("lead", height, number):
            return
        for most, place in enumerate(self.draw.sample(sorted(here), len(here))):
            offered = self.offer(leader, number, node, most % 3)
            self.tell(place, gossip_messages.wrap_proposal(offered))


class WrongRoots(ByzantineValidators):
    """Signs, in two of three turns, a state to which its block does not lead."""

    def __init__(self, keys: dict[int, SigningKey], draw: random.Random) -> None:
        super().__init__(keys, draw)
        self.done: set[tuple[int, int]] = set()
        self.wrong = 0

    def act(self) -> None:
        node = max(self.bus.nodes, key=lambda node: node.state.height)
        height, number = node.state.height + 1, node.state.consensus.round
        leader = node.state.validator.proposer(number)
        waits = number == 0 and not node.state.mempool.size
        if leader not in self.keys or waits or (height, number) in self.done:
            return
        self.done.add((height, number))
        offered = self.offer(leader, number, node, 10)
        if self.draw.random() < 2 / 3:
            self.wrong += 1
            offered = self._spoilt(leader, offered)
        for place in self.bus.honest:
            self.tell(place, gossip_messages.wrap_proposal(offered))
            for kind in VoteType:
                block_id = offered.block_id
                self.tell_vote(place, leader, kind, height, number, block_id)

    def _spoilt(self, leader: int, offered: Proposal) -> Proposal:
        block = BLOCK.unpack(offered.block)
        header = replace(block.header, state_root=Digest(H(self.draw.randbytes(8))))
        packed, block_id = BLOCK.pack(replace(block, header=header)), header.block_id()
        bare = replace(offered, block=packed, block_id=block_id)
        bare = replace(bare, signature=bytes(SIGNATURE_BYTES))
        signed = bare.signed_bytes(self.bus.world.chain_id)
        return replace(bare, signature=self.keys[leader].sign(signed))


class Forger(ByzantineValidators):
    """Makes quorums of what the honest once said, and swaps what others' words show.

    A quorum has votes of other rounds, heights and kinds, one vote at two places, its
    own votes at others' places; a proposal that it passes on another certificate, or
    the bytes of another block.
    """

    def __init__(self, keys: dict[int, SigningKey], draw: random.Random) -> None:
        super().__init__(keys, draw)
        self.votes: list[Vote] = []
        self.proposals: list[Proposal] = []

    def overhear(self, payload: bytes) -> None:
        message = gossip_messages.FRAME.unpack(payload)
        if message.subject == FrameSubject.VOTE:
            self.votes = [*self.votes[-KEPT_MAX:], VOTE.unpack(message.content)]
        elif message.subject == FrameSubject.PROPOSAL:
            said = PROPOSAL.unpack(message.content)
            self.proposals = [*self.proposals[-KEPT_MAX:], said]

    def act(self) -> None:
        if not self.votes or not self.proposals:
            return
        proposal = self.draw.choice(self.proposals[-3:])
        certificate = self._certificate()
        other = self.draw.choice(self.proposals)
        forged = [
            gossip_messages.wrap_polka(certificate),
            gossip_messages.wrap_commit(certificate),
            gossip_messages.wrap_proposal(replace(proposal, parent=certificate)),
            gossip_messages.wrap_proposal(
                replace(proposal, proof_of_lock=certificate, valid_round=1)
            ),
            gossip_messages.wrap_proposal(replace(proposal, block=other.block)),
            gossip_messages.wrap_decision(BLOCK.unpack(proposal.block), certificate),
        ]
        for place in self.bus.honest:
            self.tell(place, self.draw.choice(forged))

    def _certificate(self) -> Certificate:
        node = max(self.bus.nodes, key=lambda node: node.state.height)
        count = self.draw.randint(1, node.state.validator.count)
        members = sorted(self.draw.sample(range(node.state.validator.count), count))
        votes = self.draw.choices(self.votes[-60:], k=count)
        height = node.state.height + self.draw.randrange(2)
        named = [vote.block_id for vote in votes if vote.block_id is not None]
        block_id = self.draw.choice(named or [BlockHash(H(b"nothing"))])
        return Certificate(
            max(1, height),
            self.draw.choice(votes).round,
            block_id,
            sum(1 << member for member in members),
            tuple(vote.signature for vote in votes),
            tuple(vote.extra for vote in votes),
        )


class Driver(ByzantineValidators):
    """Hands in all that a validator alone may sign, anew at each height.

    Each is told apart, so that a height is begun for it: that it is back although
    nobody missed it, for whatever height; losses of versions; that somebody voted
    twice, which is itself.
    """

    def __init__(self, keys: dict[int, SigningKey], draw: random.Random) -> None:
        super().__init__(keys, draw)
        self.counter = 0
        self.next_s = 0.0

    def act(self) -> None:
        if self.bus.now_s < self.next_s:
            return
        self.next_s = self.bus.now_s + EVERY_S
        node = max(self.bus.nodes, key=lambda node: node.state.height)
        height = node.state.height + 1
        for liar, key in self.keys.items():
            self.counter += 1
            bodies = [
                (
                    MessageKind.PRESENT,
                    PRESENT.pack(Present(self._missed(liar, height))),
                ),
                (MessageKind.EVALUATION, EVALUATION.pack(self._loss(height))),
                (MessageKind.EVIDENCE, self._twice(liar, height)),
            ]
            kind, body = self.draw.choice(bodies)
            chain_id = self.bus.world.chain_id
            signed = sign(key, chain_id, kind, self.counter, body)
            told = frame(FrameSubject.TRANSACTION, transaction_codec.pack(signed))
            for place in self.bus.honest:
                self.tell(place, told)

    def _missed(self, liar: int, height: int) -> int:
        """The height at which the chain says that it missed its turn, or another."""
        tree = max(self.bus.nodes, key=lambda node: node.state.height).state.tree
        public = PublicKey(self.keys[liar].public)
        known = validator_records.absence(tree, public)
        if known is not None and self.draw.random() < 0.8:
            return known.height
        return self.draw.randint(1, height)

    def _loss(self, height: int) -> Evaluation:
        return Evaluation(TaskId(0), Version(self.draw.randrange(height)), height)

    def _twice(self, liar: int, height: int) -> bytes:
        at = self.draw.randint(1, height)
        first, second = self._vote(liar, at, None), self._vote(liar, at, _ANOTHER)
        return EVIDENCE.pack(duplicate_votes(first, second))

    def _vote(self, liar: int, height: int, block_id: BlockHash | None) -> Vote:
        chain_id, kind = self.bus.world.chain_id, VoteType.PREVOTE
        signed = vote_bytes(chain_id, kind, height, 0, block_id, 0)
        return Vote(kind, height, 0, block_id, 0, liar, self.keys[liar].sign(signed))
