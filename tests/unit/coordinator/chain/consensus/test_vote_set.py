"""The set of votes holds a bounded number of them, and quorums for one reason."""

from starling.coordinator.chain.consensus.round_state import RoundStep
from starling.coordinator.chain.consensus.vote_set import CONFLICTS_MAX
from tests.unit.coordinator.chain.consensus.round_votes import (
    PREVOTE,
    A,
    B,
    at,
    receive,
    vote,
)


def test_prevotes_that_rely_on_different_rounds_are_no_quorum() -> None:
    votes = [vote(voter, PREVOTE, A, 2, relied=voter % 2) for voter in (1, 2, 3)]
    vote_set = receive(at(RoundStep.PREVOTE, 2), *votes).vote_set
    assert vote_set.certificate(2, PREVOTE, A, 3) is None
    assert vote_set.polka_of(2, 3) is None


def test_distant_rounds_keep_the_highest_of_each_validator() -> None:
    state = at(RoundStep.PREVOTE)
    for number in (50, 10**6, 7, 10**9):
        state = receive(state, vote(1, PREVOTE, None, number))
    assert list(state.vote_set.votes) == [(10**9, PREVOTE)]


def test_conflicts_are_kept_in_bounded_number() -> None:
    state = at(RoundStep.PREVOTE, 1000)
    for number in range(CONFLICTS_MAX + 20):
        state = receive(state, vote(1, PREVOTE, A, number), vote(1, PREVOTE, B, number))
        state = receive(state, vote(1, PREVOTE, None, number))
    assert len(state.vote_set.conflicts) == CONFLICTS_MAX
