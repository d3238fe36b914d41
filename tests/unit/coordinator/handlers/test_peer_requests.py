"""Who asks pays for the answer, in bytes, and nobody else does."""

import random
from dataclasses import replace

import pytest

from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.gossip_messages import (
    FRAME,
    WIRE_VERSION,
    Frame,
    FrameSubject,
)
from starling.coordinator.chain.node.node import SendGossip
from starling.coordinator.chain.state import transaction_codec
from starling.coordinator.downloads import request_scheduler
from starling.coordinator.handlers import peer_requests
from starling.coordinator.peers import directory
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.effects import RecordRefusal, SendAnswer, SendFrame
from starling.coordinator.step.events import PeerFrameArrived
from starling.coordinator.wire import peer_quota
from starling.coordinator.wire.frames import PeerRequest, payloads
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.errors import DecodeError
from starling.protocol.ids import ChainId, H
from starling.protocol.wire.chunks import CHUNK_BYTES
from starling.protocol.wire.envelope import MessageKind, sign
from starling.protocol.wire.message_bodies import REGISTER, Register
from tests.unit.coordinator.fixtures.coordinator_member import CoordinatorMember
from tests.unit.coordinator.fixtures.council_genesis import CHAIN_ID, KEYS, name
from tests.unit.coordinator.fixtures.fleet_board import FleetBoard
from tests.unit.coordinator.fixtures.four_coordinators import FourCoordinators
from tests.unit.coordinator.fixtures.peer_frames import request_frame
from tests.unit.coordinator.fixtures.single_coordinator import OPERATOR

STRANGER = SigningKey(b"q" * 32)
LIAR, HONEST = KEYS[3].identity, KEYS[2].identity


def want(
    subject: FrameSubject,
    *keys: bytes,
    pieces: tuple[int, ...] = (),
    of: int = 0,
    by: SigningKey = KEYS[3],
) -> bytes:
    return request_frame(by, KEYS[of].identity, subject, *keys, pieces=pieces)


def gives(member: CoordinatorMember) -> list[SendAnswer]:
    return [each for each in member.effects if isinstance(each, SendAnswer)]


