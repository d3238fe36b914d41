"""Who asks pays for the answer, in bytes, and nobody else does."""

import random

import pytest

from coordinator import giving, peers
from coordinator.effects import Give
from coordinator.events import PeerArrived
from coordinator.gossip import FRAME, WANT, Frame, Subject, Want, payloads
from coordinator.ledger import wire
from protocol.chunks import CHUNK_BYTES
from protocol.errors import DecodeError
from protocol.ids import H
from tests.unit.coordinator.council import KEYS, Council, Member, Voter, name

LIAR, HONEST = KEYS[3].identity, KEYS[2].identity


def want(
    subject: Subject, *keys: bytes, pieces: tuple[int, ...] = (), of: int = 0
) -> bytes:
    asked = Want(KEYS[of].identity, subject, keys, pieces)
    return FRAME.pack(Frame(Subject.WANT, WANT.pack(asked)))


def gives(member: Member) -> list[Give]:
    return [each for each in member.effects if isinstance(each, Give)]


def test_same_thing_is_given_once_in_a_while_however_often_it_is_asked_for(
    council: Council, boards: list[Voter]
) -> None:
    member = council.members[0]
    start_s = council.now_s + 60.0
    member.effects.clear()
    for tenth in range(100):
        ask = want(Subject.WHOLE, H(b"bundle"))
        member.step(PeerArrived(LIAR, ask), start_s + tenth / 10)
    assert len(gives(member)) == -(-10 // giving.ANSWER_AGAIN_S)
    assert {each.to for each in gives(member)} == {LIAR}


@pytest.mark.parametrize("pieces", [(), (3, 4, 5)], ids=["begins", "goes-on"])
def test_flood_of_requests_is_answered_as_far_as_its_allowance_goes(
    council: Council, boards: list[Voter], pieces: tuple[int, ...]
) -> None:
    member = council.members[0]
    start_s, seconds = council.now_s + 60.0, 3
    member.effects.clear()
    honest = 0
    for number in range(1000 * seconds):
        now_s = start_s + number / 1000
        key = H(number.to_bytes(4))
        member.step(PeerArrived(LIAR, want(Subject.WHOLE, key, pieces=pieces)), now_s)
        if number % 100 == 0:
            ask = want(Subject.WHOLE, key, pieces=(1, 2))
            member.step(PeerArrived(HONEST, ask), now_s)
            honest += 2
    given = dict.fromkeys((LIAR, HONEST), 0)
    for each in gives(member):
        given[each.to] += max(1, len(each.pieces))
    most = giving.ANSWERS_BURST + seconds * giving.ANSWERS_PER_S
    assert 0 < given[LIAR] * CHUNK_BYTES <= most
    assert given[HONEST] == honest
    assert member.state.peers[LIAR].refused > 1000
    assert member.state.peers[HONEST].refused == 0
    assert len(member.state.peers[LIAR].lines[0].answered) <= giving.ASKS_BURST
    assert member.refusals().count("BUSY") > 1000


def test_requests_of_a_key_s_flood_leave_the_publisher_s_queue_small(
    council: Council, boards: list[Voter]
) -> None:
    member, blobs = council.members[0], []
    with member.store.transaction():
        for number in range(40):
            whole = random.Random(number).randbytes(20 * CHUNK_BYTES)
            blobs.append(member.store.put_blob(whole))
    member.sent.clear()
    for digest in blobs:
        for first in range(0, 20, 10):
            ask = want(Subject.WHOLE, digest, pieces=tuple(range(first, first + 10)))
            member.step(PeerArrived(LIAR, ask), council.now_s)
    held = sum(len(message.payload) for message in member.sent)
    assert held <= 512 << 10
    topics = {message.topic for message in member.sent if "/g/" in message.topic}
    assert {topic.split("/")[-1] for topic in topics} <= {name(3), "say"}


def test_answer_reaches_nobody_but_who_asked(
    council: Council, boards: list[Voter]
) -> None:
    heard: list[tuple[int, int]] = []

    def note(source: int, target: int, message: object) -> bool:
        heard.append((source, target))
        return False

    council.cut = note
    ask = want(Subject.WHOLE, H(b"bundle"))
    council.members[0].step(PeerArrived(LIAR, ask), council.now_s)
    council.settle()
    assert heard == [(0, 3)]


def test_asked_for_by_somebody_else_is_not_answered(
    council: Council, boards: list[Voter]
) -> None:
    member = council.members[0]
    member.effects.clear()
    ask = want(Subject.WHOLE, H(b"bundle"), of=1)
    member.step(PeerArrived(LIAR, ask), council.now_s)
    assert not gives(member)


@pytest.mark.parametrize(
    ("keys", "pieces"),
    [((b"a", b"a"), ()), ((b"a",), (1, 1)), ((b"a", b"b"), (1,))],
    ids=["key-twice", "piece-twice", "pieces-of-two"],
)
def test_request_of_the_same_thing_twice_is_malformed(
    keys: tuple[bytes, ...], pieces: tuple[int, ...]
) -> None:
    with pytest.raises(DecodeError):
        Want(LIAR, Subject.WHOLE, keys, pieces)


def test_flood_of_unasked_bytes_is_dropped_before_decoding_and_named(
    council: Council, boards: list[Voter]
) -> None:
    member = council.members[0]
    frame = FRAME.pack(Frame(Subject.WHOLE, bytes(80_000)))
    member.effects.clear()
    sent = int(peers.BYTES_BURST / 80_000) + 50
    for _ in range(sent):
        member.step(PeerArrived(LIAR, frame), council.now_s)
    refused = member.state.peers[LIAR].refused
    assert refused >= 50
    assert member.refusals().count("BUSY") == refused
    assert member.state.peers[HONEST].refused == 0


@pytest.mark.parametrize("frame", ["unasked", "requests"])
def test_who_writes_under_another_s_name_at_its_own_broker_uses_up_nothing_of_his(
    council: Council, boards: list[Voter], frame: str
) -> None:
    member, broker = council.members[0], 2
    for number in range(8000):
        key = H(number.to_bytes(4))
        forged = FRAME.pack(Frame(Subject.WHOLE, bytes(10)))
        if frame == "requests":
            forged = want(Subject.WHOLE, key)
        member.step(PeerArrived(HONEST, forged, broker), council.now_s)
    refused = member.state.peers[HONEST].refused
    assert refused > 0

    member.effects.clear()
    asked = want(Subject.WHOLE, H(b"bundle"))
    member.step(PeerArrived(HONEST, asked), council.now_s)
    assert [(each.to, each.key) for each in gives(member)] == [(HONEST, H(b"bundle"))]
    assert member.state.peers[HONEST].refused == refused


def test_who_writes_under_another_s_name_at_its_own_broker_breaks_nothing_off(
    council: Council, boards: list[Voter]
) -> None:
    member = council.members[0]
    message = wire.MESSAGE.pack(wire.Message(99, bytes(200_000)))
    forged = next(payloads(Subject.LEDGER, bytes(300_000)))
    member.effects.clear()
    for payload in payloads(Subject.LEDGER, message):
        member.step(PeerArrived(HONEST, forged, 1), council.now_s)
        member.step(PeerArrived(HONEST, payload), council.now_s)
    # It came whole: what is wrong with it is its kind.
    assert member.refusals() == ["UNKNOWN_KIND"]
    assert member.state.peers[HONEST].lines[0].assemblies == ()
    assert member.state.peers[HONEST].lines[1].assemblies
