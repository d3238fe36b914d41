"""A refusal is told by one of us, signed once, and to nobody who signed nothing."""

from collections.abc import Sequence

import pytest

from starling.coordinator.boards import board_refusals
from starling.coordinator.step.effects import Effect, RecordRefusal, SendMessage
from starling.coordinator.step.events import (
    BoardMessageArrived,
    BusConnected,
    ChunkArrived,
)
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.errors import Reason
from starling.protocol.ids import device_name
from starling.protocol.wire.chunks import CHUNK, split
from starling.protocol.wire.envelope import ENVELOPE, Envelope, MessageKind
from starling.protocol.wire.message_bodies import (
    REFUSED,
    REVOKE,
    UPLOAD,
    Revoke,
    about_board,
)
from tests.unit.coordinator.fixtures import single_coordinator as single
from tests.unit.coordinator.fixtures.council_genesis import COUNT, KEYS
from tests.unit.coordinator.fixtures.fleet_board import FleetBoard
from tests.unit.coordinator.fixtures.four_coordinators import FourCoordinators
from tests.unit.coordinator.peers.test_responder_selection import (
    SOON_S,
    die,
    first_for,
    told,
)

STRANGER = FleetBoard(SigningKey(b"s" * 32))


def refused(council: FourCoordinators, board: FleetBoard) -> list[Envelope]:
    return told(council, board, MessageKind.REFUSED)


def spoiled(council: FourCoordinators, board: FleetBoard) -> bytes:
    """An upload that every coordinator refuses for good: another blob than signed."""
    (lease,) = council.check_in(board, 0)
    good, other = board.upload(lease), board.upload(lease)
    return UPLOAD.pack(type(good)(good.update, lease, other.blob))


def send(council: FourCoordinators, board: FleetBoard, whole: bytes) -> None:
    for chunk in split(whole):
        council.tell_all(ChunkArrived(board.device, CHUNK.pack(chunk)))


@pytest.mark.parametrize(
    "payload",
    [
        b"noise",
        ENVELOPE.pack(STRANGER.sign(MessageKind.CHECK_IN, b"")),
        STRANGER.check_in(0),
    ],
    ids=["noise", "empty", "check-in"],
)
@pytest.mark.parametrize("as_board", [False, True])
def test_what_no_enrolled_board_signed_is_answered_by_nobody(
    council: FourCoordinators, boards: list[FleetBoard], payload: bytes, as_board: bool
) -> None:
    device = boards[0].device if as_board else STRANGER.device
    counters = [member.state.counter for member in council.members]
    council.down.clear()
    for event in (BoardMessageArrived, ChunkArrived):
        council.tell_all(event(device, payload))
    council.run(SOON_S)
    assert not council.down
    assert [member.state.counter for member in council.members] == counters
    assert all("MALFORMED" in member.refusals() for member in council.members)


def test_refusal_is_told_by_the_first_alone(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    whole = spoiled(council, boards[0])
    council.down.clear()
    send(council, boards[0], whole)
    council.run(SOON_S)
    (envelope,) = refused(council, boards[0])
    assert envelope.sender == KEYS[first_for(council, boards[0])].public
    assert REFUSED.unpack(envelope.body).reason == Reason.COMMITMENT_MISMATCH
    assert all("COMMITMENT_MISMATCH" in member.refusals() for member in council.members)


def test_refusal_whose_first_coordinator_just_died_is_told_by_another(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    whole = spoiled(council, boards[0])
    first = first_for(council, boards[0])
    die(council, first)
    council.down.clear()
    send(council, boards[0], whole)
    assert not refused(council, boards[0])
    council.run(SOON_S)
    (envelope,) = refused(council, boards[0])
    assert envelope.sender != KEYS[first].public


def test_board_that_sends_it_again_is_refused_by_one_more_each_time(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    whole = spoiled(council, boards[0])
    council.down.clear()
    for times in range(1, COUNT + 2):
        send(council, boards[0], whole)
        assert len({each.sender for each in refused(council, boards[0])}) == min(
            times, COUNT
        )
        council.run(board_refusals.AGAIN_S + 0.5)


def test_flood_of_the_same_is_signed_once_and_told_now_and_then(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    whole = spoiled(council, boards[0])
    (chunk,) = split(whole)
    (first,) = [council.members[first_for(council, boards[0])]]
    start_s, counter = council.now_s, first.state.counter
    first.effects.clear()
    for number in range(100):
        event = ChunkArrived(boards[0].device, CHUNK.pack(chunk))
        first.step(event, start_s + number / 10)
    told_ = [each.payload for each in first.effects if isinstance(each, SendMessage)]
    envelopes = {p for p in told_ if ENVELOPE.unpack(p).kind == MessageKind.REFUSED}
    assert len(envelopes) == 1
    assert len(told_) <= 10.0 / board_refusals.AGAIN_S + 1
    assert first.state.counter == counter + 1
    assert sum(isinstance(each, RecordRefusal) for each in first.effects) == 100


def left_word(effects: Sequence[Effect]) -> list[SendMessage]:
    """What the broker keeps for boards."""
    said = [each for each in effects if isinstance(each, SendMessage)]
    return [each for each in said if each.retain and "/d/" in each.topic]


def test_board_that_is_revoked_is_told_so_for_as_long_as_the_broker_keeps_it() -> None:
    one = single.board(1)
    world = single.SingleCoordinator(task=single.spec())
    world.open([one, single.board(2)])
    begun = len(world.effects)

    world.operate(MessageKind.REVOKE, REVOKE.pack(Revoke(one.device)))

    (kept,) = left_word(world.effects[begun:])
    assert kept.topic == single.TOPICS.down(device_name(one.device))
    found = REFUSED.unpack(ENVELOPE.unpack(kept.payload).body)
    assert (found.subject, found.reason) == (
        about_board(one.device),
        Reason.NOT_ENROLLED,
    )
    assert "revoked at height " in found.detail


@pytest.mark.parametrize("most", [1, 2, 1024])
def test_boards_that_were_revoked_last_are_told_again_with_each_connection(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(board_refusals, "REMINDED_MAX", most)
    boards = [single.board(number) for number in range(4)]
    world = single.SingleCoordinator(task=single.spec())
    world.open(boards)
    assert left_word(world.send(BusConnected())) == []
    for each in (boards[2], boards[1], boards[3]):
        world.operate(MessageKind.REVOKE, REVOKE.pack(Revoke(each.device)))

    for _ in range(2):
        kept = left_word(world.send(BusConnected()))

        told_ = [single.TOPICS.down(device_name(boards[n].device)) for n in (2, 1, 3)]
        assert [each.topic for each in kept] == told_[-most:]
