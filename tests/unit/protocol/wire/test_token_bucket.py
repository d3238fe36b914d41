"""A bucket fills up to its burst, and gives out what it has."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.protocol.wire.chunks import chunk_count
from starling.protocol.wire.token_bucket import (
    RateLimits,
    TokenBucket,
    full,
    rates,
    upload_bytes_max,
)
from tests.unit.agent.fake_coordinator import task_spec

EARNS = RateLimits(2.0, 5.0, 100.0, 1000.0)


def test_full_bucket_has_its_bursts() -> None:
    assert full(EARNS, 3.0) == TokenBucket(5.0, 1000.0, 3.0)


def test_what_was_spent_comes_back_at_the_rate() -> None:
    spent = full(EARNS, 0.0).less(5.0, 1000.0)
    assert spent == TokenBucket(0.0, 0.0, 0.0)
    assert spent.filled(EARNS, 1.5) == TokenBucket(3.0, 150.0, 1.5)


def test_bucket_may_owe() -> None:
    owes = full(EARNS, 0.0).less(7.0, 1200.0)
    assert owes.filled(EARNS, 1.0) == TokenBucket(0.0, -100.0, 1.0)


@given(
    st.floats(0.0, 5.0), st.floats(0.0, 1000.0), st.floats(0.0, 50.0), st.floats(0, 50)
)
def test_bucket_never_holds_more_than_its_bursts_and_looking_changes_nothing(
    messages: float, payload_bytes: float, first_s: float, later_s: float
) -> None:
    bucket = TokenBucket(messages, payload_bytes, 0.0)
    at_once = bucket.filled(EARNS, first_s + later_s)
    in_two = bucket.filled(EARNS, first_s).filled(EARNS, first_s + later_s)
    assert at_once.messages <= 5.0
    assert at_once.payload_bytes <= 1000.0
    assert in_two.messages == pytest.approx(at_once.messages)
    assert in_two.payload_bytes == pytest.approx(at_once.payload_bytes)


@pytest.mark.parametrize("dimension", [4, 16_000_000])
def test_rates_have_room_for_the_widest_task(dimension: int) -> None:
    wide = replace(task_spec(), dimension=dimension)
    upload = upload_bytes_max([task_spec(), wide])
    limits = rates(upload)
    assert upload == upload_bytes_max([wide])
    assert upload >= 4 * dimension
    assert limits.messages_burst > 8 * chunk_count(upload)
    assert limits.bytes_burst > 8 * upload
