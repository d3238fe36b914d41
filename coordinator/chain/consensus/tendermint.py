"""Tendermint Algorithm 1 as a pure state machine for one height.

The rules carry the numbers of the paper's lines. They are level-triggered: after every
input all of them are tried in turn until none fires, so that the order in which
messages arrive does not matter. What differs from the paper, and why that is safe,
stands in docs/consensus.md under D1 to D8.

Source: Buchman, Kwon, Milosevic, "The latest gossip on BFT consensus",
arXiv:1807.04938v3, page 6.
"""

from collections.abc import Callable
from dataclasses import replace

from starling.coordinator.chain.consensus.round_state import (
    NEVER,
    CastVote,
    ClockReading,
    Decide,
    Firing,
    Output,
    Propose,
    RoundState,
    RoundStep,
    ValidatorContext,
)
from starling.coordinator.chain.consensus.vote_set import BlockCandidate
from starling.protocol.chain.blocks import (
    TIME_MS_MAX,
    Certificate,
    Vote,
    VoteType,
    vote_bytes,
)
from starling.protocol.ids import BlockHash

Rule = Callable[[ValidatorContext, RoundState, ClockReading], Firing | None]


def advance(
    validator: ValidatorContext,
    state: RoundState,
    moment: ClockReading,
    rules: tuple[Rule, ...] | None = None,
) -> Firing:
    """Lets all rules fire until none does; stops after a decision.

    Args:
      validator: Who we are and with whom we decide; without an index, as a validator
        that must not vote, we only follow.
      state: Before.
      moment: The clocks.
      rules: Other rules than `RULES`, to see that tests notice a wrong one.
    """
    if rules is None:
        rules = RULES if validator.index is not None else FOLLOWING
    outputs: list[Output] = []
    # Deviation D7: before round 0 no rule fires, unless the height came decided, with
    # its block.
    fired = state.step is not RoundStep.NEW_HEIGHT or state.vote_set.delivered
    while fired:
        fired = False
        for rule in rules:
            firing = rule(validator, state, moment)
            if firing is None:
                continue
            state, more = firing
            outputs.extend(more)
            # A rule beyond this one would act on a height that is over.
            if any(isinstance(output, Decide) for output in more):
                return state, tuple(outputs)
            fired = True
            # From the top again, since a firing may enable a rule that is listed before
            # it.
            break
    return state, tuple(outputs)


def start_round(
    validator: ValidatorContext, state: RoundState, moment: ClockReading, number: int
) -> Firing:
    """Lines 11 to 21: StartRound(round)."""
    mine = validator.index is not None and validator.index == validator.proposer(number)
    wait_s = validator.timeouts.of_proposal(number)
    state = replace(
        state,
        round=number,
        step=RoundStep.PROPOSE,
        propose_at_s=moment.now_s + wait_s,
        prevote_at_s=None,
        precommit_at_s=None,
    )
    # The proposal may be there already, from the journal or from before a silence: a
    # second one of the same round would be an equivocation.
    if mine and number not in state.vote_set.proposals:
        return state, (Propose(state.height, number),)
    return state, ()


def _line_22(
    validator: ValidatorContext, state: RoundState, moment: ClockReading
) -> Firing | None:
    """Lines 22 to 27: prevote on a fresh proposal."""
    candidate = state.vote_set.proposals.get(state.round)
    if state.step is not RoundStep.PROPOSE or candidate is None:
        return None
    # On the wire the valid round is one more than the paper's: 0 is its -1.
    if candidate.proposal.valid_round != 0:
        return None
    block_id = candidate.proposal.block_id
    free = state.locked_round == -1 or state.locked == block_id
    return _prevote(validator, state, block_id if candidate.valid and free else None)


def _line_28(
    validator: ValidatorContext, state: RoundState, moment: ClockReading
) -> Firing | None:
    """Lines 28 to 33: prevote on a proposal made again with its prevotes."""
    candidate = state.vote_set.proposals.get(state.round)
    if state.step is not RoundStep.PROPOSE or candidate is None:
        return None
    block_id = candidate.proposal.block_id
    valid_round = candidate.proposal.valid_round - 1
    if not 0 <= valid_round < state.round:
        return None
    polka = _polka(validator, state, valid_round, block_id)
    if polka is None:
        return None
    free = state.locked_round <= valid_round or state.locked == block_id
    if not (candidate.valid and free):
        return _prevote(validator, state, None)
    return _prevote(validator, state, block_id, polka)


