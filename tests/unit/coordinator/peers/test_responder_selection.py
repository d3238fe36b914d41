"""What a coordinator answers in place of one that died a moment ago."""

from dataclasses import replace

import pytest

from starling.coordinator.peers import responder_selection
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.events import BoardMessageArrived, ClockTicked
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import Reason
from starling.protocol.ids import TaskId
from starling.protocol.wire.envelope import ENVELOPE, Envelope, MessageKind
from starling.protocol.wire.message_bodies import CHUNK_REQUEST, REFUSED, ChunkRequest
from tests.unit.coordinator.fixtures.council_genesis import COUNT, KEYS
from tests.unit.coordinator.fixtures.fleet_board import FleetBoard, voters
from tests.unit.coordinator.fixtures.four_coordinators import FourCoordinators

TASK = TaskId(0)
ALL = set(range(COUNT))
SOON_S = 2.5
"""That a board waits at most for those whose turn is next."""


@pytest.fixture
def boards(council: FourCoordinators) -> list[FleetBoard]:
    made = voters(2)
    council.open(made)
    council.run(2.0)
    return made


def first_for(council: FourCoordinators, board: FleetBoard) -> int:
    """The coordinator that answers a board."""
    (first,) = [
        member.index
        for member in council.members
        if responder_selection.is_first(
            CoordinatorStep(member.settings, member.state, council.now_s, 0),
            board.device,
        )
    ]
    return first


def die(council: FourCoordinators, index: int) -> None:
    """Ends one as a power cut does; nobody knows yet."""
    council.members[index].up = False
    council.members[index].sent.clear()


def told(
    council: FourCoordinators, board: FleetBoard, *kinds: MessageKind
) -> list[Envelope]:
    return [
        envelope
        for device, envelope in council.down
        if device == board.device and envelope.kind in kinds
    ]


def ask(board: FleetBoard, council: FourCoordinators) -> BoardMessageArrived:
    """A request for the first chunk of the bundle."""
    digest = council.task.bundle
    request = CHUNK_REQUEST.pack(ChunkRequest(digest, (0,)))
    said = ENVELOPE.pack(board.sign(MessageKind.CHUNK_REQUEST, request))
    return BoardMessageArrived(board.device, said)


