"""Consensus with one rule broken each: what the tests must notice."""

from dataclasses import dataclass, replace

from starling.coordinator.chain.consensus import proof_of_lock, tendermint
from starling.coordinator.chain.consensus.round_state import (
    ClockReading,
    Firing,
    RoundState,
    RoundStep,
    ValidatorContext,
)
from starling.coordinator.chain.consensus.tendermint import RULES, Rule
from starling.coordinator.chain.gossip_messages import VoteJournalEntry
from starling.protocol.chain.blocks import Certificate, Proposal
from tests.sim.twins.scenarios import Crew, QuorumRules


def _with(original: Rule, broken: Rule) -> tuple[Rule, ...]:
    assert original in RULES
    return tuple(broken if rule is original else rule for rule in RULES)


def _vote_whatever_is_locked(
    validator: ValidatorContext, state: RoundState, moment: ClockReading
) -> Firing | None:
    free = replace(state, locked=None, locked_round=-1)
    return _keeping_the_lock(tendermint._line_22(validator, free, moment), state)


def _relock_on_any_older_round(
    validator: ValidatorContext, state: RoundState, moment: ClockReading
) -> Firing | None:
    free = replace(state, locked=None, locked_round=-1)
    return _keeping_the_lock(tendermint._line_28(validator, free, moment), state)


def _believe_the_valid_round(
    validator: ValidatorContext, state: RoundState, moment: ClockReading
) -> Firing | None:
    candidate = state.vote_set.proposals.get(state.round)
    if state.step is not RoundStep.PROPOSE or candidate is None:
        return None
    valid_round = candidate.proposal.valid_round - 1
    if not 0 <= valid_round < state.round:
        return None
    block_id = candidate.proposal.block_id
    free = state.locked_round <= valid_round or state.locked == block_id
    return tendermint._prevote(validator, state, block_id if free else None)


def _check_no_proof(validator: ValidatorContext, proposal: Proposal) -> None:
    del validator, proposal


def _check_no_quorum(validator: ValidatorContext, polka: Certificate) -> None:
    del validator, polka


def _unlock_on_nil(
    validator: ValidatorContext, state: RoundState, moment: ClockReading
) -> Firing | None:
    firing = tendermint._line_44(validator, state, moment)
    if firing is None:
        return None
    after, outputs = firing
    return replace(after, locked=None, locked_round=-1), outputs


def _forget_the_lock(state: RoundState, entry: VoteJournalEntry) -> RoundState:
    return proof_of_lock.retake(state, replace(entry, proof=None))


def _keeping_the_lock(firing: Firing | None, before: RoundState) -> Firing | None:
    if firing is None:
        return None
    after, outputs = firing
    kept = replace(after, locked=before.locked, locked_round=before.locked_round)
    return kept, outputs


@dataclass(frozen=True)
class Mutant:
    """A broken law, and the crew that shows it.

    Attributes:
      name: What is broken.
      law: How.
      crew: Who takes part.
      budget: Scenarios within which it must be found.
    """

    name: str
    law: QuorumRules
    crew: Crew
    budget: int


_FOUR = Crew(4, liars=(3,))
_LAX = QuorumRules(rules=_with(tendermint._line_28, _believe_the_valid_round))

MUTANTS = (
    Mutant(
        "line 22 ignores the lock",
        QuorumRules(rules=_with(tendermint._line_22, _vote_whatever_is_locked)),
        _FOUR,
        2_000,
    ),
    Mutant(
        "line 29 without lockedRound <= vr",
        QuorumRules(rules=_with(tendermint._line_28, _relock_on_any_older_round)),
        _FOUR,
        8_000,
    ),
    Mutant(
        "line 28 believes vr without prevotes",
        replace(_LAX, check=_check_no_proof),
        _FOUR,
        20_000,
    ),
    Mutant(
        "line 44 unlocks on nil, as CometBFT does",
        QuorumRules(rules=_with(tendermint._line_44, _unlock_on_nil)),
        _FOUR,
        8_000,
    ),
    Mutant(
        "a quorum that somebody shows is believed",
        QuorumRules(check_polka=_check_no_quorum),
        _FOUR,
        4_000,
    ),
    Mutant(
        "a restart loses the lock", QuorumRules(retake=_forget_the_lock), _FOUR, 8_000
    ),
    Mutant(
        "quorum of a majority, n = 7",
        QuorumRules(quorum=lambda count: count // 2 + 1),
        Crew(7, liars=(2, 5)),
        4_000,
    ),
    Mutant(
        "quorum 2f + 1 read literally, n = 5",
        QuorumRules(quorum=lambda count: 2 * ((count - 1) // 3) + 1),
        Crew(5, liars=(2,)),
        4_000,
    ),
)
