"""Passing quorums on: what one correct validator saw to be voted, all get to see.

A liar may vote otherwise to each listener, so that a quorum exists for one of us only.
Votes alone do not tell the others, since of each validator the first vote counts
(deviation D4); the certificate does, whatever its members said to whom. In calm nobody
disagrees, what is prevoted is decided soon, and nothing is sent.

Source: arXiv:1807.04938 section 2.1, "Gossip communication", and Lemma 7, which needs
it of the prevotes that lock; circlefin/malachite issue 309.
"""

import math

from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.chain_step import ChainStep
from starling.coordinator.chain.consensus.round_state import RoundStep
from starling.coordinator.chain.consensus.vote_set import VoteSet
from starling.coordinator.chain.state import validator_records
from starling.protocol.chain.blocks import Certificate, Vote, VoteType
from starling.protocol.crypto.keys import verify
from starling.protocol.dataclass_replace import evolve
from starling.protocol.ids import BlockHash

SOON_STATUSES = 0.25
"""Of an interval between statuses: when a quorum that decided nothing is passed on.
Who was not offered its block gets it then before it gives the round up."""


def is_disputed(vote_set: VoteSet, number: int, block_id: BlockHash) -> bool:
    """True if a validator voted twice in a round, or proposed twice at this height.

    Then others may hold no quorum where we hold one.
    """
    # In a later round something went wrong before, so that others may know less.
    if number > 0 or vote_set.conflicts or vote_set.rivals:
        return True
    cast = [vote_set.cast(number, kind) for kind in VoteType]
    return any(vote.block_id != block_id for votes in cast for vote in votes.values())


def share_polka(step: ChainStep) -> None:
    """Passes on the prevotes of our valid round, once, unless all seem to agree.

    Who seems to agree but does not decide may lack the block.
    """
    state = step.state.consensus
    number, block_id = state.valid_round, state.valid
    # The set's members pass quorums on even while they must not vote: it takes no
    # signature.
    if step.state.validator.index is None or number <= step.state.shared_round:
        return
    assert block_id is not None
    now_s, share_at_s = step.moment.now_s, step.state.share_at_s
    # Once the round is over others may lack what was locked in it, whatever it was.
    over = state.round > number or now_s >= share_at_s
    if not over and not is_disputed(state.vote_set, number, block_id):
        # A timer instead of sending: if the height is decided until then, nothing is
        # sent.
        if share_at_s == math.inf:
            share_at_s = now_s + SOON_STATUSES * step.settings.status_s
            step.state = evolve(step.state, share_at_s=share_at_s)
        return
    polka = state.vote_set.certificate(
        number, VoteType.PREVOTE, block_id, step.state.validator.quorum
    )
    assert polka is not None, "a valid value keeps its prevotes"
    # Before it is sent, so that each later step of this height finds it done.
    step.state = evolve(step.state, shared_round=number, share_at_s=math.inf)
    step.gossip(gossip_messages.wrap_polka(polka))


def share_commit(step: ChainStep, certificate: Certificate) -> None:
    """Passes on what decides our height, unless all seem to agree.

    Who only catches up took no part, and knows of nobody who would lack it.
    """
    state = step.state.consensus
    took_part = (
        step.state.validator.index is not None
        and state.step is not RoundStep.NEW_HEIGHT
    )
    if took_part and is_disputed(
        state.vote_set, certificate.round, certificate.block_id
    ):
        step.gossip(gossip_messages.wrap_commit(certificate))


def answer_late_vote(step: ChainStep, vote: Vote) -> None:
    """Answers who votes otherwise, or later, at the height that we just decided.

    Once per height: the certificate goes to all.

    Raises:
      SignatureError: If the voter did not sign it.
    """
    certificate = step.state.tip.certificate
    if (
        certificate is None
        or step.state.told_late
        or step.state.validator.index is None
    ):
        return
    # A vote of a later round shows that its sender does not know the decision, even if
    # it is for the same block.
    agrees = vote.block_id == certificate.block_id
    if vote.height != certificate.height or (
        agrees and vote.round <= certificate.round
    ):
        return
    tip = step.state.tip
    # By the set of that height: the current one may be another.
    members = validator_records.validators(tip.tree, tip.genesis, vote.height).members
    if vote.voter >= len(members):
        return
    # Verified before it counts: a forged vote would use up the only answer.
    verify(
        members[vote.voter].public,
        vote.signed_bytes(step.settings.chain_id),
        vote.signature,
    )
    step.state = evolve(step.state, told_late=True)
    step.gossip(gossip_messages.wrap_commit(certificate))
