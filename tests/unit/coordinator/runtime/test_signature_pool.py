"""Processes that check signatures ahead: they spare work and never pass a fault."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from starling.coordinator.chain.storage.block_rows import (
    BlockRow,
    pack_body,
    unpack_body,
)
from starling.coordinator.chain.verification import audit
from starling.coordinator.chain.verification.chain_replay import SignatureChecks
from starling.coordinator.runtime.signature_pool import ROWS_MAX, SignaturePool
from tests.unit.coordinator.chain.verification.test_chain_replay import chain, flipped


@pytest.fixture(scope="module")
def pool() -> Iterator[SignaturePool]:
    with SignaturePool(chain().genesis, 1) as running:
        yield running


def _vouched(pool: SignaturePool, row_list: list[BlockRow]) -> list[SignatureChecks]:
    validators = chain().genesis.validators
    found = list(pool.ahead(iter(row_list), lambda: validators))
    assert [row for row, _ in found] == row_list
    return [vouched for _, vouched in found]


def test_sound_rows_are_vouched_for_in_order(pool: SignaturePool) -> None:
    copy = chain()
    row_list = copy.row_list * ROWS_MAX
    whole = SignatureChecks(copy.genesis.validators.digest(), True)
    assert _vouched(pool, row_list) == [whole] * len(row_list)


def _forge(row: BlockRow) -> BlockRow:
    first, *rest = unpack_body(row.body)
    return replace(row, body=pack_body([first[:-1] + bytes([first[-1] ^ 1]), *rest]))


def test_damaged_rows_are_not_vouched_for(pool: SignaturePool) -> None:
    first, second, third = chain().row_list
    certificate_at = len(second.header) + len(second.body) + 60
    damaged = [_forge(first), flipped(second, certificate_at, 1), third]
    assert _vouched(pool, damaged)[:2] == [SignatureChecks(), SignatureChecks()]
    assert _vouched(pool, damaged)[2].transactions


def test_audit_with_a_pool_finds_what_it_finds_alone(pool: SignaturePool) -> None:
    copy = chain()
    copy.row_list[1] = _forge(copy.row_list[1])
    alone = audit.audit(copy, lambda _: None)
    assert alone.fault is not None
    assert audit.audit(copy, lambda _: None, pool.ahead) == alone


def test_pool_without_processes_vouches_for_nothing() -> None:
    copy = chain()
    with SignaturePool(copy.genesis, 0) as none:
        assert _vouched(none, copy.row_list) == [SignatureChecks()] * 3


def test_dead_processes_cost_no_rows() -> None:
    copy = chain()
    with SignaturePool(copy.genesis, 1) as dying:
        assert dying._pool is not None
        _vouched(dying, copy.row_list)
        for process in list(dying._pool._processes.values()):
            process.kill()
            process.join()
        row_list = copy.row_list * ROWS_MAX
        assert len(_vouched(dying, row_list)) == len(row_list)
