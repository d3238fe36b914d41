"""Reputation on the chain: evidence of a quorum's medians, quarantine and return."""

from dataclasses import replace

import pytest

from starling.coordinator.chain.execution.state_machine import execute
from starling.coordinator.chain.state import task_records
from starling.coordinator.chain.state.overlay import BoardQuarantined, ScoresKnown
from starling.coordinator.chain.tasks.reputations import evidence, reputation
from starling.protocol.chain.update_scores import UpdateScore
from starling.protocol.ids import TaskId, Version
from starling.protocol.learning.board_reputation import MILLION, UNKNOWN_BOARD
from starling.protocol.learning.score_policy import ScorePolicy, ScoreRule
from starling.protocol.learning.task import MICRO, PrivacyPolicy, TaskSpec
from starling.protocol.privacy.mechanisms import RECORD_GAUSSIAN
from tests.unit.coordinator.fixtures.small_chain import SmallChain, opened
from tests.unit.coordinator.fixtures.small_genesis import board_id
from tests.unit.coordinator.fixtures.small_task import SPEC
from tests.unit.coordinator.fixtures.state_invariants import check_invariants

GOOD = 900_000
NOISED = replace(
    SPEC,
    privacy=PrivacyPolicy(RECORD_GAUSSIAN, 1 << 24, 4 * MICRO, MICRO, 10**6, 15),
)
ACCURACY = replace(SPEC, scores=ScorePolicy(ScoreRule.ACCURACY))


def rounds(world: SmallChain, count: int, bad: int = -GOOD) -> None:
    """Versions of four boards' updates, the first of which agree with nothing."""
    for _ in range(count):
        base = task_records.head(world.tree, 0)
        assert base is not None
        world.advance(base)
        world.must(world.score(base + 1, (bad, GOOD, GOOD, GOOD)))


def test_board_whose_updates_agree_with_nothing_is_quarantined_and_others_are_not() -> (
    None
):
    world = opened(validators=1)
    rounds(world, 2)
    found = [reputation(world.tree, board_id(number)) for number in range(4)]
    assert [each.quarantines for each in found] == [1, 0, 0, 0]
    assert found[0].until_ms == world.context.time_ms + 60_000
    assert found[0].is_quarantined(world.context.time_ms)
    assert all(each.expectation_ppm > 700_000 for each in found[1:])
    check_invariants(world.tree)


def test_median_of_a_quorum_counts_once_and_a_liar_alone_does_nothing() -> None:
    world = opened(validators=4)
    world.advance(0)
    liar = world.score(1, (-GOOD, GOOD, GOOD, GOOD), 3)
    honest = [world.score(1, (GOOD,) * 4, who) for who in range(2)]
    world.must(liar)
    assert reputation(world.tree, board_id(0)) == UNKNOWN_BOARD
    world.must(*honest)
    assert reputation(world.tree, board_id(0)).negative == 0
    assert reputation(world.tree, board_id(0)).scored == 1


def test_step_that_costs_every_update_its_accuracy_locks_no_fleet_out() -> None:
    policy = ScorePolicy(ScoreRule.ACCURACY, SPEC.scores.roots, 60)
    world = opened(validators=1, spec=replace(SPEC, scores=policy))
    for base in range(4):
        world.advance(base)
        world.must(world.score(base + 1, (-50_000, -40_000, -30_000, -25_000)))
    found = [reputation(world.tree, board_id(number)) for number in range(4)]
    assert [each.quarantines for each in found] == [0] * 4
    assert [each.scored for each in found] == [4] * 4
    check_invariants(world.tree)


def test_quarantine_is_told_once() -> None:
    world = opened(validators=1)
    rounds(world, 1)
    world.advance(1)
    found = execute(
        world.tree, world.context, [world.score(2, (-GOOD, GOOD, GOOD, GOOD))]
    ).happenings
    known = ScoresKnown(TaskId(0), Version(2))
    assert found == (known, BoardQuarantined(board_id(0)))


@pytest.mark.parametrize(
    ("spec", "pledge", "agreement", "usual", "expected"),
    [
        pytest.param(SPEC, 16, 800_000, 800_000, 800_000, id="as the others"),
        pytest.param(SPEC, 16, 700_000, 800_000, 0, id="at the bar"),
        pytest.param(SPEC, 16, 600_000, 800_000, -800_000, id="below it"),
        pytest.param(SPEC, 16, 750_000, 800_000, 400_000, id="between"),
        pytest.param(SPEC, 16, 0, 0, 0, id="a version of nothing"),
        pytest.param(NOISED, 16, 250_000, GOOD, MILLION // 2, id="one deviation"),
        pytest.param(NOISED, 32, 250_000, GOOD, MILLION, id="two deviations"),
        pytest.param(NOISED, 32, 250_000, 62_500, MILLION // 2, id="others say little"),
        pytest.param(NOISED, 32, -250_000, -1, 0, id="others say nothing"),
        pytest.param(NOISED, 32, -375_000, -1, -MILLION, id="no noise explains it"),
        pytest.param(ACCURACY, 16, -20_000, 0, MILLION, id="valid"),
        pytest.param(ACCURACY, 16, -20_001, 0, -MILLION, id="not valid"),
        pytest.param(ACCURACY, 16, -30_000, -20_001, 0, id="nor are the others"),
    ],
)
def test_evidence_of_a_score(
    spec: TaskSpec, pledge: int, agreement: int, usual: int, expected: int
) -> None:
    score = UpdateScore(agreement, agreement)
    assert evidence(spec, pledge, score, usual) == expected
