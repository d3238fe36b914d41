"""What a board may send: paid before decoding, by itself alone, in bounded memory."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.coordinator.step.effects import RecordOverLimit
from starling.coordinator.step.events import (
    BoardMessageArrived,
    BoardStateArrived,
    ChunkArrived,
)
from starling.coordinator.wire import rate_limit
from starling.coordinator.wire.rate_limit import TokenBuckets, spend
from starling.protocol.ids import DeviceId, H
from starling.protocol.wire.chunks import CHUNK_BYTES
from starling.protocol.wire.token_bucket import RateLimits, rates, upload_bytes_max
from tests.unit.coordinator.fixtures.fleet_board import FleetBoard
from tests.unit.coordinator.fixtures.four_coordinators import FourCoordinators
from tests.unit.coordinator.fixtures.single_coordinator import spec

EARNS = RateLimits(2.0, 5.0, 100.0, 1000.0)


def account(number: int) -> bytes:
    return H(b"account", number.to_bytes(4))[:16]


def sent(
    allowances: TokenBuckets, who: bytes, count: int, size: int, now_s: float
) -> tuple[TokenBuckets, int]:
    """How many of some messages an account can pay for."""
    paid = 0
    for _ in range(count):
        after = spend(allowances, who, size, EARNS, now_s)
        paid += after is not None
        allowances = after or allowances
    return allowances, paid


@pytest.mark.parametrize(("size", "burst"), [(1, 5), (400, 2), (1000, 1), (1001, 0)])
def test_burst_is_bounded_in_messages_and_in_bytes(size: int, burst: int) -> None:
    _, paid = sent(TokenBuckets(), account(1), 20, size, 0.0)
    assert paid == burst


@given(
    st.lists(st.tuples(st.floats(0.0, 3.0), st.integers(0, 600)), max_size=80),
)
def test_nobody_sends_more_than_burst_and_rate_allow(
    script: list[tuple[float, int]],
) -> None:
    allowances, now_s, messages, size_sum = TokenBuckets(), 0.0, 0, 0
    for pause_s, size in script:
        now_s += pause_s
        after = spend(allowances, account(1), size, EARNS, now_s)
        if after is not None:
            allowances, messages, size_sum = after, messages + 1, size_sum + size
    assert messages <= EARNS.messages_burst + now_s * EARNS.messages_per_s + 1e-6
    assert size_sum <= EARNS.bytes_burst + now_s * EARNS.bytes_per_s + 1e-6


def test_flood_of_one_costs_another_nothing() -> None:
    allowances, _ = sent(TokenBuckets(), account(1), 1000, 1, 0.0)
    _, paid = sent(allowances, account(2), 5, 1, 0.0)
    assert paid == 5


def test_pause_fills_the_purse_again() -> None:
    allowances, _ = sent(TokenBuckets(), account(1), 5, 1, 0.0)
    allowances, paid = sent(allowances, account(1), 5, 1, 1.0)
    assert paid == 2
    _, paid = sent(allowances, account(1), 9, 1, 100.0)
    assert paid == 5


def test_accounts_that_are_silent_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rate_limit, "ACCOUNTS_MAX", 50)
    allowances = TokenBuckets()
    for number in range(1000):
        allowances, _ = sent(allowances, account(number), 1, 1, 0.0)
        assert len(allowances) <= 100
    for moment in range(3):
        now_s = rate_limit.GENERATION_S * (moment + 1)
        allowances, _ = sent(allowances, account(1), 1, 1, now_s)
    assert len(allowances) <= 2


def test_account_of_the_older_generation_has_what_it_had() -> None:
    allowances, _ = sent(
        TokenBuckets(), account(1), 5, 1, rate_limit.GENERATION_S - 0.1
    )
    allowances, _ = sent(allowances, account(2), 1, 1, rate_limit.GENERATION_S)
    assert spend(allowances, account(1), 1, EARNS, rate_limit.GENERATION_S) is None


@pytest.mark.parametrize("dimension", [4, 900, 21_840, 1_000_000, 16_000_000])
def test_board_may_send_its_longest_upload_many_times_over(dimension: int) -> None:
    upload = upload_bytes_max([replace(spec(), dimension=dimension)])
    earns = rates(upload)
    chunks = -(-upload // CHUNK_BYTES)
    allowances, who = TokenBuckets(), account(1)
    for _ in range(4 * chunks):
        after = spend(allowances, who, min(upload, CHUNK_BYTES), earns, 0.0)
        assert after is not None
        allowances = after


@pytest.mark.parametrize(
    "event", [ChunkArrived, BoardMessageArrived, BoardStateArrived]
)
def test_flood_of_one_board_is_dropped_unread_and_others_are_served(
    council: FourCoordinators,
    boards: list[FleetBoard],
    event: type[BoardMessageArrived],
) -> None:
    member, bad = council.members[0], DeviceId(boards[0].device)
    start_s = council.now_s
    member.effects.clear()
    for number in range(2000):
        now_s = start_s + number / 200
        before = member.state
        if member.step(event(bad, b"noise"), now_s) == (RecordOverLimit(bad),):
            assert member.state is before
    ignored = [each for each in member.effects if isinstance(each, RecordOverLimit)]
    assert len(ignored) > 1600
    council.now_s = start_s + 10.0
    council.contribute(boards[1], 0)
    council.contribute(boards[2], 0)
    council.run(1.0)
    assert council.heads() == [1, 1, 1, 1]
