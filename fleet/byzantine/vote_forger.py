"""Votes that contradict those which a coordinator has cast, and models that lie."""

from dataclasses import dataclass, replace

from starling.coordinator.aggregation.strategy import PackedModel
from starling.coordinator.chain import gossip_messages
from starling.protocol.chain.blocks import VOTE, Vote
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.errors import ProtocolError
from starling.protocol.ids import BlockHash, ChainId


@dataclass(frozen=True)
class VoteForger:
    """Votes that contradict those which a coordinator has cast.

    Attributes:
      key: The coordinator's.
      chain_id: The chain.
    """

    key: SigningKey
    chain_id: ChainId

    def contradiction(self, payload: bytes) -> bytes | None:
        """A message with a second vote, if this one holds a vote of ours.

        Args:
          payload: A packed frame, as it is gossiped.
        """
        vote = vote_in(payload)
        if vote is None or not self._cast(vote):
            return None
        # Against a block nil, and against nil a block that nobody made: any other value
        # is an equivocation.
        other = None if vote.block_id is not None else BlockHash(self.chain_id)
        second = replace(vote, block_id=other)
        signature = self.key.sign(second.signed_bytes(self.chain_id))
        return gossip_messages.wrap_vote(replace(second, signature=signature))

    def is_own(self, payload: bytes) -> bool:
        """True if a message that we hear holds a vote with our own signature."""
        vote = vote_in(payload)
        return vote is not None and self._cast(vote)

    def _cast(self, vote: Vote) -> bool:
        # Ed25519 signatures are deterministic (RFC 8032): an own vote signs to the same
        # bytes.
        return self.key.sign(vote.signed_bytes(self.chain_id)) == vote.signature


def vote_in(payload: bytes) -> Vote | None:
    """The vote in a packed frame; None if it holds something else."""
    try:
        frame = gossip_messages.open_frame(payload)
        is_vote = frame.subject == gossip_messages.FrameSubject.VOTE
        return VOTE.unpack(frame.content) if is_vote else None
    except ProtocolError:
        return None


def falsified(model: PackedModel) -> PackedModel:
    """The model with its first number changed by one."""
    # The least that there is: the digest is another, and nothing else tells.
    changed = bytes([model.theta[0] ^ 1]) + model.theta[1:]
    return replace(model, theta=changed)
