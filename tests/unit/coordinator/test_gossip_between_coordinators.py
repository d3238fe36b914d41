"""Gossip between four coordinators: asked for, made up for, counted, refused."""

from dataclasses import replace

import pytest

from starling.broker.link_events import MqttMessage
from starling.coordinator.availability import vector_exchange
from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.gossip_messages import FRAME, FrameSubject
from starling.coordinator.chain.node import node
from starling.coordinator.commit import transaction_submission
from starling.coordinator.downloads import request_scheduler
from starling.coordinator.handlers import chain_messages, peer_messages
from starling.coordinator.step.effects import (
    RecordRefusal,
    SendAnswer,
    SendFrame,
)
from starling.coordinator.step.events import (
    ClockTicked,
    PeerFrameArrived,
    UploadsQueued,
)
from starling.coordinator.wire import peer_quota
from starling.protocol.dataclass_replace import evolve
from starling.protocol.ids import DeviceId, H
from starling.protocol.wire.envelope import ENVELOPE, MessageKind, sign
from tests.unit.coordinator.fixtures.council_genesis import KEYS
from tests.unit.coordinator.fixtures.council_views import (
    TASK,
    step_of,
    subject_of,
)
from tests.unit.coordinator.fixtures.fleet_board import FleetBoard, voters
from tests.unit.coordinator.fixtures.four_coordinators import FourCoordinators
from tests.unit.coordinator.fixtures.peer_frames import request_frame, requested
from tests.unit.coordinator.fixtures.single_coordinator import MODEL
from tests.unit.coordinator.fixtures.single_validator import message_of


def test_want_rotates_over_the_others_and_ends(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    step = step_of(council, 0)
    request_scheduler.request_blob(
        step, request_scheduler.blob_keys([MODEL.digests().theta])
    )
    asked = []
    for _ in range(request_scheduler.ATTEMPTS_MAX + 1):
        step.now_s += request_scheduler.RETRY_S_MAX
        step.effects.clear()
        request_scheduler.send_due_requests(step)
        asked += [
            requested(e.content).asked for e in step.effects if isinstance(e, SendFrame)
        ]
    assert set(asked) == {key.identity for key in KEYS[1:]}
    assert len(asked) == request_scheduler.ATTEMPTS_MAX
    assert not step.state.wanted


def test_vector_is_asked_for_later_while_uploads_wait(
    council: FourCoordinators,
) -> None:
    member = council.members[0]
    step = step_of(council, 0)
    vector_exchange.request_later(step, [H(b"update")])
    start_s, asked_s = step.now_s, []
    for waits in (False, True):
        member.state = replace(step.result()[0], uploads_wait=False)
        member.step(UploadsQueued(waits), start_s)
        for tenth in range(40):
            effects = member.step(ClockTicked(), start_s + tenth / 10)
            if any(isinstance(each, SendFrame) for each in effects):
                asked_s.append(tenth / 10)
                break
    assert asked_s == [vector_exchange.UPLOAD_COMES_S, pytest.approx(1.2)]


def test_what_waits_is_told_again_by_whoever_told_of_it_first(
    council: FourCoordinators,
) -> None:
    step = step_of(council, 0)
    step.state = evolve(step.state, connected=True)
    chain_id = step.settings.gate.chain_id
    own, told = (
        sign(KEYS[index], chain_id, MessageKind.ATTEST, 1, b"something")
        for index in (0, 1)
    )
    transaction_submission.advance(step, node.TransactionSubmitted(own))
    message = gossip_messages.frame(FrameSubject.TRANSACTION, ENVELOPE.pack(told))
    transaction_submission.advance(step, message_of(message, KEYS[1].identity))
    step.effects.clear()
    for _ in range(2):
        step.now_s += chain_messages.REPEAT_EVERY_S
        chain_messages.repeat_waiting_transactions(step)
    again = [
        gossip_messages.FRAME.unpack(each.payload).content
        for each in step.effects
        if isinstance(each, node.SendGossip)
    ]
    assert step.state.ledger.mempool.size == 2
    assert again == [ENVELOPE.pack(own)]


def test_want_for_another_is_not_answered(council: FourCoordinators) -> None:
    frame = request_frame(KEYS[0], KEYS[2].identity, FrameSubject.WHOLE, b"x" * 32)
    event = PeerFrameArrived(KEYS[0].identity, frame)
    gives = [
        [e for e in member.step(event, council.now_s) if isinstance(e, SendAnswer)]
        for member in council.members
    ]
    assert [len(given) for given in gives] == [0, 0, 1, 0]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "MALFORMED"),
        (b"\xff" * 100, "MALFORMED"),
        (FRAME.pack(gossip_messages.Frame(2, 77, b"")), "UNKNOWN_KIND"),
        (gossip_messages.frame(FrameSubject.VOTE, b"x"), "MALFORMED"),
        (gossip_messages.frame(FrameSubject.CHUNK, b"x"), "MALFORMED"),
        (gossip_messages.frame(FrameSubject.REQUEST, b"x"), "MALFORMED"),
        (gossip_messages.frame(FrameSubject.UPLOAD, b"x"), "MALFORMED"),
        (gossip_messages.frame(FrameSubject.MODEL, b"x"), "MALFORMED"),
    ],
    ids=["empty", "noise", "subject", "vote", "chunk", "request", "upload", "model"],
)
def test_gossip_of_bad_bytes_is_counted(
    council: FourCoordinators, payload: bytes, reason: str
) -> None:
    member = council.members[1]
    before = member.state.ledger
    member.effects.clear()
    member.step(PeerFrameArrived(KEYS[0].identity, payload), council.now_s)
    assert member.refusals() == [reason]
    assert [e.peer for e in member.effects if isinstance(e, RecordRefusal)] == [
        KEYS[0].identity
    ]
    assert member.state.ledger is before


