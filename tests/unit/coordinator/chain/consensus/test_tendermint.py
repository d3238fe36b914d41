"""Each rule of the paper's Algorithm 1 alone, named after its line."""

from dataclasses import replace

import pytest

from starling.coordinator.chain.consensus.round_state import (
    CastVote,
    ClockReading,
    Decide,
    Output,
    Propose,
    RoundState,
    RoundStep,
)
from starling.coordinator.chain.consensus.tendermint import advance, start_round
from starling.coordinator.chain.consensus.vote_set import BlockCandidate
from starling.protocol.chain.blocks import Certificate, Proposal, Vote
from starling.protocol.ids import SIGNATURE_BYTES, BlockHash
from tests.unit.coordinator.chain.consensus.round_votes import (
    HEIGHT,
    ME,
    NOW,
    PRECOMMIT,
    PREVOTE,
    VALIDATOR,
    A,
    B,
    at,
    receive,
    vote,
)


def offered(
    state: RoundState,
    block_id: BlockHash,
    number: int = 0,
    valid_round: int = -1,
    valid: bool = True,
) -> RoundState:
    proposal = Proposal(
        HEIGHT,
        number,
        valid_round + 1,
        block_id,
        VALIDATOR.proposer(number),
        bytes(SIGNATURE_BYTES),
        b"",
        None,
    )
    vote_set = state.vote_set.with_proposal(BlockCandidate(proposal, valid))
    return replace(state, vote_set=vote_set)


def polka(block_id: BlockHash | None, number: int = 0) -> list[Vote]:
    return [vote(voter, PREVOTE, block_id, number) for voter in (1, 2, 3)]


def go(
    state: RoundState, moment: ClockReading = NOW
) -> tuple[RoundState, tuple[Output, ...]]:
    return advance(VALIDATOR, state, moment)


def cast(outputs: tuple[Output, ...]) -> list[tuple[int, int, BlockHash | None]]:
    votes = [output.vote for output in outputs if isinstance(output, CastVote)]
    return [(entry.vote_type, entry.round, entry.block_id) for entry in votes]


@pytest.mark.parametrize("number", range(8))
def test_line_14_proposer_of_the_round_proposes(number: int) -> None:
    state, outputs = start_round(VALIDATOR, RoundState(HEIGHT), NOW, number)
    mine = (HEIGHT + number) % 4 == ME
    assert outputs == ((Propose(HEIGHT, number),) if mine else ())
    assert (state.step, state.round) == (RoundStep.PROPOSE, number)


def test_line_21_others_wait_for_the_proposal() -> None:
    state, _ = start_round(VALIDATOR, RoundState(HEIGHT), NOW, 2)
    assert state.propose_at_s == NOW.now_s + VALIDATOR.timeouts.of_proposal(2)


@pytest.mark.parametrize(
    ("locked", "valid", "expected"),
    [
        pytest.param(None, True, A, id="free"),
        pytest.param(None, False, None, id="invalid"),
        pytest.param(A, True, A, id="locked-on-it"),
        pytest.param(B, True, None, id="locked-on-another"),
        pytest.param(A, False, None, id="locked-but-invalid"),
    ],
)
def test_line_22_fresh_proposal(
    locked: BlockHash | None, valid: bool, expected: BlockHash | None
) -> None:
    lock = {} if locked is None else {"locked": locked, "locked_round": 0}
    state = offered(at(RoundStep.PROPOSE, 1, **lock), A, 1, valid=valid)
    state, outputs = go(state)
    assert cast(outputs) == [(PREVOTE, 1, expected)]
    assert state.step is RoundStep.PREVOTE


@pytest.mark.parametrize(
    ("locked_round", "locked", "expected"),
    [
        pytest.param(-1, None, A, id="free"),
        pytest.param(0, B, A, id="locked-before-the-polka"),
        pytest.param(1, B, A, id="locked-in-the-polkas-round"),
        pytest.param(2, B, None, id="locked-after-the-polka"),
        pytest.param(2, A, A, id="locked-on-it"),
    ],
)
def test_line_28_proposal_made_again(
    locked_round: int, locked: BlockHash | None, expected: BlockHash | None
) -> None:
    state = at(RoundStep.PROPOSE, 3, locked=locked, locked_round=locked_round)
    state = receive(offered(state, A, 3, valid_round=1), *polka(A, 1))
    _, outputs = go(state)
    assert cast(outputs) == [(PREVOTE, 3, expected)]


def test_line_28_without_its_prevotes_waits() -> None:
    state = offered(at(RoundStep.PROPOSE, 3), A, 3, valid_round=1)
    state = receive(state, *polka(A, 1)[:2], *polka(A, 2))
    _, outputs = go(state)
    assert outputs == ()


def test_line_28_prevote_names_the_round_that_it_relies_on() -> None:
    state = receive(
        offered(at(RoundStep.PROPOSE, 3), A, 3, valid_round=1), *polka(A, 1)
    )
    _, (output,) = go(state)
    assert isinstance(output, CastVote)
    assert output.vote.extra == 2


