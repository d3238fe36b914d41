"""A refusal is told by one of us, signed once, and to nobody who signed nothing."""

import pytest

from coordinator import refusing
from coordinator.effects import Publish, Refuse
from coordinator.events import ChunkArrived, SaidArrived
from protocol.chunks import CHUNK, split
from protocol.envelope import ENVELOPE, Envelope, Kind
from protocol.errors import Reason
from protocol.keys import SigningKey
from protocol.messages import REFUSED, UPLOAD
from tests.unit.coordinator.council import COUNT, KEYS, Council, Voter
from tests.unit.coordinator.test_standing_in import SOON_S, die, first_for, told

STRANGER = Voter(SigningKey(b"s" * 32))


def refused(council: Council, board: Voter) -> list[Envelope]:
    return told(council, board, Kind.REFUSED)


def spoiled(council: Council, board: Voter) -> bytes:
    """An upload that every coordinator refuses for good: another blob than signed."""
    (lease,) = council.check_in(board, 0)
    good, other = board.upload(lease), board.upload(lease)
    return UPLOAD.pack(type(good)(good.update, lease, other.blob))


def send(council: Council, board: Voter, whole: bytes) -> None:
    for chunk in split(whole):
        council.tell_all(ChunkArrived(board.device, CHUNK.pack(chunk)))


@pytest.mark.parametrize(
    "payload",
    [
        b"noise",
        ENVELOPE.pack(STRANGER.sign(Kind.CHECK_IN, b"")),
        STRANGER.check_in(0),
    ],
    ids=["noise", "empty", "check-in"],
)
@pytest.mark.parametrize("as_board", [False, True])
def test_what_no_enrolled_board_signed_is_answered_by_nobody(
    council: Council, boards: list[Voter], payload: bytes, as_board: bool
) -> None:
    device = boards[0].device if as_board else STRANGER.device
    counters = [member.state.counter for member in council.members]
    council.down.clear()
    for event in (SaidArrived, ChunkArrived):
        council.tell_all(event(device, payload))
    council.run(SOON_S)
    assert not council.down
    assert [member.state.counter for member in council.members] == counters
    assert all("MALFORMED" in member.refusals() for member in council.members)


def test_refusal_is_told_by_the_first_alone(
    council: Council, boards: list[Voter]
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
    council: Council, boards: list[Voter]
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
    council: Council, boards: list[Voter]
) -> None:
    whole = spoiled(council, boards[0])
    council.down.clear()
    for times in range(1, COUNT + 2):
        send(council, boards[0], whole)
        assert len({each.sender for each in refused(council, boards[0])}) == min(
            times, COUNT
        )
        council.run(refusing.AGAIN_S + 0.5)


def test_flood_of_the_same_is_signed_once_and_told_now_and_then(
    council: Council, boards: list[Voter]
) -> None:
    whole = spoiled(council, boards[0])
    (chunk,) = split(whole)
    (first,) = [council.members[first_for(council, boards[0])]]
    start_s, counter = council.now_s, first.state.counter
    first.effects.clear()
    for number in range(100):
        event = ChunkArrived(boards[0].device, CHUNK.pack(chunk))
        first.step(event, start_s + number / 10)
    told_ = [each.payload for each in first.effects if isinstance(each, Publish)]
    envelopes = {p for p in told_ if ENVELOPE.unpack(p).kind == Kind.REFUSED}
    assert len(envelopes) == 1
    assert len(told_) <= 10.0 / refusing.AGAIN_S + 1
    assert first.state.counter == counter + 1
    assert sum(isinstance(each, Refuse) for each in first.effects) == 100