def test_gossip_of_a_stranger_is_refused(council: FourCoordinators) -> None:
    member = council.members[1]
    member.effects.clear()
    stranger = DeviceId(bytes(16))
    member.step(PeerFrameArrived(stranger, b"anything"), council.now_s)
    assert member.refusals() == ["NOT_AUTHORISED"]
    assert set(member.state.peers) <= {KEYS[at].identity for at in (0, 2, 3)}


def test_gossip_beyond_the_allowance_is_dropped(
    council: FourCoordinators, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        peer_quota, "BYTES_BURST", 1.5 * peer_messages.MESSAGE_COST_MIN_BYTES
    )
    member = council.members[1]
    member.effects.clear()
    council.now_s += 10.0
    frame = gossip_messages.frame(FrameSubject.WHOLE, bytes(80))
    for _ in range(2):
        member.step(PeerFrameArrived(KEYS[0].identity, frame), council.now_s)
    assert member.refusals() == ["BUSY"]


def test_gossip_unasked_whole_is_not_kept(council: FourCoordinators) -> None:
    member = council.members[1]
    frame = gossip_messages.frame(FrameSubject.WHOLE, b"unasked")
    effects = member.step(PeerFrameArrived(KEYS[0].identity, frame), council.now_s)
    assert effects == ()


def test_lost_gossip_of_a_transaction_is_made_up_for(council: FourCoordinators) -> None:
    lost = FrameSubject.TRANSACTION
    council.cut = lambda source, target, m: subject_of(m) == lost
    council.open(voters(1))
    council.cut = lambda source, target, m: False
    council.run(4.0)
    sizes = [m.state.ledger.mempool.size for m in council.members]
    assert sizes == [0, 0, 0, 0]
    assert council.heads() == [0, 0, 0, 0]


def test_council_what_nobody_gave_for_long_is_asked_for_again(
    council: FourCoordinators, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_scheduler, "ATTEMPTS_MAX", 3)
    council.cut = lambda source, target, m: subject_of(m) == FrameSubject.WHOLE
    council.open(voters(1))
    council.run(6.0)
    assert not council.members[1].state.wanted

    council.cut = lambda source, target, m: False
    council.run(25.0)

    theta = MODEL.digests().theta
    assert all(member.store.blob(theta) is not None for member in council.members)


def test_council_sought_version_that_others_let_go_is_given_up(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    council.crash(1)
    for board in boards[:2]:
        council.contribute(board, 0, to={0, 2, 3})
    council.run(8.0)
    first = council.members[0].store.model(TASK, 1)
    assert first is not None

    def let_go(source: int, target: int, message: MqttMessage) -> bool:
        frame = FRAME.unpack(message.payload)
        whole = frame.subject == FrameSubject.WHOLE
        return frame.subject == FrameSubject.UPLOAD or (
            whole and H(frame.content) in {first.theta, first.average}
        )

    council.cut = let_go
    council.restart(1)
    council.run(1.0)
    assert council.members[1].state.tasks[TASK].sought == 1
    for board in boards[:2]:
        council.contribute(board, 1, to={0, 2, 3})
    council.run(8.0)

    assert council.heads() == [2, 2, 2, 2]


def test_council_overtaken_version_is_given_up_for_the_newest(
    council: FourCoordinators, boards: list[FleetBoard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_scheduler, "ATTEMPTS_MAX", 3)
    council.crash(1)
    for board in boards[:2]:
        council.contribute(board, 0, to={0, 2, 3})
    council.run(8.0)
    council.cut = lambda source, target, m: subject_of(m) == FrameSubject.WHOLE
    council.restart(1)
    council.run(3.0)
    for board in boards[:2]:
        council.contribute(board, 1)
    council.run(8.0)
    assert council.heads() == [2, 0, 2, 2]

    council.cut = lambda source, target, m: False
    council.run(40.0)

    assert council.heads() == [2, 2, 2, 2]
