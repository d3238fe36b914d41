"""What lying keys say: to each listener something else, and forged proofs of lock."""

from dataclasses import dataclass, field

from starling.protocol.chain.blocks import (
    Certificate,
    Proposal,
    Vote,
    VoteType,
    vote_bytes,
)
from starling.protocol.ids import BlockHash
from tests.sim.twins.scenarios import HEIGHT, Message, Node, Stage, fresh, offer


@dataclass
class Adversary:
    """Hears everything at once and speaks with the liars' keys.

    Attributes:
      stage: Where it acts.
      told: What the liars said so far.
    """

    stage: Stage
    told: list[Message] = field(default_factory=list)

    def proposals(self, number: int) -> list[Proposal]:
        """What a lying leader offers: to all the same, or one of two to each."""
        draw = self.stage.draw
        first = self._proposal(number)
        if draw.random() < 0.5:
            return [first]
        return [first, first, self._proposal(number)]

    def _proposal(self, number: int) -> Proposal:
        draw, leader = self.stage.draw, self.stage.leaders[number]
        known = self._blocks()
        if number == 0 or not known or draw.random() < 0.4:
            return offer(
                number, 0, fresh(number, 100 + draw.randrange(2)), leader, None
            )
        proofs = [
            self._proof(at, block_id) for block_id in known for at in range(number)
        ]
        sound = [proof for proof in proofs if self._is_sound(proof)]
        chosen = draw.choice(sound if sound and draw.random() < 0.7 else proofs)
        if draw.random() < 0.1:
            return offer(number, 0, chosen.block_id, leader, None)
        return offer(number, chosen.round + 1, chosen.block_id, leader, chosen)

    def _is_sound(self, proof: Certificate) -> bool:
        enough = len(proof.signatures) >= self.stage.needed
        return enough and len(set(proof.extras)) == 1

    def votes(self, number: int, kind: VoteType, target: Node) -> list[Vote]:
        """What each liar tells one listener."""
        chosen = self._choice(number, target)
        cast = []
        for liar in self.stage.crew.liars:
            if self.stage.draw.random() < 0.1:
                chosen = self._choice(number, target)
            if chosen is not None:
                block_id, relied = chosen
                cast.append(self._vote(liar, kind, number, block_id, relied))
        return cast

    def _choice(self, number: int, target: Node) -> tuple[BlockHash | None, int] | None:
        draw = self.stage.draw
        roll = draw.random()
        candidate = target.candidate(number)
        if roll < 0.65:
            if candidate is None:
                return None, 0
            return candidate.proposal.block_id, candidate.proposal.valid_round
        known = self._blocks()
        if roll < 0.8 and known:
            return draw.choice(known), 0
        return (None, 0) if roll < 0.93 else None

    def _vote(
        self,
        liar: int,
        kind: VoteType,
        number: int,
        block_id: BlockHash | None,
        relied: int,
    ) -> Vote:
        extra = relied if kind is VoteType.PREVOTE else 0
        stage = self.stage
        signed = vote_bytes(stage.chain_id, kind, HEIGHT, number, block_id, extra)
        signature = stage.keys[liar].sign(signed)
        return Vote(kind, HEIGHT, number, block_id, extra, liar, signature)

    def quorum(self, number: int) -> list[Certificate]:
        """A quorum of prevotes that exists or not, to show to one listener."""
        draw, known = self.stage.draw, self._blocks()
        if not known or draw.random() < 0.7:
            return []
        at, block_id = draw.randrange(number + 1), draw.choice(known)
        return [self._proof(at, block_id)]

    def _blocks(self) -> list[BlockHash]:
        proposals = [entry for entry in self._said() if isinstance(entry, Proposal)]
        return sorted({entry.block_id for entry in proposals})

    def _said(self) -> list[Message]:
        return [*self.told, *(message for _, message in self.stage.said)]

    def _proof(self, number: int, block_id: BlockHash) -> Certificate:
        """The prevotes of a round, whether or not they are enough."""
        votes: dict[int, Vote] = {}
        relied = 0
        for message in self._said():
            if not isinstance(message, Vote) or message.vote_type != VoteType.PREVOTE:
                continue
            if (message.round, message.block_id) == (number, block_id):
                relied = message.extra
                votes[message.voter] = message
        for liar in self.stage.crew.liars:
            kind = VoteType.PREVOTE
            votes[liar] = self._vote(liar, kind, number, block_id, relied)
        voters = sorted(votes)[: self.stage.needed]
        return Certificate(
            HEIGHT,
            number,
            block_id,
            sum(1 << voter for voter in voters),
            tuple(votes[voter].signature for voter in voters),
            tuple(votes[voter].extra for voter in voters),
        )