def test_line_34_any_quorum_of_prevotes_starts_the_clock_once() -> None:
    votes = [vote(1, PREVOTE, A), vote(2, PREVOTE, B), vote(3, PREVOTE, None)]
    state, outputs = go(receive(at(RoundStep.PREVOTE), *votes))
    assert outputs == ()
    assert state.prevote_at_s == NOW.now_s + VALIDATOR.timeouts.of_votes(0)
    again, _ = go(state, replace(NOW, now_s=NOW.now_s + 0.5))
    assert again.prevote_at_s == state.prevote_at_s


def test_line_34_two_votes_of_one_validator_count_once() -> None:
    votes = [vote(1, PREVOTE, A), vote(1, PREVOTE, B), vote(2, PREVOTE, A)]
    state, _ = go(receive(at(RoundStep.PREVOTE), *votes))
    assert state.prevote_at_s is None
    assert len(state.vote_set.conflicts) == 1


def test_line_36_quorum_locks_and_precommits() -> None:
    state, outputs = go(receive(offered(at(RoundStep.PREVOTE), A), *polka(A)))
    assert cast(outputs) == [(PRECOMMIT, 0, A)]
    assert (state.locked, state.locked_round) == (A, 0)
    assert (state.valid, state.valid_round) == (A, 0)
    (output,) = outputs
    assert isinstance(output, CastVote)
    assert output.locked is not None
    assert output.proof is not None
    assert output.proof.members() == (1, 2, 3)


def test_line_36_needs_prevotes_that_rely_on_the_proposals_round() -> None:
    """Deviation D2: prevotes for the same block for different reasons lock nothing."""
    offer = offered(at(RoundStep.PREVOTE, 2), A, 2, valid_round=1)
    relying = [vote(voter, PREVOTE, A, 2, relied=2) for voter in (1, 2, 3)]
    other = vote(3, PREVOTE, A, 2, relied=0)
    _, outputs = go(receive(offer, *relying[:2], other))
    assert cast(outputs) == []
    _, outputs = go(receive(offer, *relying))
    assert cast(outputs) == [(PRECOMMIT, 2, A)]


@pytest.mark.parametrize("relied", [(0, 0, 0), (2, 2, 0)], ids=["other", "mixed"])
def test_line_36_locks_nothing_by_prevotes_for_another_reason(
    relied: tuple[int, int, int],
) -> None:
    offer = offered(at(RoundStep.PREVOTE, 2), A, 2, valid_round=1)
    votes = [
        vote(voter, PREVOTE, A, 2, relied=each)
        for voter, each in zip((1, 2, 3), relied, strict=True)
    ]
    state, outputs = go(receive(offer, *votes))
    assert cast(outputs) == []
    assert state.locked is None


@pytest.mark.parametrize(
    ("relied", "number", "adopted"),
    [
        pytest.param(0, 1, True, id="earlier-round"),
        pytest.param(2, 2, True, id="two-reasons-of-this-round"),
        pytest.param(0, 3, False, id="later-round"),
    ],
)
def test_line_42_late_quorum_is_what_we_offer_next(
    relied: int, number: int, adopted: bool
) -> None:
    state = offered(at(RoundStep.PRECOMMIT, 2), A, 0)
    votes = [vote(voter, PREVOTE, A, number, relied=relied) for voter in (1, 2, 3)]
    state, outputs = go(receive(state, *votes))
    assert (state.valid_round == number) is adopted
    assert state.locked is None
    assert cast(outputs) == []


def test_line_36_after_the_precommit_only_makes_it_valid() -> None:
    state, outputs = go(receive(offered(at(RoundStep.PRECOMMIT), A), *polka(A)))
    assert cast(outputs) == []
    assert (state.locked, state.locked_round) == (None, -1)
    assert (state.valid, state.valid_round) == (A, 0)


@pytest.mark.parametrize("case", ["no-proposal", "invalid", "other", "two-votes"])
def test_line_36_needs_a_valid_proposal_and_a_quorum_for_it(case: str) -> None:
    state = at(RoundStep.PREVOTE)
    if case != "no-proposal":
        block_id = B if case == "other" else A
        state = offered(state, block_id, valid=case != "invalid")
    votes = polka(A)[: 2 if case == "two-votes" else 3]
    state, outputs = go(receive(state, *votes))
    assert cast(outputs) == []
    assert state.locked is None


def test_line_44_quorum_for_nil_precommits_nil_and_unlocks_nothing() -> None:
    locked = at(RoundStep.PREVOTE, 1, locked=A, locked_round=0, valid=A, valid_round=0)
    state, outputs = go(receive(locked, *polka(None, 1)))
    assert cast(outputs) == [(PRECOMMIT, 1, None)]
    assert (state.locked, state.locked_round) == (A, 0)


