"""Subjective logic in integers: opinions, forgetting, quarantine and return."""

from hypothesis import given
from hypothesis import strategies as st

from starling.protocol.learning.board_reputation import (
    MILLION,
    QUARANTINE_BELOW,
    UNKNOWN_BOARD,
    BoardReputation,
    opinion,
    quarantined_text,
    with_evidence,
)
from starling.protocol.schema.msgpack_codec import structure

DAY_S = 86_400
RECORD = structure(BoardReputation, 64)
pieces = st.lists(st.integers(-2 * MILLION, 2 * MILLION), max_size=60)


def after(*evidence: int, quarantine_s: int = 0, time_ms: int = 0) -> BoardReputation:
    known = UNKNOWN_BOARD
    for each in evidence:
        known = with_evidence(known, each, time_ms, quarantine_s)
    return known


def test_newcomer_is_expected_to_be_one_half_and_all_is_uncertain() -> None:
    found = opinion(UNKNOWN_BOARD)
    assert (found.belief, found.disbelief, found.uncertainty) == (0, 0, MILLION)
    assert UNKNOWN_BOARD.expectation_ppm == MILLION // 2


def test_expectation_is_belief_and_half_of_the_uncertainty() -> None:
    known = after(MILLION, MILLION, -MILLION)
    found = opinion(known)
    by_hand = found.belief + found.uncertainty // 2
    assert abs(known.expectation_ppm - by_hand) <= 1
    # Fifteen sixteenths of it, twice and once; then against, twice as much.
    assert known.positive == (MILLION * 15 // 16 + MILLION) * 15 // 16
    assert known.negative == 2 * MILLION


@given(pieces)
def test_opinion_adds_up_and_every_reputation_is_a_record(evidence: list[int]) -> None:
    known = after(*evidence, quarantine_s=DAY_S)
    found = opinion(known)
    total = found.belief + found.disbelief + found.uncertainty
    assert MILLION - 2 <= total <= MILLION
    assert 0 <= known.expectation_ppm <= MILLION
    assert RECORD.unpack(RECORD.pack(known)) == known
    assert known.scored == len(evidence)


@given(pieces, st.integers(0, MILLION))
def test_better_evidence_never_makes_a_worse_reputation(
    evidence: list[int], more: int
) -> None:
    known = after(*evidence)
    better = with_evidence(known, more, 0, 0).expectation_ppm
    worse = with_evidence(known, -more, 0, 0).expectation_ppm
    assert worse <= better


def test_board_without_good_evidence_is_quarantined_before_ten_participations() -> None:
    for piece in (-MILLION, -MILLION // 2):
        known, count = UNKNOWN_BOARD, 0
        while not known.quarantines:
            known = with_evidence(known, piece, 0, DAY_S)
            count += 1
        assert count <= 10


def test_old_evidence_is_forgotten_and_a_bad_streak_tells() -> None:
    known = after(*[MILLION] * 50, quarantine_s=DAY_S)
    assert known.expectation_ppm > 900_000
    count = 0
    while not known.quarantines:
        known = with_evidence(known, -MILLION, 0, DAY_S)
        count += 1
    assert count < 30


def test_quarantine_ends_by_time_and_the_next_one_lasts_twice_as_long() -> None:
    first = after(-MILLION, -MILLION, -MILLION, quarantine_s=60, time_ms=1_000)
    assert first.quarantines == 1
    assert first.until_ms == 61_000
    assert first.is_quarantined(60_999)
    assert not first.is_quarantined(61_000)
    assert first.expectation_ppm > QUARANTINE_BELOW
    late = with_evidence(first, -MILLION, 2_000, 60)
    assert (late.negative, late.scored) == (first.negative, first.scored + 1)
    again = with_evidence(first, -MILLION, 61_000, 60)
    again = with_evidence(again, -MILLION, 61_000, 60)
    assert (again.quarantines, again.until_ms) == (2, 61_000 + 120_000)
    assert "for 120 s more" in quarantined_text(again, 61_000)


def test_returned_board_earns_its_place_back() -> None:
    known = after(-MILLION, -MILLION, -MILLION, quarantine_s=60)
    for _ in range(20):
        known = with_evidence(known, MILLION, 60_000, 60)
    assert known.quarantines == 1
    assert known.expectation_ppm > 850_000


def test_without_quarantine_reputation_only_falls() -> None:
    known = after(*[-MILLION] * 100)
    assert known.quarantines == 0
    assert known.expectation_ppm < 60_000