def _line_34(
    validator: ValidatorContext, state: RoundState, moment: ClockReading
) -> Firing | None:
    """Lines 34 and 35: any quorum of prevotes starts the clock."""
    # "For the first time": infinity, once it fired, is not None either.
    if state.step is not RoundStep.PREVOTE or state.prevote_at_s is not None:
        return None
    if len(state.vote_set.cast(state.round, VoteType.PREVOTE)) < validator.quorum:
        return None
    at_s = moment.now_s + validator.timeouts.of_votes(state.round)
    return replace(state, prevote_at_s=at_s), ()


def _line_36(
    validator: ValidatorContext, state: RoundState, moment: ClockReading
) -> Firing | None:
    """Lines 36 to 43: a quorum of prevotes for a valid proposal locks it.

    Deviation D2: they must rely on the round that the proposal names.
    """
    # "For the first time": a valid round that is the current one shows that the rule
    # fired.
    if state.step < RoundStep.PREVOTE or state.valid_round >= state.round:
        return None
    for candidate in state.vote_set.candidates(state.round):
        block_id = candidate.proposal.block_id
        polka = _polka(validator, state, state.round, block_id)
        if polka is None or not candidate.valid:
            continue
        # Deviation D2: prevotes that name another reason than this proposal do not lock
        # it.
        if set(polka.extras) != {candidate.proposal.valid_round}:
            continue
        # Line 37: after the own precommit the quorum sets only what is offered next.
        first = state.step is RoundStep.PREVOTE
        state = replace(state, valid=block_id, valid_round=state.round)
        if not first:
            return state, ()
        state = replace(state, locked=block_id, locked_round=state.round)
        return _precommit(validator, state, moment, block_id, polka, candidate)
    return None


def _line_42(
    validator: ValidatorContext, state: RoundState, moment: ClockReading
) -> Firing | None:
    """Lines 42 and 43 for a quorum of prevotes that came after its round.

    Deviation D8: the paper's gossip brings it in time, a bus with liars may not. It
    says what we offer next, and frees and locks nothing.
    """
    del moment
    # Line 36 must see the quorum of the current round first: it fires once a round, and
    # would lock nothing if the valid round were set already.
    over = state.round + (state.step is RoundStep.PRECOMMIT)
    for number in range(over - 1, state.valid_round, -1):
        polka = state.vote_set.polka_of(number, validator.quorum)
        if polka is None or len(set(polka.extras)) != 1:
            continue
        # By its hash alone: the block may have come with the proposal of another round.
        candidate = state.vote_set.candidate_for(polka.block_id)
        if candidate is not None and candidate.valid:
            return replace(state, valid=polka.block_id, valid_round=number), ()
    return None


def _line_44(
    validator: ValidatorContext, state: RoundState, moment: ClockReading
) -> Firing | None:
    """Lines 44 to 46: a quorum for nil. It unlocks nothing, unlike CometBFT's."""
    if state.step is not RoundStep.PREVOTE:
        return None
    if state.vote_set.count(state.round, VoteType.PREVOTE, None) < validator.quorum:
        return None
    return _precommit(validator, state, moment, None)


def _line_47(
    validator: ValidatorContext, state: RoundState, moment: ClockReading
) -> Firing | None:
    """Lines 47 and 48: any quorum of precommits starts the clock."""
    if state.step is RoundStep.NEW_HEIGHT or state.precommit_at_s is not None:
        return None
    if len(state.vote_set.cast(state.round, VoteType.PRECOMMIT)) < validator.quorum:
        return None
    at_s = moment.now_s + validator.timeouts.of_votes(state.round)
    return replace(state, precommit_at_s=at_s), ()


def _line_49(
    validator: ValidatorContext, state: RoundState, moment: ClockReading
) -> Firing | None:
    """Lines 49 to 54: a quorum of precommits in any round decides."""
    del moment
    # Not bound to the current round: a certificate of an earlier one decides as well.
    certificate = state.vote_set.committed(validator.quorum)
    if certificate is None:
        return None
    candidate = state.vote_set.candidate_for(certificate.block_id)
    if candidate is not None and candidate.valid:
        return state, (Decide(certificate),)
    if state.vote_set.delivered:
        # It came as a decision, with a block that was checked on arrival.
        return state, (Decide(certificate),)
    return None


