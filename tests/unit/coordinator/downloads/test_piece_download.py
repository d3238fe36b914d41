"""What is long comes in pieces, as many as were asked for, through loss and lies."""

import random
from dataclasses import replace

import pytest

from starling.broker.link_events import MqttMessage
from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.gossip_messages import FRAME, WIRE_VERSION, FrameSubject
from starling.coordinator.downloads import piece_download, request_scheduler
from starling.coordinator.handlers import peer_messages
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.events import PeerFrameArrived
from starling.coordinator.wire.frames import (
    GIVEN_PIECE,
    PieceAnswer,
    payloads,
)
from starling.protocol.ids import DeviceId, Digest, H
from starling.protocol.learning.task import TASK
from starling.protocol.schema.msgpack_codec import encode
from starling.protocol.wire.chunks import CHUNK_BYTES, chunk_at, chunk_count, split
from starling.protocol.wire.envelope import MessageKind
from starling.protocol.wire.message_bodies import REGISTER, Register
from tests.unit.coordinator.fixtures.coordinator_member import CoordinatorMember
from tests.unit.coordinator.fixtures.council_genesis import KEYS, name
from tests.unit.coordinator.fixtures.fleet_board import voters
from tests.unit.coordinator.fixtures.four_coordinators import FourCoordinators
from tests.unit.coordinator.fixtures.peer_frames import requested
from tests.unit.coordinator.fixtures.single_coordinator import MODEL, spec

BUNDLE = random.Random(7).randbytes(40 * CHUNK_BYTES + 1)
DIGEST = H(BUNDLE)


def opened(*holders: int) -> FourCoordinators:
    """A council whose task has a bundle of 41 pieces, which only some have."""
    task = replace(spec(leases=16), bundle=DIGEST, bundle_bytes=len(BUNDLE))
    council = FourCoordinators(task)
    for at in holders:
        with council.members[at].store.transaction():
            for part in (BUNDLE, *MODEL.parts()):
                council.members[at].store.put_blob(part)
    (board,) = voters(1)
    council.operate(MessageKind.REGISTER, REGISTER.pack(Register(board.key.public)))
    return council


def publish(council: FourCoordinators) -> None:
    council.operate(MessageKind.TASK, TASK.pack(council.task))


def pieces(message: MqttMessage) -> list[int]:
    """The pieces in a message of gossip."""
    if "/g/" not in message.topic:
        return []
    frame = FRAME.unpack(message.payload)
    if frame.subject != FrameSubject.PIECE:
        return []
    return [GIVEN_PIECE.unpack(frame.content).chunk.index]


def asked(message: MqttMessage) -> int:
    """How many pieces a message asks for."""
    if "/g/" not in message.topic:
        return 0
    frame = FRAME.unpack(message.payload)
    if frame.subject != FrameSubject.REQUEST:
        return 0
    return len(requested(frame.content).pieces)


def holders(council: FourCoordinators) -> list[bool]:
    return [each.store.blob(DIGEST) == BUNDLE for each in council.members]


def test_bundle_of_one_reaches_all_and_each_piece_travels_once() -> None:
    council = opened(0)
    given: list[tuple[str, int]] = []

    def note(source: int, target: int, message: MqttMessage) -> bool:
        if name(target) in message.topic:
            given.extend((message.topic, index) for index in pieces(message))
        return False

    council.cut = note
    publish(council)
    council.run(3.0)

    assert holders(council) == [True] * 4
    assert not any(each.state.wanted or each.state.pulling for each in council.members)
    assert len(given) == len(set(given)) == 3 * chunk_count(len(BUNDLE))
    assert all(
        each.state.peers[KEYS[0].identity].refused == 0 for each in council.members[1:]
    )


def test_pieces_on_their_way_to_one_are_few_whatever_it_pulls() -> None:
    council = opened(0)
    open_at_once: list[int] = []
    publish(council)
    for _ in range(20):
        council.run(0.05)
        for member in council.members:
            pulls = [one.pull for one in member.state.wanted.values() if one.pull]
            open_at_once += [len(pull.open) for pull in pulls]
    assert max(open_at_once, default=0) <= piece_download.OPEN_EACH_MAX


