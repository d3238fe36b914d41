"""Rewards by contribution: exact, over ten updates, and no more for many boards."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from starling.coordinator.chain.governance import credit_accounts
from starling.coordinator.chain.tasks import reputations
from starling.coordinator.chain.tasks.contribution_rewards import (
    earnings,
    reward_account,
)
from starling.coordinator.chain.tasks.rewards import settlement
from starling.protocol.chain.credit_policy import CREDITS_MAX, CreditPolicy
from starling.protocol.chain.task_rollback import ROLLBACK, TaskRollback
from starling.protocol.errors import Reason
from starling.protocol.ids import TaskId, Version
from starling.protocol.learning.reward_policy import RewardPolicy, RewardRule
from starling.protocol.learning.task import PrivacyPolicy, TaskSpec, TrainingPolicy
from starling.protocol.privacy.mechanisms import RECORD_GAUSSIAN
from starling.protocol.wire.envelope import Envelope, MessageKind
from tests.unit.coordinator.fixtures.small_chain import SmallChain, opened
from tests.unit.coordinator.fixtures.small_genesis import (
    OPERATOR,
    STRANGER,
    board_id,
    board_key,
)
from tests.unit.coordinator.fixtures.small_task import MODEL, PLEDGES, SPEC
from tests.unit.coordinator.fixtures.state_invariants import (
    check_invariants,
    check_supply,
)
from tests.unit.coordinator.fixtures.state_views import payments

REWARD = 1_000
SMALL, LARGE = PLEDGES
NO_DEPOSITS = CreditPolicy(10**9, 10**8)
DEPOSITS = replace(NO_DEPOSITS, board_deposit=50)
BOARDS = 8
GOOD = 500_000
Updates = Mapping[int, tuple[int, int]]
"""By board: its pledge, and the influence that its update is scored with."""


def spec_of(boards: int, spec: TaskSpec = SPEC, **rewards: int) -> TaskSpec:
    policy = RewardPolicy(RewardRule.CONTRIBUTION, **rewards)
    aggregation = replace(spec.aggregation, buffer=boards, leases=BOARDS)
    return replace(spec, aggregation=aggregation, pool=REWARD, rewards=policy)


def unquarantined(spec: TaskSpec) -> TaskSpec:
    return replace(spec, scores=replace(spec.scores, quarantine_s=0))


def paying(
    spec: TaskSpec, economy: CreditPolicy = NO_DEPOSITS, fund: int = 10**6
) -> SmallChain:
    world = opened(BOARDS, spec=spec, economy=economy)
    if fund:
        world.must(world.fund(fund))
    return world


def head(world: SmallChain) -> int:
    version = 0
    while settlement(world.tree, 0, version + 1) is not None:
        version += 1
    return version


def make(
    world: SmallChain, version: int, updates: Updates, *, scored: bool = True
) -> None:
    """Makes a version of one update of each board, and scores it."""
    for board, (pledge, _) in updates.items():
        world.must(world.update(board, version - 1, pledge=pledge))
    world.must(world.attest(version))
    if scored:
        world.must(world.score(version, [value for _, value in updates.values()]))


def run(world: SmallChain, versions: int, updates: Updates) -> None:
    for version in range(1, versions + 1):
        make(world, version, updates)


def balance(world: SmallChain, board: int) -> int:
    held = credit_accounts.account(world.tree, board_id(board))
    return 0 if held is None else held.balance


def equals(*influences: int, pledge: int = SMALL) -> Updates:
    return {at: (pledge, value) for at, value in enumerate(influences)}


def test_tenth_scored_update_is_paid_first_with_all_that_was_set_aside() -> None:
    world = paying(spec_of(4))
    updates = equals(GOOD, GOOD, 2 * GOOD // 5, 0)
    run(world, 9, updates)
    assert [balance(world, at) for at in range(4)] == [0] * 4
    assert reward_account(world.tree, 0).credits == 9 * REWARD
    make(world, 10, updates)
    paid = [4166, 4167, 1667, 0]
    assert [balance(world, at) for at in range(4)] == paid
    assert [each.amount for each in payments(world.tree, 0, 10)] == paid
    owed = reward_account(world.tree, 0)
    assert (owed.credits, owed.due, owed.boards) == (0, 0, 4)
    check_supply(world.tree, NO_DEPOSITS.supply)
    check_invariants(world.tree)


def test_next_paydays_come_after_every_fifth_update() -> None:
    world = paying(spec_of(4))
    run(world, 16, equals(GOOD, GOOD, GOOD, GOOD))
    paid = [sum(p.amount for p in payments(world.tree, 0, v)) for v in (14, 15, 16)]
    assert paid == [0, 5 * REWARD, 0]
    assert reward_account(world.tree, 0).credits == REWARD


def test_version_that_nobody_scores_leaves_its_credits_in_the_pool() -> None:
    world = paying(spec_of(4))
    make(world, 1, equals(GOOD, GOOD, GOOD, GOOD), scored=False)
    assert credit_accounts.pool(world.tree, 0) == 10**6
    assert [each.amount for each in payments(world.tree, 0, 1)] == [0] * 4
    found = settlement(world.tree, 0, 1)
    assert found is not None
    assert found.reward == 0


def test_size_and_speed_count_beside_quality() -> None:
    world = paying(spec_of(2, participations=1))
    make(world, 1, {0: (SMALL, GOOD), 1: (LARGE, GOOD)})
    assert (balance(world, 0), balance(world, 1)) == (333, 667)
    world.must(world.update(2, 0, pledge=LARGE), world.update(3, 1, pledge=SMALL))
    world.must(world.attest(2), world.score(2, [GOOD, GOOD]))
    assert balance(world, 2) == balance(world, 3) == 500


def test_taking_part_is_paid_at_once_by_what_is_at_stake() -> None:
    world = paying(spec_of(4), DEPOSITS)
    world.must(world.double_update(3, base=900))
    world.height += 10**6
    make(world, 1, equals(GOOD, -GOOD, 0, GOOD))
    assert [balance(world, at) for at in range(4)] == [52, 51, 51, 46]
    assert reward_account(world.tree, 0).credits == 800
    check_supply(world.tree, DEPOSITS.supply)


def test_pool_that_is_empty_pays_later_for_what_was_contributed() -> None:
    world = paying(spec_of(2, participations=1), fund=0)
    make(world, 1, equals(GOOD, GOOD))
    assert reward_account(world.tree, 0).due == 2 * SMALL * GOOD
    world.must(world.fund(REWARD))
    make(world, 2, equals(GOOD, 3 * GOOD // 2))
    assert (balance(world, 0), balance(world, 1)) == (444, 556)


def test_board_in_quarantine_loses_what_it_was_not_paid_for_and_begins_anew() -> None:
    world = paying(spec_of(4), DEPOSITS)
    run(world, 5, equals(GOOD, GOOD, GOOD, GOOD))
    assert earnings(world.tree, 0, board_id(0)).scored == 5
    stood, version = balance(world, 0), 5
    while not reputations.reputation(world.tree, board_id(0)).quarantines:
        stood, version = balance(world, 0), version + 1
        make(world, version, equals(-GOOD, GOOD, GOOD, GOOD))
    assert earnings(world.tree, 0, board_id(0)).scored == 0
    assert earnings(world.tree, 0, board_id(1)).scored == version
    assert balance(world, 0) == stood
    check_invariants(world.tree)
    last = version + 10
    for later in range(version + 1, last + 1):
        make(world, later, equals(-GOOD, GOOD, GOOD, GOOD))
    assert balance(world, 0) == stood
    paid = sum(balance(world, at) for at in range(1, 4))
    assert paid + stood + reward_account(world.tree, 0).credits == last * REWARD
    check_supply(world.tree, DEPOSITS.supply)


def test_noise_alone_earns_nothing() -> None:
    sigma = 4
    private = replace(
        SPEC, privacy=PrivacyPolicy(RECORD_GAUSSIAN, 1, sigma * 10**6, 1, 1, 99)
    )
    world = paying(spec_of(2, private))
    without_data = 2 * sigma * 10**6 // SMALL // 4
    for version in range(1, 11):
        updates = {0: (SMALL, GOOD), 1: (SMALL, without_data)}
        for board, (pledge, _) in updates.items():
            body = {"mechanism": RECORD_GAUSSIAN, "charge": 1 << 40}
            world.must(world.update(board, version - 1, pledge=pledge, **body))
        world.must(world.attest(version))
        world.must(world.score(version, [value for _, value in updates.values()]))
    assert (balance(world, 0), balance(world, 1)) == (10 * REWARD, 0)
    check_invariants(world.tree)


def test_pledge_does_not_count_where_a_board_takes_its_own_steps() -> None:
    local = replace(SPEC, training=TrainingPolicy(1, 1, 1, 1))
    world = paying(spec_of(2, local, participations=1))
    make(world, 1, {0: (SMALL, GOOD), 1: (LARGE, GOOD)})
    assert balance(world, 0) == balance(world, 1) == 500


def test_rollback_forgets_what_is_left_out() -> None:
    world = paying(spec_of(2))
    run(world, 3, equals(GOOD, GOOD))
    content = ROLLBACK.pack(
        TaskRollback(TaskId(0), Version(1), Version(2), MODEL, (board_id(1),))
    )
    world.must(world.motion(MessageKind.ROLLBACK, content))
    assert earnings(world.tree, 0, board_id(0)).scored == 3
    assert earnings(world.tree, 0, board_id(1)).scored == 0
    assert reward_account(world.tree, 0).credits == 3 * REWARD
    check_invariants(world.tree)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.lists(st.integers(-(10**6), 10**6), min_size=3, max_size=3),
        min_size=1,
        max_size=25,
    ),
    st.integers(1, 4),
    st.integers(0, 10**6),
    st.integers(0, 20_000),
)
def test_no_credit_is_lost_or_made(
    influences: list[list[int]], participations: int, taking_part: int, fund: int
) -> None:
    spec = spec_of(3, participations=participations, taking_part_micro=taking_part)
    world = paying(unquarantined(spec), DEPOSITS, fund)
    for version, values in enumerate(influences, 1):
        make(world, version, equals(*values))
    check_supply(world.tree, DEPOSITS.supply)
    check_invariants(world.tree)
    paid = sum(balance(world, at) for at in range(3))
    held = reward_account(world.tree, 0).credits + credit_accounts.pool(world.tree, 0)
    assert paid + held == fund
    assert paid <= min(fund, len(influences) * REWARD)


def _share(balances: Sequence[int], of: int) -> float:
    return sum(balances[of:]) / max(1, sum(balances))


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.lists(st.integers(10_000, 10**6), min_size=3, max_size=3),
        min_size=10,
        max_size=10,
    )
)
def test_data_set_split_between_two_boards_earns_what_the_whole_does(
    influences: list[list[int]],
) -> None:
    whole, split = paying(unquarantined(spec_of(3))), paying(unquarantined(spec_of(4)))
    for version, (a, b, c) in enumerate(influences, 1):
        whole_updates = {0: (SMALL, a), 1: (SMALL, b), 2: (LARGE, c)}
        make(whole, version, whole_updates)
        make(split, version, equals(a, b, c, c))
    one = balance(whole, 2)
    two = balance(split, 2) + balance(split, 3)
    assert abs(one - two) <= 4


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(4)), st.integers(100_000, 10**6))
def test_split_earns_no_more_where_every_version_is_of_one_board(
    order: list[int], influence: int
) -> None:
    """Each version pays the same, so that the parts could earn twice as much."""
    totals = []
    for whole in (True, False):
        world, version = paying(spec_of(1)), 0
        boards = [at for at in order if at < 3] if whole else order
        for _ in range(20):
            for board in boards:
                version += 1
                pledge = LARGE if whole and board == 2 else SMALL
                make(world, version, {board: (pledge, influence)})
        totals.append(_share([balance(world, at) for at in range(4)], 2))
    whole_share, split_share = totals
    assert split_share <= whole_share * 1.1


READINGS: list[tuple[str, Callable[[SmallChain], Envelope], Reason]] = [
    ("by-a-board", lambda w: w.use(20, board_key(0)), Reason.NOT_AUTHORISED),
    ("unknown-task", lambda w: w.use(20, task=3), Reason.UNKNOWN_TASK),
    ("the-same-again", lambda w: w.use(10), Reason.STALE),
    ("turned-back", lambda w: w.use(9), Reason.STALE),
    ("beyond-the-account", lambda w: w.use(10**9), Reason.INSUFFICIENT_FUNDS),
    ("beyond-all-credits", lambda w: w.use(CREDITS_MAX), Reason.INSUFFICIENT_FUNDS),
]


def metered() -> SmallChain:
    world = paying(spec_of(3, use_price=7))
    run(world, 3, equals(GOOD, GOOD // 2, -GOOD))
    return world


def test_use_is_paid_to_those_who_contributed_from_the_operators_account() -> None:
    world = metered()
    before = credit_accounts.account(world.tree, OPERATOR.identity)
    world.must(world.use(10))
    assert [balance(world, at) for at in range(3)] == [47, 23, 0]
    world.must(world.use(11))
    assert [balance(world, at) for at in range(3)] == [52, 25, 0]
    after = credit_accounts.account(world.tree, OPERATOR.identity)
    assert before is not None
    assert after is not None
    assert before.balance - after.balance == 77
    check_supply(world.tree, NO_DEPOSITS.supply)


def test_each_operator_has_a_meter_of_its_own() -> None:
    world = metered()
    world.must(world.operator(STRANGER), world.transfer(STRANGER.identity, 100))
    world.must(world.use(10), world.use(5, STRANGER))
    assert sum(balance(world, at) for at in range(3)) == 7 * 15


@pytest.mark.parametrize(
    ("make_it", "reason"),
    [pytest.param(make_it, reason, id=name) for name, make_it, reason in READINGS],
)
def test_reading_refused_changes_nothing(
    make_it: Callable[[SmallChain], Envelope], reason: Reason
) -> None:
    world = metered()
    world.must(world.use(10))
    envelope = make_it(world)
    before = world.tree.root()
    assert (world.do(envelope).code, world.tree.root()) == (reason, before)


def test_reading_that_comes_twice_is_replayed() -> None:
    world = metered()
    sent, later = world.use(10), world.use(20)
    world.must(later)
    assert world.do(sent).code == Reason.REPLAYED


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        pytest.param(spec_of(3), Reason.POLICY_MISMATCH, id="no price"),
        pytest.param(
            replace(SPEC, pool=REWARD), Reason.POLICY_MISMATCH, id="equal rewards"
        ),
        pytest.param(spec_of(3, use_price=7), Reason.STALE, id="nobody contributed"),
    ],
)
def test_use_that_nobody_can_be_paid_for_is_refused(
    spec: TaskSpec, reason: Reason
) -> None:
    assert paying(spec).do(paying(spec).use(10)).code == reason


def test_board_in_quarantine_has_no_part_in_use() -> None:
    world = metered()
    version = 3
    while not reputations.reputation(world.tree, board_id(2)).quarantines:
        version += 1
        make(world, version, equals(GOOD, GOOD, -GOOD))
    world.must(world.use(10))
    assert balance(world, 2) == 0
    assert sum(balance(world, at) for at in range(2)) == 70