def test_same_thing_is_given_once_in_a_while_however_often_it_is_asked_for(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    member = council.members[0]
    start_s = council.now_s + 60.0
    member.effects.clear()
    for tenth in range(100):
        ask = want(FrameSubject.WHOLE, H(b"bundle"))
        member.step(PeerFrameArrived(LIAR, ask), start_s + tenth / 10)
    assert len(gives(member)) == -(-10 // peer_requests.ANSWER_AGAIN_S)
    assert {each.to for each in gives(member)} == {LIAR}


@pytest.mark.parametrize("pieces", [(), (3, 4, 5)], ids=["begins", "goes-on"])
def test_flood_of_requests_is_answered_as_far_as_its_allowance_goes(
    council: FourCoordinators, boards: list[FleetBoard], pieces: tuple[int, ...]
) -> None:
    member = council.members[0]
    start_s, seconds = council.now_s + 60.0, 3
    member.effects.clear()
    honest = 0
    for number in range(1000 * seconds):
        now_s = start_s + number / 1000
        key = H(number.to_bytes(4))
        member.step(
            PeerFrameArrived(LIAR, want(FrameSubject.WHOLE, key, pieces=pieces)), now_s
        )
        if number % 100 == 0:
            ask = want(FrameSubject.WHOLE, key, pieces=(1, 2), by=KEYS[2])
            member.step(PeerFrameArrived(HONEST, ask), now_s)
            honest += 2
    given = dict.fromkeys((LIAR, HONEST), 0)
    for each in gives(member):
        given[each.to] += max(1, len(each.pieces))
    most = peer_quota.ANSWERS_BURST + seconds * peer_quota.ANSWERS_PER_S
    assert 0 < given[LIAR] * CHUNK_BYTES <= most
    assert given[HONEST] == honest
    assert member.state.peers[LIAR].refused > 1000
    assert member.state.peers[HONEST].refused == 0
    assert len(member.state.peers[LIAR].quota.answered) <= peer_quota.ASKS_BURST
    assert member.refusals().count("BUSY") > 1000


def test_requests_of_a_key_s_flood_leave_the_publisher_s_queue_small(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    member, blobs = council.members[0], []
    with member.store.transaction():
        for number in range(40):
            whole = random.Random(number).randbytes(20 * CHUNK_BYTES)
            blobs.append(member.store.put_blob(whole))
    member.sent.clear()
    for digest in blobs:
        for first in range(0, 20, 10):
            ask = want(
                FrameSubject.WHOLE, digest, pieces=tuple(range(first, first + 10))
            )
            member.step(PeerFrameArrived(LIAR, ask), council.now_s)
    held = sum(len(message.payload) for message in member.sent)
    assert held <= 512 << 10
    topics = {message.topic for message in member.sent if "/g/" in message.topic}
    assert {topic.split("/")[-1] for topic in topics} <= {name(3), "say"}


def test_answer_reaches_nobody_but_who_asked(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    heard: list[tuple[int, int]] = []

    def note(source: int, target: int, message: object) -> bool:
        heard.append((source, target))
        return False

    council.cut = note
    ask = want(FrameSubject.WHOLE, H(b"bundle"))
    council.members[0].step(PeerFrameArrived(LIAR, ask), council.now_s)
    council.settle()
    assert heard == [(0, 3)]


def test_asked_for_by_somebody_else_is_not_answered(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    member = council.members[0]
    member.effects.clear()
    ask = want(FrameSubject.WHOLE, H(b"bundle"), of=1)
    member.step(PeerFrameArrived(LIAR, ask), council.now_s)
    assert not gives(member)


def test_who_may_have_no_content_key_pays_for_asking(
    council: FourCoordinators, boards: list[FleetBoard], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As of one that only learns, or was a coordinator once.
    monkeypatch.setattr(directory, "sealing_key", lambda ledger, who: None)
    member, start_s = council.members[0], council.now_s + 60.0
    member.effects.clear()
    for number in range(300):
        ask = want(FrameSubject.KEY, H(number.to_bytes(4)))
        member.step(PeerFrameArrived(LIAR, ask), start_s + number / 1000)
    refused = member.refusals()
    most = peer_quota.ASKS_BURST / peer_requests.ASKS_OF_KEY
    assert most - 1 <= refused.count("NOT_AUTHORISED") <= most + 10
    assert refused.count("BUSY") == 300 - refused.count("NOT_AUTHORISED")


def status_lacking_all(member: CoordinatorMember, counter: int) -> bytes:
    key, ledger = KEYS[3], member.state.ledger
    tip, height = ledger.tip.parent(), ledger.consensus.height
    bare = gossip_messages.ValidatorStatus(
        key.public, counter, height, tip, 0, (), b"", (), bytes(64)
    )
    signature = key.sign(bare.signed_bytes(CHAIN_ID))
    content = gossip_messages.STATUS.pack(replace(bare, signature=signature))
    return gossip_messages.frame(FrameSubject.STATUS, content)


def test_what_a_status_makes_us_repeat_is_paid_by_who_brings_it(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    council.cut = lambda source, target, message: True
    member = council.members[0]
    # It proposes or votes, and holds that of its height which the liar lacks.
    council.operate(MessageKind.REGISTER, REGISTER.pack(Register(STRANGER.public)), 0)
    council.run(10.0)
    assert member.state.ledger.consensus.vote_set.rounds()
    counter, left = 1 << 40, peer_quota.ANSWERS_BURST

    def repeated(seconds: int) -> int:
        nonlocal counter, left
        member.effects.clear()
        for _ in range(seconds):
            counter, council.now_s = counter + 1, council.now_s + 1.0
            payload = status_lacking_all(member, counter)
            member.step(PeerFrameArrived(LIAR, payload), council.now_s)
            left = min(left, member.state.peers[LIAR].quota.answers)
        asked = [e for e in member.effects if isinstance(e, SendGossip) and e.asked_by]
        assert {each.asked_by for each in asked} <= {KEYS[3].public}
        return len(asked)

    assert repeated(12) > 0
    assert left < peer_quota.ANSWERS_BURST
    before = member.state.peers[LIAR].refused
    broke = replace(member.state.peers[LIAR].quota, answers=-1e9)
    peer = replace(member.state.peers[LIAR], quota=broke)
    member.state = replace(member.state, peers={**member.state.peers, LIAR: peer})
    assert repeated(12) == 0
    assert member.state.peers[LIAR].refused > before
    # Its own votes and statuses nobody pays for.
    assert [e for e in member.effects if isinstance(e, SendGossip)]


@pytest.mark.parametrize(
    ("keys", "pieces"),
    [((b"a", b"a"), ()), ((b"a",), (1, 1)), ((b"a", b"b"), (1,))],
    ids=["key-twice", "piece-twice", "pieces-of-two"],
)
def test_request_of_the_same_thing_twice_is_malformed(
    keys: tuple[bytes, ...], pieces: tuple[int, ...]
) -> None:
    with pytest.raises(DecodeError):
        PeerRequest(LIAR, FrameSubject.WHOLE, keys, pieces)


def test_flood_of_unasked_bytes_is_dropped_before_decoding_and_named(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    member = council.members[0]
    frame = gossip_messages.frame(FrameSubject.WHOLE, bytes(80_000))
    member.effects.clear()
    sent = int(peer_quota.BYTES_BURST / 80_000) + 50
    for _ in range(sent):
        member.step(PeerFrameArrived(LIAR, frame), council.now_s)
    refused = member.state.peers[LIAR].refused
    assert refused >= 50
    assert member.refusals().count("BUSY") == refused
    assert member.state.peers[HONEST].refused == 0


@pytest.mark.parametrize("frame", ["unasked", "requests"])
def test_who_writes_under_another_s_name_at_its_own_broker_uses_up_nothing_of_his(
    council: FourCoordinators, boards: list[FleetBoard], frame: str
) -> None:
    member, broker = council.members[0], 2
    for number in range(8000):
        key = H(number.to_bytes(4))
        forged = gossip_messages.frame(FrameSubject.WHOLE, bytes(10))
        if frame == "requests":
            forged = want(FrameSubject.WHOLE, key)
        member.step(PeerFrameArrived(HONEST, forged, broker), council.now_s)
    refused = member.state.peers[HONEST].refused
    assert refused > 0

    member.effects.clear()
    asked = want(FrameSubject.WHOLE, H(b"bundle"), by=KEYS[2])
    member.step(PeerFrameArrived(HONEST, asked), council.now_s)
    assert [(each.to, each.key) for each in gives(member)] == [(HONEST, H(b"bundle"))]
    assert member.state.peers[HONEST].refused == refused


def test_who_writes_under_another_s_name_at_its_own_broker_breaks_nothing_off(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    member = council.members[0]
    message = FRAME.pack(Frame(WIRE_VERSION, 99, bytes(200_000)))
    forged = next(payloads(bytes(300_000)))
    member.effects.clear()
    for payload in payloads(message):
        member.step(PeerFrameArrived(HONEST, forged, 1), council.now_s)
        member.step(PeerFrameArrived(HONEST, payload), council.now_s)
    # It came whole: what is wrong with it is its kind.
    assert member.refusals() == ["UNKNOWN_KIND"]
    assert member.state.peers[HONEST].lines[0].assemblies == ()
    assert member.state.peers[HONEST].lines[1].assemblies


def test_request_in_another_s_name_is_not_answered_and_costs_him_nothing(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    member = council.members[0]
    before = member.state.peers[HONEST]
    for broker in (0, 1):
        member.effects.clear()
        for number in range(10):
            ask = want(FrameSubject.WHOLE, H(number.to_bytes(4)))
            member.step(PeerFrameArrived(HONEST, ask, broker), council.now_s + 60.0)
        assert not gives(member)
        assert member.refusals() == ["NOT_AUTHORISED"] * 10
    after = member.state.peers[HONEST]
    assert (after.quota, after.requests) == (before.quota, before.requests)


def damaged(frame: bytes) -> bytes:
    """The frame with another signature, which is what it ends with."""
    return frame[:-1] + bytes([frame[-1] ^ 1])


def test_request_that_nobody_signed_is_not_answered(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    member = council.members[0]
    before = member.state.peers[LIAR]
    elsewhere = ChainId(H(b"another chain"))
    for ask in (
        damaged(want(FrameSubject.WHOLE, H(b"bundle"))),
        request_frame(
            KEYS[3], KEYS[0].identity, FrameSubject.WHOLE, b"a", chain_id=elsewhere
        ),
    ):
        member.effects.clear()
        member.step(PeerFrameArrived(LIAR, ask), council.now_s + 60.0)
        assert not gives(member)
        assert member.refusals() == ["BAD_SIGNATURE"]
    after = member.state.peers[LIAR]
    assert (after.quota, after.requests) == (before.quota, before.requests)


def test_request_that_somebody_repeats_is_answered_once(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    member, start_s = council.members[0], council.now_s + 60.0
    member.effects.clear()
    old = [want(FrameSubject.WHOLE, H(bytes([n])), by=KEYS[2]) for n in range(3)]
    for ask in old:
        member.step(PeerFrameArrived(HONEST, ask), start_s)
    assert len(gives(member)) == 3
    quota = member.state.peers[HONEST].quota
    member.effects.clear()
    seconds = 30
    for number in range(10 * seconds):
        ask, broker = old[number % 3], number % 4
        now_s = start_s + 60.0 + number / 10
        member.step(PeerFrameArrived(HONEST, ask, broker), now_s)
    assert not gives(member)
    after = member.state.peers[HONEST].quota
    assert (after.asks, after.answers) == (quota.asks, quota.answers)
    # Whose it is may be an older copy: it is told, now and then, from where to count.
    told = [each for each in member.effects if isinstance(each, SendFrame)]
    assert {each.to for each in told} == {HONEST}
    assert 0 < len(told) <= seconds / peer_requests.ANSWER_AGAIN_S + 1


def test_older_copy_asks_on_above_what_others_heard_of_it(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    giver, late = council.members[0], council.members[2]
    ahead = 1 << 60
    ask = want(FrameSubject.WHOLE, H(b"bundle"), by=KEYS[2])
    again = request_frame(
        KEYS[2], KEYS[0].identity, FrameSubject.WHOLE, b"a", counter=ahead
    )
    giver.step(PeerFrameArrived(HONEST, again), council.now_s)
    giver.effects.clear()
    giver.step(PeerFrameArrived(HONEST, ask), council.now_s)
    assert not gives(giver)
    council.settle()
    assert late.state.counter > ahead
    step = CoordinatorStep(late.settings, late.state, council.now_s, 0)
    key = request_scheduler.request_key(FrameSubject.WHOLE, H(b"bundle"))
    request_scheduler.request_blob(step, [key], first=KEYS[0].identity)
    request_scheduler.send_due_requests(step)
    late.state, effects = step.result()
    late.carry_out(effects)
    council.settle()
    assert [(each.to, each.key) for each in gives(giver)] == [(HONEST, H(b"bundle"))]


def test_what_is_forged_at_another_broker_is_blamed_on_nobody(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    member = council.members[0]
    named = {}
    for broker in (0, 1):
        member.effects.clear()
        member.step(PeerFrameArrived(HONEST, b"junk", broker), council.now_s + 60.0)
        (found,) = (each for each in member.effects if isinstance(each, RecordRefusal))
        named[broker] = found.peer
    assert named == {0: HONEST, 1: None}


def test_junk_at_another_broker_leaves_a_peers_share_of_what_waits_alone(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    member = council.members[0]
    register = sign(
        OPERATOR,
        CHAIN_ID,
        MessageKind.REGISTER,
        77,
        REGISTER.pack(Register(STRANGER.public)),
    )
    message = gossip_messages.frame(
        FrameSubject.TRANSACTION, transaction_codec.pack(register)
    )
    for payload in payloads(message):
        member.step(PeerFrameArrived(HONEST, payload, 1), council.now_s)
    shares = member.state.ledger.mempool.shares
    assert HONEST not in shares
    assert [share.count for share in shares.values()] == [1]
