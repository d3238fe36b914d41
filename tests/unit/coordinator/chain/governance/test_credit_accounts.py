"""Credits move and are never made or lost; what signatures prove costs its share."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.coordinator.chain.governance import credit_accounts
from starling.coordinator.chain.governance.chain_parameters import JAIL_BLOCKS
from starling.coordinator.chain.governance.credit_accounts import Account
from starling.coordinator.chain.governance.slashing import FINDER_MAX
from starling.coordinator.chain.state import board_records
from starling.coordinator.chain.state.board_records import CONVICTIONS_MAX
from starling.coordinator.chain.tasks.rewards import (
    Settlement,
    settlement,
    shares,
)
from starling.protocol.chain.credit_policy import CREDITS_MAX, CreditPolicy
from starling.protocol.chain.evidence import AGE_HEIGHTS_MAX
from starling.protocol.errors import DecodeError, Reason
from starling.protocol.ids import DeviceId
from starling.protocol.wire.envelope import Envelope, MessageKind
from tests.unit.coordinator.chain.governance.test_slashing import LIAR, double_vote
from tests.unit.coordinator.fixtures.small_chain import SmallChain, opened
from tests.unit.coordinator.fixtures.small_genesis import (
    OPERATOR,
    STRANGER,
    board_id,
    board_key,
    genesis,
    key,
)
from tests.unit.coordinator.fixtures.small_task import SPEC
from tests.unit.coordinator.fixtures.state_invariants import (
    check_invariants,
    check_supply,
)
from tests.unit.coordinator.fixtures.state_views import payments

ECONOMY = CreditPolicy(
    supply=1_000_000, operator_grant=50_000, validator_deposit=1_000, board_deposit=500
)
REWARD = 10_000
BOARDS = 8


def rich(validators: int = 1, economy: CreditPolicy = ECONOMY) -> SmallChain:
    """Eight boards with deposits, and a task that pays."""
    spec = replace(SPEC, pool=REWARD)
    return opened(BOARDS, validators=validators, spec=spec, economy=economy)


def balance(world: SmallChain, who: DeviceId) -> int:
    held = credit_accounts.account(world.tree, who)
    return held.balance if held is not None else 0


def test_genesis_gives_grants_and_deposits_from_the_supply() -> None:
    world = SmallChain(4, economy=ECONOMY)
    operator = credit_accounts.account(world.tree, OPERATOR.identity)
    validator = credit_accounts.account(world.tree, world.validators[0].identity)
    assert (operator, validator) == (Account(balance=50_000), Account(deposit=1_000))
    assert credit_accounts.treasury(world.tree) == 1_000_000 - 50_000 - 4_000
    check_supply(world.tree, ECONOMY.supply)


@pytest.mark.parametrize(
    "economy",
    [CreditPolicy(supply=99, operator_grant=100), CreditPolicy(100, 0, 26, 0)],
    ids=["grants", "deposits"],
)
def test_genesis_that_gives_more_than_there_is_is_refused(
    economy: CreditPolicy,
) -> None:
    with pytest.raises(DecodeError, match="exceed the supply"):
        genesis(4, economy=economy)


def test_chain_without_credits_has_no_accounts() -> None:
    world = opened()
    world.advance(0)
    assert [key for key, _ in world.tree.items(b"account/")] == []
    assert world.do(world.fund(1)).code == Reason.INSUFFICIENT_FUNDS
    check_supply(world.tree, 0)


def test_registration_takes_the_deposit_from_the_operator() -> None:
    world = rich()
    assert balance(world, OPERATOR.identity) == 50_000 - BOARDS * 500
    assert credit_accounts.account(world.tree, board_id(0)) == Account(deposit=500)
    check_supply(world.tree, ECONOMY.supply)


def test_registration_needs_the_deposit() -> None:
    world = SmallChain(economy=replace(ECONOMY, operator_grant=499))
    before = world.tree.root()
    assert world.do(world.register(0)).code == Reason.INSUFFICIENT_FUNDS
    assert world.tree.root() == before


def test_final_version_pays_its_updates_from_the_pool() -> None:
    world = rich()
    world.must(world.fund(REWARD + 1))
    world.advance(0)
    assert [balance(world, board_id(i)) for i in range(5)] == [2_500] * 4 + [0]
    assert credit_accounts.pool(world.tree, 0) == 1
    assert settlement(world.tree, 0, 1) == Settlement(
        world.height, world.time_ms, 4, REWARD
    )
    assert [(each.board, each.amount) for each in payments(world.tree, 0, 1)] == [
        (board_id(i), 2_500) for i in range(4)
    ]
    world.advance(1)
    assert credit_accounts.pool(world.tree, 0) == 0
    assert [balance(world, board_id(i)) for i in range(4)] == [2_501] + [2_500] * 3
    check_supply(world.tree, ECONOMY.supply)
    check_invariants(world.tree)


@given(st.integers(0, CREDITS_MAX), st.integers(1, 500))
def test_shares_of_equals_are_equal_and_give_out_all(amount: int, count: int) -> None:
    given_out = shares(amount, [1] * count)
    assert sum(given_out) == amount
    assert max(given_out) - min(given_out) <= 1
    assert list(given_out) == sorted(given_out, reverse=True)


@given(
    st.integers(0, CREDITS_MAX),
    st.lists(st.integers(0, 1 << 60), min_size=1, max_size=40).filter(any),
)
def test_shares_are_in_proportion_to_a_credit_and_give_out_all(
    amount: int, weights: list[int]
) -> None:
    given_out = shares(amount, weights)
    assert sum(given_out) == amount
    for share, weight in zip(given_out, weights, strict=True):
        assert abs(share * sum(weights) - amount * weight) < sum(weights)
        assert weight or not share


def test_transfer_moves_credits_once() -> None:
    world = rich()
    sent = world.transfer(board_id(0), 70)
    world.must(sent)
    assert balance(world, board_id(0)) == 70
    assert world.do(sent).code == Reason.REPLAYED
    world.must(world.transfer(board_id(1), 70, board_key(0)))
    assert [balance(world, board_id(i)) for i in (0, 1)] == [0, 70]
    check_supply(world.tree, ECONOMY.supply)


def test_admitted_operator_gets_an_account() -> None:
    world = rich()
    world.must(world.operator(STRANGER))
    world.must(world.transfer(STRANGER.identity, 5))
    assert balance(world, STRANGER.identity) == 5


def test_rotated_board_keeps_its_account_and_its_old_key_spends_nothing() -> None:
    world = rich()
    world.must(world.transfer(board_id(0), 70), world.rotate(0, key(9001)))
    stolen = world.transfer(board_id(1), 1, board_key(0))
    assert world.do(stolen).code == Reason.NOT_AUTHORISED
    world.must(world.transfer(board_id(1), 70, key(9001)))
    assert balance(world, board_id(1)) == 70


def _old_counter(world: SmallChain) -> Envelope:
    later, earlier = world.transfer(board_id(0), 2), world.transfer(board_id(0), 1)
    world.must(earlier)
    return later


REFUSALS: list[tuple[str, Callable[[SmallChain], Envelope], Reason]] = [
    ("fund-by-board", lambda w: w.fund(1, board_key(0)), Reason.NOT_AUTHORISED),
    ("fund-unknown-task", lambda w: w.fund(1, task=9), Reason.UNKNOWN_TASK),
    ("fund-too-much", lambda w: w.fund(CREDITS_MAX), Reason.INSUFFICIENT_FUNDS),
    (
        "transfer-too-much",
        lambda w: w.transfer(board_id(0), 50_000),
        Reason.INSUFFICIENT_FUNDS,
    ),
    (
        "transfer-by-stranger",
        lambda w: w.transfer(board_id(0), 1, STRANGER),
        Reason.INSUFFICIENT_FUNDS,
    ),
    (
        "transfer-to-nobody",
        lambda w: w.transfer(board_id(99), 1),
        Reason.NOT_ENROLLED,
    ),
    ("transfer-out-of-order", _old_counter, Reason.REPLAYED),
    (
        "transfer-of-nothing",
        lambda w: w.sign(OPERATOR, MessageKind.TRANSFER, b"\x92\xc4\x10" + bytes(17)),
        Reason.MALFORMED,
    ),
    ("release-a-member", lambda w: w.release(0), Reason.BUSY),
    ("release-nobody", lambda w: w.release(99), Reason.INSUFFICIENT_FUNDS),
    ("release-by-board", lambda w: w.release(0, board_key(0)), Reason.NOT_AUTHORISED),
]


@pytest.mark.parametrize(
    ("make", "reason"),
    [pytest.param(make, reason, id=name) for name, make, reason in REFUSALS],
)
def test_move_refused_changes_nothing(
    make: Callable[[SmallChain], Envelope], reason: Reason
) -> None:
    world = rich()
    envelope = make(world)
    before = world.tree.root()
    result = world.do(envelope)
    assert (result.code, world.tree.root()) == (reason, before)


def test_double_vote_costs_the_validator_all_of_its_deposit() -> None:
    world = rich(4)
    liar = world.validators[LIAR].identity
    world.must(double_vote(world))
    assert credit_accounts.account(world.tree, liar) == Account()
    assert credit_accounts.burned(world.tree) == 1_000
    check_supply(world.tree, ECONOMY.supply)


@pytest.mark.parametrize(
    ("deposit", "reward"),
    [(500, 5), (100 * FINDER_MAX, FINDER_MAX), (1 << 40, FINDER_MAX), (9, 0)],
    ids=["tenth", "most", "capped", "too-little"],
)
def test_finder_gets_a_share_and_the_rest_is_burned(deposit: int, reward: int) -> None:
    supply = 1 << 50
    world = rich(economy=CreditPolicy(supply, 1 << 45, 0, deposit))
    before = balance(world, OPERATOR.identity)
    world.must(world.double_update(0, finder=OPERATOR))
    lost = deposit // 10
    assert balance(world, OPERATOR.identity) - before == reward
    assert credit_accounts.burned(world.tree) == lost - reward >= reward
    assert credit_accounts.account(world.tree, board_id(0)) == Account(
        deposit=deposit - lost
    )
    check_supply(world.tree, supply)


@pytest.mark.parametrize("finder", [STRANGER, board_key(0)], ids=["stranger", "itself"])
def test_finder_without_account_or_right_gets_nothing(finder: object) -> None:
    world = rich()
    world.must(world.double_update(0, finder=finder))  # type: ignore[arg-type]  # a key
    assert credit_accounts.burned(world.tree) == 50
    assert balance(world, board_id(0)) == 0
    check_supply(world.tree, ECONOMY.supply)


def test_jailed_board_comes_back_by_itself_after_its_time() -> None:
    world = rich()
    world.must(world.double_update(0))
    assert world.do(world.update(0)).code == Reason.JAILED
    world.height += JAIL_BLOCKS
    assert world.do(world.update(0)).code == Reason.JAILED
    world.height += 1
    world.must(world.update(0))


def test_board_is_convicted_once_for_one_thing_and_again_for_another() -> None:
    world = rich()
    world.must(world.double_update(0))
    again, other = world.double_update(0), world.double_update(0, base=1)
    assert world.do(other).code == Reason.ALREADY_KNOWN
    world.height += JAIL_BLOCKS + 1
    assert world.do(again).code == Reason.ALREADY_KNOWN
    world.must(other)
    assert credit_accounts.account(world.tree, board_id(0)) == Account(deposit=405)


def test_board_convicted_too_often_is_excluded_and_loses_all() -> None:
    world = rich()
    for base in range(CONVICTIONS_MAX):
        world.must(world.double_update(0, base))
        world.height += JAIL_BLOCKS + 1
    board = board_records.board(world.tree, board_id(0))
    assert world.do(world.update(0)).code == Reason.NOT_ENROLLED
    assert board is not None
    assert board.revoked
    assert credit_accounts.account(world.tree, board_id(0)) == Account()
    check_supply(world.tree, ECONOMY.supply)


def test_deposit_comes_back_when_no_evidence_can_reach_the_board() -> None:
    world = rich()
    world.must(world.revoke(0))
    world.mark()
    world.height += AGE_HEIGHTS_MAX
    assert world.do(world.release(0)).code == Reason.BUSY
    world.height += 1
    before = balance(world, OPERATOR.identity)
    world.must(world.release(0))
    assert balance(world, OPERATOR.identity) - before == 500
    assert world.do(world.release(0)).code == Reason.INSUFFICIENT_FUNDS
    check_supply(world.tree, ECONOMY.supply)