@pytest.mark.parametrize(
    "step", [RoundStep.PROPOSE, RoundStep.PREVOTE, RoundStep.PRECOMMIT]
)
def test_line_47_any_quorum_of_precommits_starts_the_clock(step: RoundStep) -> None:
    votes = [vote(1, PRECOMMIT, A), vote(2, PRECOMMIT, None), vote(3, PRECOMMIT, B)]
    state, outputs = go(receive(at(step), *votes))
    assert outputs == ()
    assert state.precommit_at_s == NOW.now_s + VALIDATOR.timeouts.of_votes(0)


@pytest.mark.parametrize("number", [0, 3, 9], ids=["past", "current", "future"])
def test_line_49_quorum_of_precommits_in_any_round_decides(number: int) -> None:
    state = offered(at(RoundStep.PREVOTE, 3), A, number)
    votes = [vote(voter, PRECOMMIT, A, number) for voter in (1, 2, 3)]
    _, outputs = go(receive(state, *votes))
    (output,) = outputs
    assert isinstance(output, Decide)
    assert (output.certificate.round, output.certificate.block_id) == (number, A)


@pytest.mark.parametrize("valid", [False, None], ids=["invalid", "missing"])
def test_line_49_without_a_valid_block_decides_nothing(valid: bool | None) -> None:
    state = at(RoundStep.PRECOMMIT, 3)
    if valid is not None:
        state = offered(state, A, 0, valid=valid)
    votes = [vote(voter, PRECOMMIT, A, 0) for voter in (1, 2, 3)]
    _, outputs = go(receive(state, *votes))
    assert outputs == ()


def test_line_55_more_than_f_in_a_later_round_take_us_along() -> None:
    state = at(RoundStep.PREVOTE)
    state, _ = go(receive(state, vote(1, PREVOTE, None, 4)))
    assert state.round == 0
    state, _ = go(receive(state, vote(2, PRECOMMIT, None, 6)))
    assert (state.round, state.step) == (4, RoundStep.PROPOSE)


@pytest.mark.parametrize(
    ("step", "field", "expected", "after"),
    [
        (RoundStep.PROPOSE, "propose_at_s", [(PREVOTE, 0, None)], RoundStep.PREVOTE),
        (RoundStep.PREVOTE, "propose_at_s", [], RoundStep.PREVOTE),
        (
            RoundStep.PREVOTE,
            "prevote_at_s",
            [(PRECOMMIT, 0, None)],
            RoundStep.PRECOMMIT,
        ),
        (RoundStep.PRECOMMIT, "prevote_at_s", [], RoundStep.PRECOMMIT),
    ],
    ids=["line-57", "line-57-too-late", "line-61", "line-61-too-late"],
)
def test_timeout_votes_nil_if_the_step_still_waits(
    step: RoundStep, field: str, expected: list[object], after: RoundStep
) -> None:
    due = {field: NOW.now_s}
    state = replace(at(step), **due)  # type: ignore[arg-type]  # a table
    early, outputs = go(state, replace(NOW, now_s=NOW.now_s - 0.1))
    assert outputs == ()
    state, outputs = go(early)
    assert cast(outputs) == expected
    assert state.step is after


def test_line_65_timeout_begins_the_next_round() -> None:
    state, _ = go(at(RoundStep.PRECOMMIT, 2, precommit_at_s=NOW.now_s))
    assert (state.round, state.step, state.precommit_at_s) == (
        3,
        RoundStep.PROPOSE,
        None,
    )


def test_rules_fire_in_whatever_order_messages_arrive() -> None:
    """Level-triggered: prevotes before the proposal lead to the same precommit."""
    state, _ = go(receive(at(RoundStep.PROPOSE), *polka(A)))
    assert state.step is RoundStep.PROPOSE
    _, outputs = go(offered(state, A))
    assert cast(outputs) == [(PREVOTE, 0, A), (PRECOMMIT, 0, A)]


def test_hidden_lock_is_made_known_by_the_proof_in_the_proposal() -> None:
    """Only one validator locked A in round 0; round 1 brings A with its prevotes."""
    state = offered(at(RoundStep.PROPOSE, 1), A, 1, valid_round=0)
    votes = polka(A, 0)
    proof = Certificate(
        HEIGHT,
        0,
        A,
        0b1110,
        tuple(entry.signature for entry in votes),
        tuple(entry.extra for entry in votes),
    )
    state = replace(state, vote_set=state.vote_set.with_polka(proof))
    _, outputs = go(state)
    assert cast(outputs) == [(PREVOTE, 1, A)]


def test_observer_follows_without_voting() -> None:
    validator = replace(VALIDATOR, index=None)
    state = receive(offered(at(RoundStep.PROPOSE), A), *polka(A))
    votes = [vote(voter, PRECOMMIT, A) for voter in (1, 2, 3)]
    _, outputs = advance(validator, receive(state, *votes), NOW)
    assert [type(output) for output in outputs] == [Decide]
