"""Cheap checks of a proposal, before anything of it is kept.

In this order, so that nothing is kept, asked for or looked into on the word of somebody
who may not propose: relevance, whose turn, signature; then whether the bytes are those
of the block that is named.
"""

from starling.coordinator.chain.chain_step import ChainState
from starling.coordinator.chain.consensus.round_state import ValidatorContext
from starling.protocol.chain.blocks import Block, Proposal, VoteType
from starling.protocol.crypto.keys import verify
from starling.protocol.errors import (
    InvalidBlock,
    ProtocolError,
    Reason,
    UnknownProposer,
)
from starling.protocol.ids import BlockHash


def is_news(state: ChainState, proposal: Proposal) -> bool:
    """True if a proposal has something of this height that is unknown here.

    Rounds far ahead are dropped unread (deviation D4) unless a quorum voted for what is
    offered; peers send them again.
    """
    deciding = state.consensus
    if proposal.height != deciding.height:
        return False
    # Before the bound on rounds: what a quorum voted for is wanted from any round.
    if is_carried(state, proposal):
        return True
    vote_set = deciding.vote_set
    known = proposal.round in vote_set.proposals
    if proposal.round > deciding.round + 1:
        return False
    return not known or vote_set.contradicts(proposal)


def is_carried(state: ChainState, proposal: Proposal) -> bool:
    """True if a quorum voted for its block, which is missing here for that round."""
    vote_set, needed = state.consensus.vote_set, state.validator.quorum
    number, block_id = proposal.round, proposal.block_id
    held = vote_set.candidates(number)
    if any(candidate.proposal.block_id == block_id for candidate in held):
        return False
    return any(
        vote_set.certificate(number, kind, block_id, needed) is not None
        for kind in VoteType
    )


def check_maker(validator: ValidatorContext, proposal: Proposal) -> None:
    """Checks that it was the proposer's turn, and that it signed the proposal.

    Raises:
      UnknownProposer: If it is out of turn.
      ProtocolError: If there is no such validator.
      SignatureError: If it signed something else.
    """
    # Turn before signature: who is out of turn costs no verification.
    if proposal.proposer != validator.proposer(proposal.round):
        raise UnknownProposer(f"validator {proposal.proposer} is out of turn")
    members = validator.roster.validators.members
    if proposal.proposer >= len(members):
        raise ProtocolError(f"no validator {proposal.proposer}", Reason.NOT_AUTHORISED)
    public = members[proposal.proposer].public
    verify(public, proposal.signed_bytes(validator.chain_id), proposal.signature)


def check_block(block: Block, block_id: BlockHash) -> Block:
    """Returns the block if it is the one that is named.

    Raises:
      InvalidBlock: If it is not. The maker's signature covers the name only, so that
        this says nothing of it: whoever passed the message on may have swapped the
        bytes, and the right ones may follow.
    """
    # The transactions, too: the header could be right over a body that was swapped.
    header = block.header
    if header.block_id() != block_id or block.tx_root() != header.tx_root:
        raise InvalidBlock("the block is not the one that the proposal names")
    return block