def test_pace_of_pulling_is_bounded() -> None:
    council = opened(0)
    wanted = [0]

    def count(source: int, target: int, message: MqttMessage) -> bool:
        if source == 1 and target == 0:
            wanted[0] += asked(message)
        return False

    council.cut = count
    publish(council)
    began_s = council.now_s - 0.5
    council.run(0.1)
    most = (
        piece_download.BYTES_BURST
        + (council.now_s - began_s) * piece_download.BYTES_PER_S
    )
    assert 0 < wanted[0] * CHUNK_BYTES <= most


@pytest.mark.parametrize("seed", range(4))
def test_bundle_arrives_though_pieces_are_lost(seed: int) -> None:
    council = opened(0, 2)
    weather = random.Random(seed)
    council.cut = lambda source, target, m: bool(pieces(m)) and weather.random() < 0.2
    publish(council)
    council.run(60.0)
    assert holders(council) == [True] * 4


def test_task_of_a_long_bundle_holds_up_no_height(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Longer than anybody waits for a proposal.
    monkeypatch.setattr(piece_download, "BYTES_PER_S", 5e5)
    council = opened(0)
    council.run(1.0)
    rounds = [member.state.rounds for member in council.members]
    publish(council)
    began = council.heights()
    boards = voters(30)[1:]
    for board in boards:
        body = REGISTER.pack(Register(board.key.public))
        council.operate(MessageKind.REGISTER, body, through=1 + council.counter % 3)
    council.run(10.0)
    assert holders(council) == [True] * 4
    assert [len(member.state.tasks) for member in council.members] == [1] * 4
    assert min(council.heights()) >= max(began) + len(boards)
    assert [member.state.rounds for member in council.members] == rounds


def test_bundle_arrives_though_its_giver_dies_in_the_middle() -> None:
    council = opened(0)
    publish(council)
    for _ in range(40):
        council.run(0.05)
        if holders(council)[1:] != [False] * 3:
            break
    first = council.members[0]
    others = [each for each in council.members[1:] if each.store.blob(DIGEST)]
    assert others
    first.up = False
    council.run(20.0)
    assert holders(council) == [True] * 4


def pulling_member() -> tuple[FourCoordinators, CoordinatorMember]:
    """Member 1 pulls from 0, and got the first piece only."""
    council = opened(0)
    council.cut = lambda source, target, m: pieces(m) not in ([], [0])
    publish(council)
    council.run(1.5)
    return council, council.members[1]


def piece(whole: bytes, key: Digest, index: int) -> bytes:
    given = PieceAnswer(
        FrameSubject.WHOLE, key, FrameSubject.WHOLE, chunk_at(whole, H(whole), index)
    )
    return gossip_messages.frame(FrameSubject.PIECE, GIVEN_PIECE.pack(given))


def pieces_held(member: CoordinatorMember) -> int:
    pulls = [one.pull for one in member.state.wanted.values() if one.pull]
    return sum(one is not None for pull in pulls for one in pull.assembly.pieces)


def test_piece_of_another_whole_is_refused_and_charged() -> None:
    council, member = pulling_member()
    liar = KEYS[0].identity
    held, before = pieces_held(member), member.state.peers[liar].lines[0].allowance
    member.effects.clear()
    member.step(
        PeerFrameArrived(liar, piece(bytes(BUNDLE[:-1]), DIGEST, 3)), council.now_s
    )
    assert held >= 1
    assert pieces_held(member) == held
    assert member.refusals() == ["COMMITMENT_MISMATCH"]
    assert member.state.peers[liar].lines[0].allowance < before


def test_piece_that_was_asked_for_costs_its_giver_nothing_and_others_do() -> None:
    council, member = pulling_member()
    giver = KEYS[0].identity
    costs = []
    for index in (5, 5):
        before = member.state.peers[giver].lines[0].allowance
        payload = piece(BUNDLE, DIGEST, index)
        member.step(PeerFrameArrived(giver, payload), council.now_s)
        costs.append(before - member.state.peers[giver].lines[0].allowance)
    assert costs[0] <= 0 < CHUNK_BYTES < costs[1]


def test_pieces_nobody_asked_for_are_not_kept() -> None:
    council, member = pulling_member()
    held = pieces_held(member)
    junk = bytes(3 * CHUNK_BYTES)
    member.step(
        PeerFrameArrived(KEYS[2].identity, piece(junk, H(junk), 0)), council.now_s
    )
    assert pieces_held(member) == held


def test_whole_as_chunks_unasked_is_refused_before_it_is_kept() -> None:
    council, member = pulling_member()
    member.effects.clear()
    long = encode([WIRE_VERSION, int(FrameSubject.WHOLE), bytes(5 << 20)])
    for payload in payloads(long):
        member.step(PeerFrameArrived(KEYS[2].identity, payload), council.now_s)
    assert set(member.refusals()) == {"TOO_LARGE"} or "MALFORMED" in member.refusals()
    assert member.state.peers[KEYS[2].identity].lines[0].assemblies == ()
    assert peer_messages.LONG_FRAME_BYTES_MAX < 5 << 20
    assert len(split(bytes(5 << 20))) == 80


def first_piece(key: Digest, count: int) -> bytes:
    """The first of so many pieces that are said to answer a wanted update."""
    whole = bytes(count * CHUNK_BYTES)
    given = PieceAnswer(
        FrameSubject.UPLOAD, key, FrameSubject.UPLOAD, chunk_at(whole, H(whole), 0)
    )
    return gossip_messages.frame(FrameSubject.PIECE, GIVEN_PIECE.pack(given))


def wants_of(member: CoordinatorMember, liar: DeviceId, now_s: float) -> list[Digest]:
    """Has a member ask a liar for updates that it named."""
    named = [Digest(H(b"hidden", n.to_bytes())) for n in range(4)]
    step = CoordinatorStep(member.settings, member.state, now_s, 0)
    request_scheduler.request_blob(
        step, request_scheduler.uploads(named), first=liar, source=liar
    )
    request_scheduler.send_due_requests(step)
    member.state, _ = step.result()
    return named


def test_giver_that_stops_in_the_middle_holds_up_nobody_else() -> None:
    council, liar = opened(0, 1, 2, 3), KEYS[3].identity
    publish(council)
    council.run(2.0)
    council.cut = lambda source, target, m: True
    member = council.members[1]
    for task in list(member.state.tasks.values()):
        wide = replace(task, spec=replace(task.spec, dimension=1 << 22))
        member.state = replace(member.state, tasks={task.number: wide})
    for key in wants_of(member, liar, council.now_s):
        member.step(PeerFrameArrived(liar, first_piece(key, 40)), council.now_s)
    pulls = [one.pull for one in member.state.wanted.values() if one.pull]
    held = sum(len(pull.open) for pull in pulls if pull.giver == liar)
    assert 0 < held <= piece_download.OPEN_EACH_MAX


def test_answer_longer_than_any_of_its_kind_is_not_begun() -> None:
    council, member = pulling_member()
    liar = KEYS[3].identity
    for key in wants_of(member, liar, council.now_s):
        member.step(PeerFrameArrived(liar, first_piece(key, 40)), council.now_s)
    assert all(
        one.pull is None for one in member.state.wanted.values() if liar in one.sources
    )
    assert "TOO_LARGE" in member.refusals()


@pytest.mark.parametrize(
    "subject", [0, 1, FrameSubject.REQUEST, FrameSubject.PIECE, 99, 255]
)
def test_pieces_of_what_is_no_answer_are_refused(subject: int) -> None:
    council, member = pulling_member()
    liar = KEYS[3].identity
    (key, *_) = wants_of(member, liar, council.now_s)
    whole = bytes(100)
    chunk = chunk_at(whole, H(whole), 0)
    given = GIVEN_PIECE.pack(PieceAnswer(FrameSubject.UPLOAD, key, subject, chunk))
    member.effects.clear()
    member.step(
        PeerFrameArrived(liar, gossip_messages.frame(FrameSubject.PIECE, given)),
        council.now_s,
    )
    assert member.refusals() == ["UNKNOWN_KIND"]
