"""Boards with two updates for one version, convicted by four coordinators."""

from dataclasses import replace

import pytest

from starling.coordinator.chain.governance import slashing
from starling.coordinator.chain.state import board_records
from starling.coordinator.chain.state.board_records import ConvictionRecord
from starling.coordinator.chain.storage.chain_store import StoredUpload
from starling.coordinator.loop.restored_state import restore
from starling.protocol.chain.evidence import Offence
from starling.protocol.ids import Version
from starling.protocol.wire.message_bodies import LEASE
from tests.unit.coordinator.fixtures.council_genesis import CHAIN_ID, COUNT
from tests.unit.coordinator.fixtures.fleet_board import FleetBoard
from tests.unit.coordinator.fixtures.four_coordinators import FourCoordinators


def faults(
    council: FourCoordinators, board: FleetBoard
) -> list[ConvictionRecord | None]:
    return [
        board_records.fault(m.state.ledger.tree, board.key.public)
        for m in council.members
    ]


@pytest.mark.parametrize("sent", [(0, 1, 2, 3), (0, 0, 0, 1)], ids=["four", "two"])
def test_board_with_another_update_for_each_is_convicted_by_all(
    council: FourCoordinators, boards: list[FleetBoard], sent: tuple[int, ...]
) -> None:
    (lease,) = council.check_in(boards[0], 0)
    uploads = [boards[0].upload(lease) for _ in range(COUNT)]
    for member, number in enumerate(sent):
        council.send(boards[0], uploads[number], {member})
    council.run(3.0)

    found = set(faults(council, boards[0]))

    (fault,) = found
    assert fault is not None
    assert fault.offence == Offence.DEVICE_DOUBLE
    assert len(set(council.heights())) == 1


def test_board_with_a_second_update_when_the_first_is_in_the_chain_is_convicted(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    (lease,) = council.check_in(boards[0], 0)
    council.send(boards[0], boards[0].upload(lease))
    council.run(2.0)

    council.send(boards[0], boards[0].upload(lease), {2})
    council.run(2.0)

    assert all(faults(council, boards[0]))


def test_board_with_another_update_for_each_in_a_partition_is_convicted(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    (lease,) = council.check_in(boards[0], 0)
    council.cut = lambda source, target, m: 3 in (source, target)
    council.send(boards[0], boards[0].upload(lease), {0, 1, 2})
    council.send(boards[0], boards[0].upload(lease), {3})
    council.run(3.0)
    assert faults(council, boards[0]) == [None] * COUNT

    council.cut = lambda source, target, m: False
    council.run(5.0)

    assert all(faults(council, boards[0]))


def test_coordinator_that_restarts_accuses_again(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    (lease,) = council.check_in(boards[0], 0)
    council.crash(0, 1, 2)
    for _ in range(2):
        council.send(boards[0], boards[0].upload(lease), {3})
    council.crash(3)

    for index in range(COUNT):
        council.restart(index)
    council.run(5.0)

    assert all(faults(council, boards[0]))


def test_coordinator_that_restarts_accuses_a_convicted_board_of_its_next_base(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    (lease,) = council.check_in(boards[0], 0)
    for _ in range(2):
        council.send(boards[0], boards[0].upload(lease))
        council.run(2.0)
    assert all(faults(council, boards[0]))
    of_next = replace(LEASE.unpack(lease.body), version=Version(1))
    next_lease = replace(lease, body=LEASE.pack(of_next))
    first, second = (boards[0].upload(next_lease) for _ in range(2))
    member = council.members[3]
    known = first.update.identity(CHAIN_ID)
    with member.store.transaction():
        member.store.put_upload(StoredUpload(known, first.update, first.blob, 0))
        member.store.put_evidence(known, second.update)

    restored = restore(member.settings, member.store, (), 1 << 40, council.now_s)

    # Not of the base that it is convicted for, whose evidence is still stored.
    assert len(member.store.evidence()) == 2
    assert restored.evidence == [(first.update, second.update)]


def test_coordinator_that_restarts_drops_evidence_that_is_too_old(
    council: FourCoordinators, boards: list[FleetBoard], monkeypatch: pytest.MonkeyPatch
) -> None:
    (lease,) = council.check_in(boards[0], 0)
    council.crash(0, 1, 2)
    for _ in range(2):
        council.send(boards[0], boards[0].upload(lease), {3})
    council.crash(3)
    assert len(council.members[3].store.evidence()) == 1
    monkeypatch.setattr(slashing, "AGE_VERSIONS_MAX", -1)

    for index in range(COUNT):
        council.restart(index)
    council.run(5.0)

    assert council.members[3].store.evidence() == ()
    assert faults(council, boards[0]) == [None] * COUNT
    assert not any(m.state.ledger.mempool.size for m in council.members)


def test_contradiction_of_a_base_that_is_too_old_is_not_kept(
    council: FourCoordinators, boards: list[FleetBoard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slashing, "AGE_VERSIONS_MAX", -1)
    (lease,) = council.check_in(boards[0], 0)
    for _ in range(2):
        council.send(boards[0], boards[0].upload(lease))
    council.run(2.0)
    assert [member.store.evidence() for member in council.members] == [()] * COUNT
    assert faults(council, boards[0]) == [None] * COUNT


def test_board_convicted_once_is_not_accused_again(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    (lease,) = council.check_in(boards[0], 0)
    for _ in range(3):
        council.send(boards[0], boards[0].upload(lease))
        council.run(2.0)

    kept = [len(member.store.evidence()) for member in council.members]

    assert kept == [1] * COUNT
