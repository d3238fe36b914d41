"""Proof of lock: carried into the next proposal, to peers, and over a restart.

Source: arXiv:1807.04938v3, page 6, lines 15 to 18, 28 and 38; deviations D1 and D2 of
docs/consensus.md.
"""

from dataclasses import replace

from starling.coordinator.chain.consensus.round_state import (
    RoundState,
    RoundStep,
    ValidatorContext,
)
from starling.coordinator.chain.gossip_messages import VoteJournalEntry
from starling.protocol.chain.blocks import (
    Certificate,
    Proposal,
    VoteType,
    check_certificate,
)
from starling.protocol.errors import ProofError
from starling.protocol.ids import BlockHash


def to_offer(
    validator: ValidatorContext, state: RoundState
) -> tuple[BlockHash, Certificate] | None:
    """Lines 15 and 16: the valid block with its prevotes; None if there is none."""
    if state.valid is None:
        return None
    kind, number = VoteType.PREVOTE, state.valid_round
    proof = state.vote_set.certificate(number, kind, state.valid, validator.quorum)
    assert proof is not None, "a valid value keeps its prevotes"
    return state.valid, proof


def check_proof_of_lock(validator: ValidatorContext, proposal: Proposal) -> None:
    """Deviation D1: a proposal made again brings the prevotes of its valid round.

    Raises:
      ProofError, SignatureError: If it does not, or brings others.
    """
    proof = proposal.proof_of_lock
    if proposal.valid_round == 0:
        if proof is not None:
            raise ProofError("a fresh proposal with a proof of lock")
        return
    # Its first offer dated it, and the quorum of its proof of lock checked that date.
    if proposal.parent is not None:
        raise ProofError("a proposal made again that is dated anew")
    # One more than the paper's on the wire, so that this is its vr >= round.
    if proposal.valid_round > proposal.round or proof is None:
        raise ProofError("a proposal made again without its prevotes")
    named = (proof.height, proof.round, proof.block_id)
    if named != (proposal.height, proposal.valid_round - 1, proposal.block_id):
        raise ProofError("a proof of lock for something else")
    check_polka(validator, proof)


def check_polka(validator: ValidatorContext, polka: Certificate) -> None:
    """Checks a quorum of prevotes of the height; they rely on one round (D2).

    Raises:
      ProofError, SignatureError: If it is none.
    """
    if len(set(polka.extras)) != 1:
        raise ProofError("prevotes that rely on different rounds")
    validators, kind = validator.roster.validators, VoteType.PREVOTE
    check_certificate(
        polka, validator.chain_id, validators, validator.fault_model, kind
    )


def retake(state: RoundState, entry: VoteJournalEntry) -> RoundState:
    """Goes on from what the journal says that we did; entries come in their order.

    A restart must look like a pause: the same votes stand, the same block is locked.
    The entry's proposal, if it has one, was counted in before.
    """
    vote = entry.vote
    # The proposal was sent before the crash and the prevote was not: the round is
    # entered, and line 22 or 28 votes in it.
    if vote is None:
        number = entry.proposal.round if entry.proposal is not None else 0
        return replace(state, round=number, step=RoundStep.PROPOSE)
    # Counted as of its own round, so that D4 does not drop it as distant.
    vote_set = state.vote_set.with_vote(vote, vote.round)
    # The quorum proves to others what the vote relied on, and names the liars of a
    # fork.
    if entry.proof is not None:
        vote_set = vote_set.with_polka(entry.proof)
    state = replace(state, vote_set=vote_set)
    if vote.vote_type == VoteType.PREVOTE:
        return replace(state, round=vote.round, step=RoundStep.PREVOTE)
    # A precommit for nil leaves an earlier lock as it was: line 44 unlocks nothing.
    if entry.proof is not None and vote.block_id is not None:
        state = replace(
            state,
            locked=vote.block_id,
            locked_round=vote.round,
            valid=vote.block_id,
            valid_round=vote.round,
        )
    return replace(state, round=vote.round, step=RoundStep.PRECOMMIT)