def test_update_in_calm_weather_is_acknowledged_once(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    for board in boards:
        (lease,) = council.check_in(board, 0)
        council.send(board, board.upload(lease))
    council.down.clear()

    council.run(5.0)

    assert [len(told(council, board, MessageKind.ACCEPTED)) for board in boards] == [
        0,
        0,
    ]
    assert [len(told(council, board, MessageKind.FINAL)) for board in boards] == [1, 1]
    assert not any(member.state.left for member in council.members)


def test_update_whose_first_coordinator_just_died_is_proven_by_another(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    board = boards[0]
    (lease,) = council.check_in(board, 0)
    die(council, first_for(council, board))
    council.down.clear()
    council.send(board, board.upload(lease))
    assert not told(council, board, MessageKind.ACCEPTED, MessageKind.FINAL)

    council.run(SOON_S)

    answers = told(council, board, MessageKind.ACCEPTED, MessageKind.FINAL)
    assert [envelope.kind for envelope in answers] == [MessageKind.FINAL]


def test_update_is_acknowledged_by_another_while_nothing_is_decided(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    board = boards[0]
    (lease,) = council.check_in(board, 0)
    first = first_for(council, board)
    die(council, first)
    die(council, (first + 1) % COUNT)
    council.down.clear()
    council.send(board, board.upload(lease))

    council.run(SOON_S)

    answers = told(council, board, MessageKind.ACCEPTED, MessageKind.FINAL)
    assert [envelope.kind for envelope in answers] == [MessageKind.ACCEPTED]


def test_update_in_a_partition_is_acknowledged_and_proven_once_it_heals(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    board = boards[0]
    (lease,) = council.check_in(board, 0)
    council.cut = lambda source, target, m: source // 2 != target // 2
    council.run(SOON_S)
    council.down.clear()
    council.send(board, board.upload(lease))
    senders = {each.sender for each in told(council, board, MessageKind.ACCEPTED)}
    assert {KEYS.index(key) // 2 for key in KEYS if key.public in senders} == {0, 1}

    council.cut = lambda source, target, m: False
    council.run(4.0)

    assert told(council, board, MessageKind.FINAL)


def test_check_in_whose_first_coordinator_just_died_is_answered_by_another(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    first = first_for(council, boards[0])
    die(council, first)
    assert not council.check_in(boards[0], 0)

    council.run(SOON_S)

    (lease,) = told(council, boards[0], MessageKind.LEASE)
    assert lease.sender != KEYS[first].public


def test_check_in_that_was_followed_by_another_one_is_not_answered_late(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    board = boards[0]
    die(council, first_for(council, board))
    council.check_in(board, 0)
    council.tell_all(ask(board, council))

    council.run(SOON_S)

    assert not told(council, board, MessageKind.LEASE)


def test_check_in_at_start_is_answered_though_the_first_is_at_another_broker(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    council.brokers = [0, 0, 1, 1]
    for member in council.members:
        near = {who: replace(p, near_at_s=0.0) for who, p in member.state.peers.items()}
        since = council.now_s
        member.state = replace(member.state, since_s=since, peers=near)
        member.settings = replace(member.settings, shared=False)
    here = {0, 1} if first_for_any(council, boards[0]) > 1 else {2, 3}
    assert not council.check_in(boards[0], 0, to=here)

    council.run(SOON_S)

    assert len(told(council, boards[0], MessageKind.LEASE)) == 1


def first_for_any(council: FourCoordinators, board: FleetBoard) -> int:
    """The coordinator before whom nobody comes, whoever is heard of."""
    (first,) = [
        member.index
        for member in council.members
        if responder_selection.responder_rank(
            CoordinatorStep(member.settings, member.state, council.now_s, 0),
            board.device,
        )
        == 0
    ]
    return first


def test_request_for_chunks_of_what_is_only_elsewhere_is_refused_at_once(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    board = boards[0]
    member = council.members[first_for(council, board)]
    tasks = {TASK: replace(member.state.tasks[TASK], opening=True)}
    member.state = replace(member.state, tasks=tasks)
    council.down.clear()

    council.tell_all(ask(board, council))

    (refused,) = told(council, board, MessageKind.REFUSED)
    assert REFUSED.unpack(refused.body).reason == Reason.NOT_HERE


def test_board_whose_first_coordinator_tells_it_nothing_waits_for_one_proof_only(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    board, other = boards
    liar = KEYS[first_for(council, board)].public

    def proofs() -> int:
        """Those that come from others: it says that it lives, and no more."""
        finals = told(council, board, MessageKind.FINAL)
        return sum(envelope.sender != liar for envelope in finals)

    (lease,) = council.check_in(board, 0)
    upload = board.upload(lease)
    council.send(board, upload)
    council.contribute(other, 0)
    council.run(SOON_S)
    assert proofs() == 0
    council.send(board, upload)
    assert proofs() == COUNT - 1
    assert len(told(council, other, MessageKind.FINAL)) == 1

    for version in (1, 2):
        assert council.heads() == [version] * COUNT
        for each in (board, other):
            council.contribute(each, version)
        council.down.clear()
        council.run(SOON_S)
        assert proofs() == 1
        assert len(told(council, other, MessageKind.FINAL)) == 1


def test_board_that_missed_a_proof_is_told_by_one_again_after_a_while(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    board = boards[0]
    (lease,) = council.check_in(board, 0)
    upload = board.upload(lease)
    council.send(board, upload)
    council.run(SOON_S)
    council.send(board, upload)

    steps = [
        CoordinatorStep(member.settings, member.state, council.now_s, 0)
        for member in council.members
    ]
    assert sum(responder_selection.is_first(step, board.device) for step in steps) == 2
    for step in steps:
        step.now_s += responder_selection.DOUBT_S
        # Nobody is heard of for so long here: let all be alive.
        step.state = evolve(step.state, since_s=step.now_s)
    assert sum(responder_selection.is_first(step, board.device) for step in steps) == 1


def test_answers_left_to_others_are_bounded(
    council: FourCoordinators, boards: list[FleetBoard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responder_selection, "LEFT_MAX", 1)
    for board in boards:
        (lease,) = council.check_in(board, 0)
        council.send(board, board.upload(lease))

    assert max(len(member.state.left) for member in council.members) == 1


def test_left_answer_is_looked_at_when_its_time_has_come(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    board = boards[0]
    die(council, first_for(council, board))
    council.check_in(board, 0)
    left = [member for member in council.members if member.up and member.state.left]

    assert len(left) == COUNT - 1
    for member in left:
        assert member.state.wake_at_s <= member.state.left_at_s
        member.step(ClockTicked(), member.state.left_at_s)
        assert not member.state.left
