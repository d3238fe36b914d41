"""Report of a validator that signed two things: it is named, and accused.

The accusation is a transaction like any other and carries both signatures, so that it
convinces whoever was told one thing only.
"""

from dataclasses import replace

from starling.coordinator.chain.chain_step import BlamePeer, ChainStep
from starling.coordinator.chain.node import height
from starling.coordinator.chain.state import board_records
from starling.protocol.chain.blocks import Proposal, Vote
from starling.protocol.chain.evidence import (
    EVIDENCE,
    Evidence,
    duplicate_proposals,
    duplicate_votes,
)
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import Reason
from starling.protocol.ids import PublicKey
from starling.protocol.wire.envelope import MessageKind


def second_vote(step: ChainStep, first: Vote, second: Vote) -> None:
    """A validator voted twice in one round; both votes are kept already."""
    detail = f"voted twice in round {first.round}"
    signer = _public(step, first.voter)
    step.emit(BlamePeer(Reason.EQUIVOCATION, detail, signer))
    # The last pair is the one that is reported.
    told = step.state.consensus.vote_set.conflicts[:-1]
    if all(pair[0].voter != first.voter for pair in told):
        _accuse(step, first.voter, duplicate_votes(first, second))


def second_proposal(step: ChainStep, second: Proposal) -> None:
    """A validator offered two blocks in one round; the first one counts."""
    state = step.state.consensus
    detail = f"proposed twice in round {second.round}"
    signer = _public(step, second.proposer)
    step.emit(BlamePeer(Reason.EQUIVOCATION, detail, signer))
    # Read before the new rival is added, which must not hide itself.
    told = state.vote_set.rivals.values()
    first = state.vote_set.proposals[second.round].proposal
    vote_set = state.vote_set.with_rival(second)
    step.state = evolve(step.state, consensus=replace(state, vote_set=vote_set))
    if all(rival.proposer != second.proposer for rival in told):
        _accuse(step, second.proposer, duplicate_proposals(first, second))


def _accuse(step: ChainStep, validator: int, evidence: Evidence) -> None:
    state = step.state
    public = _public(step, validator)
    # Convicted once is convicted: the chain would refuse a second accusation of a
    # validator.
    if board_records.fault(state.tree, public) is not None:
        return
    # One accusation of a validator and height: its counter needs no memory.
    counter = state.consensus.height
    height.submit_own(step, MessageKind.EVIDENCE, counter, EVIDENCE.pack(evidence))


def _public(step: ChainStep, validator: int) -> PublicKey:
    return step.state.validator.roster.validators.members[validator].public
