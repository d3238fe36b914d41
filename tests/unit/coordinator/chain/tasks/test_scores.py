"""Coordinators' opinions of updates: once each, and the lower median of a quorum."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.coordinator.chain.governance.chain_parameters import SCORE_BLOCKS
from starling.coordinator.chain.state.score_subjects import subjects
from starling.coordinator.chain.tasks.scores import scorers, scores
from starling.protocol.chain.payments import PAGE
from starling.protocol.chain.update_scores import (
    SCORE,
    Score,
    Scores,
    UpdateScore,
    lower_medians,
)
from starling.protocol.errors import Reason
from starling.protocol.ids import TaskId, Version
from starling.protocol.learning.score_policy import NO_SCORES
from starling.protocol.wire.envelope import Envelope, MessageKind
from starling.protocol.wire.message_bodies import PPM
from tests.unit.coordinator.fixtures.small_chain import SmallChain, opened
from tests.unit.coordinator.fixtures.small_genesis import board_key
from tests.unit.coordinator.fixtures.small_task import PLEDGES, SPEC
from tests.unit.coordinator.fixtures.state_invariants import check_invariants
from tests.unit.coordinator.fixtures.state_views import payments

FINAL = 1


def scored() -> SmallChain:
    """Four validators, and a final version of four updates."""
    world = opened(validators=4)
    world.advance(0)
    return world


def agreed(*values: int) -> tuple[UpdateScore, ...]:
    return tuple(UpdateScore(value, value) for value in values)


def test_first_quorum_of_scores_gives_the_lower_medians_for_good() -> None:
    world = scored()
    world.must(world.score(1, (5, -9, 0, PPM), 0), world.score(1, (7, -8, 0, 0), 1))
    assert scores(world.tree, 0, 1) is None
    world.must(world.score(1, (6, -7, 0, -PPM), 2))
    assert scores(world.tree, 0, 1) == Scores(3, agreed(6, -8, 0, 0))
    late = world.score(1, (0, 0, 0, 0), 3)
    before = world.tree.root()
    assert (world.do(late).code, world.tree.root()) == (Reason.STALE, before)
    assert len(scorers(world.tree, 0, 1)) == 3


def test_subjects_name_boards_bases_and_pledges_in_the_order_of_the_chain() -> None:
    world = opened(validators=1)
    world.advance(0)
    world.advance(1)
    world.must(world.score(2, (1, 2, 3, 4)))
    found = subjects(world.tree, 0, 2)
    boards = [payment.board for payment in payments(world.tree, 0, 2)]
    assert [each.board for each in found] == boards
    given = scores(world.tree, 0, 2) or pytest.fail("not scored")
    assert [each.influence for each in given.medians] == [1, 2, 3, 4]
    assert {(each.base, each.pledge) for each in found} == {(1, PLEDGES[0])}


def test_task_without_scores_keeps_no_subjects_and_refuses_them() -> None:
    world = opened(validators=1, spec=replace(SPEC, scores=NO_SCORES))
    world.advance(0)
    assert subjects(world.tree, 0, 1) == ()
    refused = world.do(world.score(1, (1, 1, 1, 1)))
    assert refused.code == Reason.POLICY_MISMATCH


@given(
    st.lists(st.integers(-PPM, PPM), min_size=3, max_size=3),
    st.integers(-PPM, PPM),
)
def test_liar_leaves_the_median_among_honest_scores(
    honest: list[int], lie: int
) -> None:
    (median,) = lower_medians([[value] for value in (*honest[:2], lie)])
    assert min(honest[:2]) <= median <= max(honest[:2])
    (median,) = lower_medians([[value] for value in (*honest, lie)])
    assert min(honest) <= median <= max(honest)


def test_scores_go_with_their_version() -> None:
    world = scored()
    world.must(*(world.score(1, (1, 2, 3, 4), at) for at in range(3)))
    for base in range(1, SPEC.aggregation.staleness_max + 2):
        world.advance(base)
        check_invariants(world.tree)
    assert scores(world.tree, 0, 1) is None
    assert scorers(world.tree, 0, 1) == ()


def test_version_of_many_updates_is_settled_on_pages() -> None:
    boards = PAGE + 1
    policy = replace(SPEC.aggregation, buffer=boards, leases=boards)
    world = opened(boards, spec=replace(SPEC, aggregation=policy))
    world.advance(0, boards)
    assert len(payments(world.tree, 0, 1)) == boards
    world.must(world.score(1, [PPM] * boards))
    given = scores(world.tree, 0, 1) or pytest.fail("not scored")
    assert len(subjects(world.tree, 0, 1)) == len(given.medians) == boards
    check_invariants(world.tree)
    for base in range(1, SPEC.aggregation.staleness_max + 2):
        world.advance(base, boards)
    assert payments(world.tree, 0, 1) == []
    assert subjects(world.tree, 0, 1) == ()
    check_invariants(world.tree)


def _twice(value: int) -> Callable[[SmallChain], Envelope]:
    def make(world: SmallChain) -> Envelope:
        world.must(world.score(1, (1, 1, 1, 1)))
        return world.score(1, (1, 1, 1, value))

    return make


def _late(world: SmallChain) -> Envelope:
    world.height = FINAL + SCORE_BLOCKS + 1
    return world.score(1, (1, 1, 1, 1))


def _by_board(world: SmallChain) -> Envelope:
    body = SCORE.pack(Score(TaskId(0), Version(1), agreed(1, 1, 1, 1)))
    return world.sign(board_key(0), MessageKind.SCORE, body)


REFUSALS: list[tuple[str, Callable[[SmallChain], Envelope], Reason]] = [
    ("by-a-board", _by_board, Reason.NOT_AUTHORISED),
    ("not-final", lambda w: w.score(2, (1,)), Reason.STALE),
    ("version-0", lambda w: w.score(0, (1,)), Reason.STALE),
    ("unknown-task", lambda w: w.score(1, (1,), task=4), Reason.UNKNOWN_TASK),
    ("too-few", lambda w: w.score(1, (1, 1, 1)), Reason.SHAPE_MISMATCH),
    ("too-many", lambda w: w.score(1, (1,) * 5), Reason.SHAPE_MISMATCH),
    ("again", _twice(1), Reason.ALREADY_KNOWN),
    ("otherwise", _twice(2), Reason.EQUIVOCATION),
    ("late", _late, Reason.STALE),
    (
        "out-of-range",
        lambda w: w.sign(
            w.validators[0],
            MessageKind.SCORE,
            b"\x93\x00\x01\x91\x92\xce\x00\x0f\x42\x41\x00",
        ),
        Reason.MALFORMED,
    ),
]


@pytest.mark.parametrize(
    ("make", "reason"),
    [pytest.param(make, reason, id=name) for name, make, reason in REFUSALS],
)
def test_score_refused_changes_nothing(
    make: Callable[[SmallChain], Envelope], reason: Reason
) -> None:
    world = scored()
    envelope = make(world)
    before = world.tree.root()
    result = world.do(envelope)
    assert (result.code, world.tree.root()) == (reason, before)


def test_last_height_still_takes_scores() -> None:
    world = scored()
    world.height = FINAL + SCORE_BLOCKS
    world.must(world.score(1, (1, 1, 1, 1)))
