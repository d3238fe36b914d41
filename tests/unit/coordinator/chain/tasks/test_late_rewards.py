"""Rewards when scores come late, at a task's end, and after a rollback."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from starling.coordinator.chain.governance import credit_accounts
from starling.coordinator.chain.governance.chain_parameters import SCORE_BLOCKS
from starling.coordinator.chain.state.overlay import StateOverlay
from starling.coordinator.chain.tasks import reputations
from starling.coordinator.chain.tasks.contribution_rewards import (
    earnings,
    reward_account,
)
from starling.coordinator.chain.tasks.rewards import settlement
from starling.coordinator.chain.tasks.scores import LATE_VERSIONS
from starling.protocol.chain.task_rollback import ROLLBACK, TaskRollback
from starling.protocol.errors import Reason
from starling.protocol.ids import TaskId, Version
from starling.protocol.learning.board_reputation import BoardReputation
from starling.protocol.learning.end_policy import EndPolicy
from starling.protocol.learning.task import TaskSpec
from starling.protocol.wire.envelope import Envelope, MessageKind
from tests.unit.coordinator.chain.tasks.test_contribution_rewards import (
    DEPOSITS,
    GOOD,
    NO_DEPOSITS,
    REWARD,
    balance,
    equals,
    make,
    paying,
    run,
    spec_of,
)
from tests.unit.coordinator.fixtures.small_chain import SmallChain
from tests.unit.coordinator.fixtures.small_genesis import board_id
from tests.unit.coordinator.fixtures.small_task import MODEL
from tests.unit.coordinator.fixtures.state_invariants import (
    check_invariants,
    check_supply,
)
from tests.unit.coordinator.fixtures.state_views import payments


def rollback(world: SmallChain, first: int, again: int, without: int) -> Envelope:
    boards = (board_id(without),)
    body = TaskRollback(TaskId(0), Version(first), Version(again), MODEL, boards)
    return world.motion(MessageKind.ROLLBACK, ROLLBACK.pack(body))


def amounts(world: SmallChain, version: int) -> list[int]:
    return [each.amount for each in payments(world.tree, 0, version)]


def synchronous(boards: int) -> TaskSpec:
    """No version but the head is a base."""
    spec = spec_of(boards, participations=1)
    aggregation = replace(
        spec.aggregation, staleness_q15=spec.aggregation.staleness_q15[:1]
    )
    return replace(spec, aggregation=aggregation)


def unscored(world: SmallChain, versions: range) -> None:
    for version in versions:
        make(world, version, equals(GOOD, GOOD), scored=False)


def awaited(world: SmallChain, last: int) -> list[int]:
    """Versions up to the last one that have a settlement."""
    return [at for at in range(1, last + 1) if settlement(world.tree, 0, at)]


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)], ids=["in-turn", "mixed"])
def test_late_scores_settle_the_version_that_they_are_of(order: Sequence[int]) -> None:
    world = paying(synchronous(2))
    unscored(world, range(1, 4))
    for version in order:
        world.must(world.score(version, [GOOD, GOOD]))
        assert amounts(world, version) == [REWARD // 2, REWARD // 2]
        check_invariants(world.tree)
    assert balance(world, 0) == balance(world, 1) == 3 * REWARD // 2
    assert earnings(world.tree, 0, board_id(0)).scored == 3
    check_supply(world.tree, NO_DEPOSITS.supply)


def test_version_that_is_scored_leaves_once_it_is_no_base() -> None:
    world = paying(synchronous(2))
    unscored(world, range(1, 3))
    world.must(world.score(1, [GOOD, GOOD]))
    unscored(world, range(3, 4))
    assert awaited(world, 3) == [2, 3]
    check_invariants(world.tree)


def test_version_whose_time_for_scores_is_over_leaves_with_the_next_one() -> None:
    world = paying(synchronous(2))
    unscored(world, range(1, 3))
    world.height += SCORE_BLOCKS + 1
    unscored(world, range(3, 4))
    assert awaited(world, 3) == [3]
    assert world.do(world.score(1, [GOOD, GOOD])).code == Reason.STALE
    check_invariants(world.tree)


def test_versions_that_wait_for_scores_are_bounded() -> None:
    world = paying(synchronous(2))
    unscored(world, range(1, LATE_VERSIONS + 4))
    assert awaited(world, LATE_VERSIONS + 3) == [*range(3, LATE_VERSIONS + 4)]
    check_invariants(world.tree)


def test_close_pays_all_that_is_set_aside_however_little_they_did() -> None:
    world = paying(spec_of(2))
    run(world, 3, equals(GOOD, GOOD // 2))
    assert balance(world, 0) == 0
    world.must(world.close(0))
    assert (balance(world, 0), balance(world, 1)) == (2 * REWARD, REWARD)
    assert reward_account(world.tree, 0).credits == 0
    check_supply(world.tree, NO_DEPOSITS.supply)
    check_invariants(world.tree)


def test_version_of_a_closed_task_pays_as_soon_as_it_is_scored() -> None:
    world = paying(spec_of(2))
    make(world, 1, equals(GOOD, GOOD), scored=False)
    world.must(world.close(0))
    assert balance(world, 0) == 0
    world.must(world.score(1, [GOOD, GOOD]))
    assert balance(world, 0) == balance(world, 1) == REWARD // 2


def test_task_that_has_ended_pays_all_with_its_last_version() -> None:
    world = paying(replace(spec_of(2), end=EndPolicy(version=2)))
    make(world, 1, equals(GOOD, GOOD))
    assert balance(world, 0) == 0
    make(world, 2, equals(GOOD, GOOD))
    assert balance(world, 0) == balance(world, 1) == REWARD
    check_invariants(world.tree)


def test_board_in_quarantine_is_paid_nothing_at_the_end_and_keeps_its_debt() -> None:
    world, version = paying(spec_of(4)), 0
    while not reputations.reputation(world.tree, board_id(0)).quarantines:
        version += 1
        make(world, version, equals(-GOOD, GOOD, GOOD, GOOD))
    assert version > 1
    owes = earnings(world.tree, 0, board_id(0)).contribution
    assert owes < 0
    make(world, version + 1, equals(GOOD, GOOD, GOOD, GOOD))
    assert earnings(world.tree, 0, board_id(0)).contribution == owes
    world.must(world.close(0))
    assert balance(world, 0) == 0
    assert sum(balance(world, at) for at in (1, 2, 3)) > 0
    check_invariants(world.tree)


def test_board_that_another_task_quarantined_is_passed_over_at_the_end() -> None:
    world = paying(spec_of(2))
    make(world, 1, equals(GOOD, GOOD))
    draft = StateOverlay(world.tree)
    barred = BoardReputation(quarantines=1, until_ms=world.time_ms + 1)
    reputations.REPUTATIONS.put(draft, barred, board_id(0))
    world.tree = world.tree.update(draft.changes)
    world.must(world.close(0))
    assert (balance(world, 0), balance(world, 1)) == (0, REWARD // 2)
    assert reward_account(world.tree, 0).credits == REWARD // 2
    check_invariants(world.tree)


def test_rollback_keeps_what_a_board_has_to_make_good() -> None:
    world = paying(spec_of(2))
    run(world, 2, equals(GOOD, -GOOD // 10))
    owes = earnings(world.tree, 0, board_id(1)).contribution
    assert owes < 0
    world.must(rollback(world, 1, 2, without=1))
    found = earnings(world.tree, 0, board_id(1))
    assert (found.contribution, found.scored) == (owes, 0)


def test_late_scores_of_versions_that_a_rollback_undid_pay_nobody() -> None:
    world = paying(spec_of(2, participations=1), DEPOSITS)
    for version in (1, 2, 3):
        make(world, version, equals(GOOD, GOOD), scored=False)
    world.must(rollback(world, 1, 2, without=1))
    pool = credit_accounts.pool(world.tree, 0)

    world.must(world.score(3, [GOOD, GOOD]))

    assert amounts(world, 3) == [0, 0]
    assert credit_accounts.pool(world.tree, 0) == pool
    assert reward_account(world.tree, 0).boards == 0
    found = settlement(world.tree, 0, 3)
    assert found is not None
    assert found.reward == 0


def test_late_scores_of_a_version_made_again_leave_out_whom_it_was_made_without() -> (
    None
):
    world = paying(spec_of(2, participations=1), DEPOSITS)
    for version in (1, 2, 3):
        make(world, version, equals(GOOD, GOOD), scored=False)
    world.must(rollback(world, 1, 2, without=1))

    world.must(world.score(2, [GOOD, GOOD]))
    assert amounts(world, 2) == [REWARD, 0]
    assert earnings(world.tree, 0, board_id(1)).scored == 0
    check_supply(world.tree, DEPOSITS.supply)
    check_invariants(world.tree)


def test_late_scores_of_a_version_before_all_that_was_left_out_pay_all() -> None:
    world = paying(spec_of(2, participations=1))
    for version in (1, 2):
        make(world, version, equals(GOOD, GOOD), scored=False)
    world.must(rollback(world, 1, 2, without=1))
    world.must(world.score(1, [GOOD, GOOD]))
    assert amounts(world, 1) == [REWARD // 2, REWARD // 2]


def test_deposit_counts_once_for_two_updates_of_one_board() -> None:
    world = paying(spec_of(3), DEPOSITS)
    make(world, 1, equals(GOOD, GOOD, GOOD))
    world.must(world.update(3, 0), world.update(3, 1), world.update(0, 1))
    world.must(world.attest(2), world.score(2, [GOOD] * 3))
    assert amounts(world, 2) == [100, 0, 100]


@pytest.mark.parametrize(
    ("reading", "reason"),
    [(10, Reason.STALE), (10**9, Reason.INSUFFICIENT_FUNDS)],
)
def test_use_asks_for_its_credits_before_it_looks_who_contributed(
    reading: int, reason: Reason
) -> None:
    world = paying(spec_of(3, use_price=7))
    assert world.do(world.use(reading)).code == reason
