"""A council whose members change goes on, and leads its boards along."""

import pytest

from starling.coordinator.chain.state import validator_records
from starling.coordinator.peers.directory import (
    is_coordinator,
    name_of,
    sealing_key,
)
from starling.protocol.chain.governance import (
    MOTION,
    VALIDATOR_CHANGE,
    GovernanceProposal,
    ValidatorChange,
)
from starling.protocol.chain.light_client import MANIFEST, TrustedState, pin
from starling.protocol.ids import DeviceId, TaskId, device_id
from starling.protocol.wire.envelope import MessageKind
from tests.unit.coordinator.fixtures.council_genesis import CHAIN_ID, GENESIS, KEYS
from tests.unit.coordinator.fixtures.fleet_board import FleetBoard, voters
from tests.unit.coordinator.fixtures.four_coordinators import FourCoordinators

TASK = TaskId(0)
GONE = 3
FORMER = GENESIS.validators.members[GONE]


@pytest.fixture
def boards(council: FourCoordinators) -> list[FleetBoard]:
    made = voters(2)
    council.open(made)
    return made


def change(council: FourCoordinators, number: int, what: ValidatorChange) -> None:
    """Three approve; the change is effective two heights later."""
    motion = GovernanceProposal(
        MessageKind.VALSET, number, 1 << 20, 0, VALIDATOR_CHANGE.pack(what)
    )
    for key in KEYS[:GONE]:
        motion = motion.approved(key, CHAIN_ID)
    council.operate(MessageKind.VALSET, MOTION.pack(motion))


def contribute(council: FourCoordinators, boards: list[FleetBoard], base: int) -> None:
    for board in boards:
        council.contribute(board, base)
    council.run(3.0)


def sizes(council: FourCoordinators) -> list[int]:
    return [member.state.ledger.validator.count for member in council.members]


def follow(council: FourCoordinators) -> TrustedState:
    """A board that is shown each manifest."""
    trusted = pin(GENESIS)
    for packed in council.manifests:
        trusted, _ = MANIFEST.unpack(packed).check(trusted)
    return trusted


def test_council_goes_on_with_three_and_takes_the_fourth_back(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    change(council, 0, ValidatorChange(None, FORMER.public))
    contribute(council, boards, 0)
    assert sizes(council) == [3] * 4
    assert [member.state.ledger.validator.index for member in council.members] == [
        0,
        1,
        2,
        None,
    ]
    assert council.heads()[:GONE] == [1, 1, 1]
    ledger, former = council.members[0].state.ledger, device_id(FORMER.public)
    assert not is_coordinator(ledger, former)
    assert sealing_key(ledger, former) is None
    lease = -(-council.task.aggregation.leases // 3)
    assert council.members[0].state.tasks[TASK].leases.places == lease

    change(council, 1, ValidatorChange(FORMER, None))
    contribute(council, boards, 1)
    contribute(council, boards, 2)

    assert sizes(council) == [4] * 4
    assert council.heads() == [3] * 4
    assert len(set(council.heights())) == 1
    attested = council.members[GONE].store.model(0, 3)
    assert attested is not None
    trusted = follow(council)
    assert trusted.validators == GENESIS.validators
    last = council.members[0].state.ledger.height
    assert trusted.changed < trusted.height <= last


def test_board_that_saw_only_the_last_manifest_is_led_along(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    change(council, 0, ValidatorChange(None, FORMER.public))
    contribute(council, boards, 0)
    manifest = MANIFEST.unpack(council.manifests[-1])
    assert manifest.version == 1
    trusted, _ = manifest.check(pin(GENESIS))
    assert trusted.validators.members == GENESIS.validators.members[:GONE]


def test_members_are_known_by_their_ids_also_before_their_first_height(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    ledger = council.members[0].state.ledger
    assert name_of(ledger, KEYS[GONE].identity) == FORMER.name
    assert name_of(ledger, boards[0].device) == "a former member"
    assert not is_coordinator(ledger, boards[0].device)
    assert not is_coordinator(ledger, DeviceId(bytes(16)))
    assert is_coordinator(ledger, KEYS[GONE].identity)
    assert validator_records.epochs(ledger.tree).following == 0
