"""Boards' messages to four coordinators: answered by one, or by more if need be."""

from dataclasses import replace

import pytest

from starling.broker.link_events import MqttMessage
from starling.coordinator.chain.gossip_messages import FrameSubject
from starling.coordinator.peers import responder_selection
from starling.coordinator.step.effects import (
    SendFrame,
    SendMessage,
)
from starling.protocol.chain.light_client import MANIFEST
from starling.protocol.wire.envelope import MessageKind
from tests.unit.coordinator.fixtures.council_genesis import COUNT, KEYS, TOPICS
from tests.unit.coordinator.fixtures.council_views import (
    TASK,
    step_of,
    subject_of,
    updates,
)
from tests.unit.coordinator.fixtures.fleet_board import FleetBoard
from tests.unit.coordinator.fixtures.four_coordinators import FourCoordinators


def test_version_is_announced_by_as_many_as_contain_somebody_alive(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    for board in boards[:2]:
        council.contribute(board, 0)
    council.run(1.0)

    assert council.heads() == [1] * COUNT
    announced = [
        sum(
            isinstance(effect, SendMessage)
            and effect.topic == TOPICS.manifest(TASK)
            and MANIFEST.unpack(effect.payload).version == 1
            for effect in member.effects
        )
        for member in council.members
    ]
    assert sum(count > 0 for count in announced) == 2


def test_check_in_is_answered_by_one_coordinator(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    assert [len(council.check_in(board, 0)) for board in boards] == [1, 1, 1, 1]


def test_check_in_at_one_broker_is_answered_by_who_is_there(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    council.brokers = [0, 0, 1, 1]
    council.run(8.0)
    there = {KEYS[index].public for index in (2, 3)}
    for board in boards:
        (lease,) = council.check_in(board, 0, to={2, 3})
        assert lease.sender in there


def test_check_in_first_in_order_silent_next_one_answers(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    board = boards[0]
    (lease,) = council.check_in(board, 0)
    first = [key.public for key in KEYS].index(lease.sender)
    council.crash(first)

    leases = council.check_in(board, 0)

    assert len(leases) == 1
    assert leases[0].sender != lease.sender


def test_leases_of_who_fell_silent_are_shared_and_given_back(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    def places() -> list[int]:
        return [m.state.tasks[TASK].leases.places for m in council.members if m.up]

    leases = council.task.aggregation.leases
    assert places() == [-(-leases // COUNT)] * COUNT
    council.crash(1)
    assert places() == [-(-leases // (COUNT - 1))] * (COUNT - 1)

    council.restart(1)
    council.run(3.0)

    assert places() == [-(-leases // COUNT)] * COUNT


def test_check_in_for_a_newer_version_frees_the_places_that_others_kept(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    board = boards[0]
    (lease,) = council.check_in(board, 0)
    first = [key.public for key in KEYS].index(lease.sender)
    council.crash(first)
    (lease,) = council.check_in(board, 0)
    other = [key.public for key in KEYS].index(lease.sender)
    council.restart(first)
    council.run(4.0)
    for each in boards[1:3]:
        council.contribute(each, 0)
    council.run(2.0)
    kept = council.members[other].state.tasks[TASK].leases.granted
    assert kept.get(board.device) is not None

    (lease,) = council.check_in(board, 1)

    assert lease.sender == KEYS[first].public
    kept = council.members[other].state.tasks[TASK].leases.granted
    assert kept.get(board.device) is None


def test_check_in_repeated_more_coordinators_answer(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    answers = [len(council.check_in(boards[0], 0)) for _ in range(9)]
    assert answers[0] == 1
    assert answers[-1] > 1


def test_lease_of_another_coordinator_is_good_everywhere(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    (lease,) = council.check_in(boards[0], 0)
    council.down.clear()
    council.send(boards[0], boards[0].upload(lease))

    assert [len(member.state.held) for member in council.members] == [1] * COUNT


def test_update_is_acknowledged_by_one_and_if_sent_again_by_all(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    (lease,) = council.check_in(boards[0], 0)
    upload = boards[0].upload(lease)
    for expected in (1, COUNT):
        council.down.clear()
        council.send(boards[0], upload)
        receipts = [e for _, e in council.down if e.kind == MessageKind.ACCEPTED]
        assert len(receipts) == expected


def test_update_where_brokers_are_several_is_told_and_answered_by_all_who_heard_it(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    for member in council.members:
        member.settings = replace(member.settings, shared=False)
    (lease,) = council.check_in(boards[0], 0)
    told: list[int] = []

    def overhear(source: int, target: int, message: MqttMessage) -> bool:
        told.append(subject_of(message))
        return False

    council.cut = overhear
    council.down.clear()
    council.send(boards[0], boards[0].upload(lease), {1, 3})

    answers = {e.sender for _, e in council.down if e.kind == MessageKind.ACCEPTED}
    assert answers == {KEYS[1].public, KEYS[3].public}
    assert FrameSubject.TRANSACTION in told
    council.run(2.0)
    assert updates(council, boards[0]) == [1] * COUNT


def wants(council: FourCoordinators, index: int) -> int:
    effects = council.members[index].effects
    return sum(
        isinstance(e, SendFrame) and e.subject is FrameSubject.REQUEST for e in effects
    )


def test_upload_later_than_its_proposal_is_not_asked_for(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    (lease,) = council.check_in(boards[0], 0)
    upload = boards[0].upload(lease)
    before = wants(council, 3)
    council.cut = lambda source, target, m: subject_of(m) == FrameSubject.VOTE
    council.send(boards[0], upload, {0, 1, 2})
    council.run(0.1)
    assert council.members[3].state.wanted

    council.send(boards[0], upload, {3})
    council.cut = lambda source, target, m: False
    council.run(3.0)

    assert wants(council, 3) == before
    assert not council.members[3].state.wanted
    assert updates(council, boards[0]) == [1] * COUNT


@pytest.mark.parametrize("number", range(4))
def test_upload_later_than_its_block_is_kept_and_answered_at_most_by_the_first(
    council: FourCoordinators, boards: list[FleetBoard], number: int
) -> None:
    board = boards[number]
    (lease,) = council.check_in(board, 0)
    upload = board.upload(lease)
    council.cut = lambda source, target, m: subject_of(m) == FrameSubject.UPLOAD
    council.send(board, upload, {0, 1, 2})
    council.run(2.0)
    assert updates(council, board) == [1] * COUNT
    identity = upload.update.identity(council.members[3].settings.gate.chain_id)
    assert council.members[3].store.upload(identity) is None

    council.down.clear()
    council.send(board, upload, {3})

    assert council.members[3].store.upload(identity) is not None
    first = responder_selection.responder_rank(step_of(council, 3), board.device) == 0
    answers = [envelope.kind for _, envelope in council.down]
    assert answers == ([MessageKind.ACCEPTED] if first else [])
    council.send(board, upload, {3})
    assert MessageKind.FINAL in [envelope.kind for _, envelope in council.down]


def test_update_that_boards_sent_to_all_is_told_to_nobody(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    (lease,) = council.check_in(boards[0], 0)
    height = council.heights()[0]
    told: list[int] = []

    def overhear(source: int, target: int, message: MqttMessage) -> bool:
        told.append(subject_of(message))
        return False

    council.cut = overhear
    council.send(boards[0], boards[0].upload(lease))
    council.run(2.0)

    assert council.heights() == [height + 1] * COUNT
    assert FrameSubject.PROPOSAL in told
    assert FrameSubject.TRANSACTION not in told


def test_duty_ranks_are_an_order_of_all(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    ranks = {
        responder_selection.responder_rank(step_of(council, i), b"something")
        for i in range(4)
    }
    assert ranks == {0, 1, 2, 3}