def _line_55(
    validator: ValidatorContext, state: RoundState, moment: ClockReading
) -> Firing | None:
    """Lines 55 and 56: somebody correct is in a later round (deviation D5)."""
    claimed = state.vote_set.claimed_rounds()
    # In falling order, entry f is a round that f + 1 validators have reached.
    if len(claimed) < validator.skip or claimed[validator.skip - 1] <= state.round:
        return None
    return start_round(validator, state, moment, claimed[validator.skip - 1])


def _line_57(
    validator: ValidatorContext, state: RoundState, moment: ClockReading
) -> Firing | None:
    """Lines 57 to 60: no proposal came in time."""
    if not _due(state.propose_at_s, moment):
        return None
    # Marked as spent, so that it neither fires again nor wakes the runtime; in a later
    # step than PROPOSE that is all it does.
    state = replace(state, propose_at_s=NEVER)
    if state.step is not RoundStep.PROPOSE:
        return state, ()
    return _prevote(validator, state, None)


def _line_61(
    validator: ValidatorContext, state: RoundState, moment: ClockReading
) -> Firing | None:
    """Lines 61 to 64: no quorum of equal prevotes came in time."""
    if not _due(state.prevote_at_s, moment):
        return None
    state = replace(state, prevote_at_s=NEVER)
    if state.step is not RoundStep.PREVOTE:
        return state, ()
    return _precommit(validator, state, moment, None)


def _line_65(
    validator: ValidatorContext, state: RoundState, moment: ClockReading
) -> Firing | None:
    """Lines 65 to 67: no decision came in time, the next round begins."""
    if not _due(state.precommit_at_s, moment):
        return None
    return start_round(validator, state, moment, state.round + 1)


RULES: tuple[Rule, ...] = (
    # A decision comes before anything that would only prolong the height.
    _line_49,
    _line_28,
    _line_22,
    _line_36,
    _line_42,
    _line_44,
    _line_34,
    _line_47,
    _line_55,
    # Timeouts come last: votes that are counted already weigh more than a clock that
    # ran out in the same step.
    _line_57,
    _line_61,
    _line_65,
)


FOLLOWING: tuple[Rule, ...] = (_line_49, _line_42, _line_55)
"""What is left for somebody who does not vote: to decide, and to keep up."""


def _due(at_s: float | None, moment: ClockReading) -> bool:
    return at_s is not None and at_s <= moment.now_s


def _polka(
    validator: ValidatorContext, state: RoundState, number: int, block_id: BlockHash
) -> Certificate | None:
    return state.vote_set.certificate(
        number, VoteType.PREVOTE, block_id, validator.quorum
    )


def _prevote(
    validator: ValidatorContext,
    state: RoundState,
    block_id: BlockHash | None,
    proof: Certificate | None = None,
) -> Firing:
    candidate = state.vote_set.proposals.get(state.round)
    # Deviation D2: the vote says which round's prevotes it relies on.
    relied = 0
    if block_id is not None and candidate is not None:
        relied = candidate.proposal.valid_round
    state = replace(state, step=RoundStep.PREVOTE)
    state, vote = _cast(validator, state, VoteType.PREVOTE, block_id, relied)
    return state, (CastVote(vote, proof),) if vote is not None else ()


def _precommit(
    validator: ValidatorContext,
    state: RoundState,
    moment: ClockReading,
    block_id: BlockHash | None,
    proof: Certificate | None = None,
    locked: BlockCandidate | None = None,
) -> Firing:
    state = replace(state, step=RoundStep.PRECOMMIT)
    kind = VoteType.PRECOMMIT
    # A board without a battery wakes up in 1970, or anywhere.
    now_ms = min(TIME_MS_MAX, max(0, moment.now_ms))
    state, vote = _cast(validator, state, kind, block_id, now_ms)
    return state, (CastVote(vote, proof, locked),) if vote is not None else ()


def _cast(
    validator: ValidatorContext,
    state: RoundState,
    kind: VoteType,
    block_id: BlockHash | None,
    extra: int,
) -> tuple[RoundState, Vote | None]:
    """Signs an own vote. The step has moved on, so that it is the round's only one."""
    # An observer walks through the steps and signs nothing.
    if validator.index is None:
        return state, None
    known = state.vote_set.cast(state.round, kind).get(validator.index)
    assert known is None, "the step allows one vote of a type per round"
    signed = vote_bytes(
        validator.chain_id, kind, state.height, state.round, block_id, extra
    )
    signature = validator.key.sign(signed)
    vote = Vote(
        kind, state.height, state.round, block_id, extra, validator.index, signature
    )
    vote_set = state.vote_set.with_vote(vote, state.round)
    return replace(state, vote_set=vote_set), vote
