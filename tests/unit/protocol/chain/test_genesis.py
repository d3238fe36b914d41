"""Quorums, validator sets and the genesis that pins them."""

from dataclasses import replace

import pytest

from starling.protocol.chain.genesis import (
    GENESIS,
    VALIDATOR_SET,
    FaultModel,
    Genesis,
    Validator,
    ValidatorSet,
    quorum,
)
from starling.protocol.errors import DecodeError, ProtocolError
from starling.protocol.ids import PublicKey, SealingKey
from starling.protocol.schema.msgpack_codec import encode
from tests.vectors import protocol_samples as samples

MEMBERS = samples.VALIDATORS.members
BYZANTINE, CRASH = FaultModel.BYZANTINE, FaultModel.CRASH


@pytest.mark.parametrize(
    ("validators", "faulty", "needed"),
    [
        (1, 0, 1),
        (2, 0, 2),
        (3, 0, 3),
        (4, 1, 3),
        (5, 1, 4),
        (6, 1, 5),
        (7, 2, 5),
        (10, 3, 7),
        (13, 4, 9),
        (20, 6, 14),
    ],
)
def test_quorum_is_more_than_two_thirds(
    validators: int, faulty: int, needed: int
) -> None:
    assert quorum(validators, BYZANTINE) == needed
    # Two quorums share an honest validator, and the honest ones alone make a quorum.
    assert 2 * needed - validators > faulty
    assert validators - faulty >= needed


@pytest.mark.parametrize(("validators", "needed"), [(2, 2), (3, 2)])
def test_quorum_of_the_crash_model_is_a_majority(validators: int, needed: int) -> None:
    assert quorum(validators, CRASH) == needed


def test_quorum_of_a_decoded_fault_model_is_the_same() -> None:
    members = samples.VALIDATORS.members[:3]
    genesis = replace(
        samples.GENESIS, fault_model=CRASH, validators=ValidatorSet(members)
    )

    decoded = GENESIS.unpack(GENESIS.pack(genesis))

    assert quorum(3, decoded.fault_model) == 2  # type: ignore[arg-type]  # as decoded


@pytest.mark.parametrize(
    "members",
    [MEMBERS[::-1], (MEMBERS[0], MEMBERS[0]), (MEMBERS[1], MEMBERS[0], MEMBERS[2])],
    ids=["reversed", "twice", "swapped"],
)
def test_validator_set_in_another_order_refuses(
    members: tuple[Validator, ...],
) -> None:
    rows = [[each.public, each.sealing, each.name] for each in members]

    with pytest.raises(DecodeError, match="distinct and sorted"):
        ValidatorSet(members)
    with pytest.raises(DecodeError, match="distinct and sorted"):
        VALIDATOR_SET.unpack(encode([rows]))


def test_validator_set_without_members_refuses() -> None:
    with pytest.raises(ProtocolError):
        VALIDATOR_SET.unpack(encode([[]]))


def test_validator_set_finds_its_members() -> None:
    found = [samples.VALIDATORS.index_of(each.public) for each in MEMBERS]

    assert found == [0, 1, 2, 3]
    assert samples.VALIDATORS.index_of(bytes(32)) is None


def test_validator_set_digest_depends_on_every_part() -> None:
    first = MEMBERS[0]
    altered = [
        replace(first, public=PublicKey(bytes(32))),
        replace(first, sealing=SealingKey(bytes(32))),
        replace(first, name="x"),
    ]
    digests = {ValidatorSet((each, *MEMBERS[1:])).digest() for each in altered}

    assert len(digests | {samples.VALIDATORS.digest()}) == 4


@pytest.mark.parametrize("count", [1, 4])
def test_genesis_with_the_crash_model_for_other_numbers_refuses(count: int) -> None:
    with pytest.raises(DecodeError, match="crash-only"):
        replace(
            samples.GENESIS, fault_model=CRASH, validators=ValidatorSet(MEMBERS[:count])
        )


@pytest.mark.parametrize("fleet", ["", "a/b", "+", "#", "UPPER", "$SYS"])
def test_genesis_with_a_fleet_name_unfit_for_topics_refuses(fleet: str) -> None:
    with pytest.raises(DecodeError, match="fleet name"):
        replace(samples.GENESIS, fleet=fleet)


ALTERED_GENESIS = {
    "fleet": replace(samples.GENESIS, fleet="other"),
    "created": replace(samples.GENESIS, created_ms=1),
    "validators": replace(samples.GENESIS, validators=ValidatorSet(MEMBERS[:3])),
    "operators": replace(samples.GENESIS, operators=(samples.BOARD.public,)),
    "heartbeat": replace(samples.GENESIS, heartbeat_s=61),
}


@pytest.mark.parametrize("genesis", ALTERED_GENESIS.values(), ids=ALTERED_GENESIS)
def test_chain_id_depends_on_the_whole_genesis(genesis: Genesis) -> None:
    assert genesis.chain_id() != samples.GENESIS.chain_id()
