"""Quorums of a chain, by its validators and the faults that it bears."""

import pytest

from starling.protocol.chain.genesis import FaultModel
from tests.unit.coordinator.fixtures.small_genesis import genesis, validator_of


@pytest.mark.parametrize(
    ("validators", "quorum", "skip"),
    [(1, 1, 1), (2, 2, 1), (3, 3, 1), (4, 3, 2), (5, 4, 2), (7, 5, 3), (10, 7, 4)],
)
def test_quorum_is_more_than_two_thirds(
    validators: int, quorum: int, skip: int
) -> None:
    validator = validator_of(genesis(validators))
    assert (validator.quorum, validator.skip) == (quorum, skip)
    assert 3 * quorum > 2 * validators


@pytest.mark.parametrize(("validators", "quorum"), [(2, 2), (3, 2)])
def test_crash_only_quorum_is_a_majority(validators: int, quorum: int) -> None:
    validator = validator_of(genesis(validators, FaultModel.CRASH))
    assert (validator.quorum, validator.skip) == (quorum, 1)
