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


def second_vote(turn: ChainStep, first: Vote, second: Vote) -> None:
    """A validator voted twice in one round; both votes are kept already."""
    detail = f"voted twice in round {first.round}"
    signer = _public(turn, first.voter)
    turn.emit(BlamePeer(Reason.EQUIVOCATION, detail, signer))
    told = turn.state.consensus.ballots.conflicts[:-1]
    if all(pair[0].voter != first.voter for pair in told):
        _accuse(turn, first.voter, duplicate_votes(first, second))


def second_proposal(turn: ChainStep, second: Proposal) -> None:
    """A validator offered two blocks in one round; the first one counts."""
    state = turn.state.consensus
    detail = f"proposed twice in round {second.round}"
    signer = _public(turn, second.proposer)
    turn.emit(BlamePeer(Reason.EQUIVOCATION, detail, signer))
    told = state.ballots.rivals.values()
    first = state.ballots.proposals[second.round].proposal
    ballots = state.ballots.with_rival(second)
    turn.state = evolve(turn.state, consensus=replace(state, ballots=ballots))
    if all(rival.proposer != second.proposer for rival in told):
        _accuse(turn, second.proposer, duplicate_proposals(first, second))


def _accuse(turn: ChainStep, validator: int, evidence: Evidence) -> None:
    state = turn.state
    public = _public(turn, validator)
    if board_records.fault(state.tree, public) is not None:
        return
    # One accusation of a validator and height: its counter needs no memory.
    counter = state.consensus.height
    height.submit_own(turn, MessageKind.EVIDENCE, counter, EVIDENCE.pack(evidence))


def _public(turn: ChainStep, validator: int) -> PublicKey:
    return turn.state.party.roster.validators.members[validator].public
