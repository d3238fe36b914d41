"""Vectors that do not open for everybody: keys are passed, and boards convicted."""

from dataclasses import replace

import pytest

from starling.coordinator.availability import vector_exchange
from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.gossip_messages import FRAME, FrameSubject
from starling.coordinator.chain.state import board_records
from starling.coordinator.downloads import request_scheduler
from starling.coordinator.handlers import peer_requests
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.effects import RecordRefusal, SendContentKey, StoreModel
from starling.coordinator.step.events import PeerFrameArrived
from starling.coordinator.step.state import PendingRequest
from starling.coordinator.wire import peer_quota
from starling.coordinator.wire.frames import (
    GIVEN_KEY,
    GIVEN_UPLOAD,
    KEYS_PER_REQUEST_MAX,
    ContentKeyAnswer,
    UploadAnswer,
    payloads,
)
from starling.protocol.chain.evidence import Offence
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.crypto.sealed_blob import SEALED, pass_key
from starling.protocol.ids import Digest, H, TaskId, Version
from starling.protocol.wire.envelope import ENVELOPE, Envelope, MessageKind
from starling.protocol.wire.message_bodies import CONTRIBUTION, LEASE, Upload
from tests.unit.coordinator.fixtures.coordinator_member import CoordinatorMember
from tests.unit.coordinator.fixtures.council_genesis import CHAIN_ID, KEYS, OPENING
from tests.unit.coordinator.fixtures.fleet_board import FleetBoard
from tests.unit.coordinator.fixtures.four_coordinators import FourCoordinators
from tests.unit.coordinator.fixtures.peer_frames import request_frame

TASK = TaskId(0)
ENTROPY = bytes(range(32))


def taken(
    council: FourCoordinators, board: FleetBoard, base: int = 0
) -> list[Digest | None]:
    trees = [member.state.ledger.tree for member in council.members]
    return [board_records.update_of(tree, TASK, board.device, base) for tree in trees]


def offences(council: FourCoordinators, board: FleetBoard) -> list[int | None]:
    trees = [member.state.ledger.tree for member in council.members]
    faults = [board_records.fault(tree, board.key.public) for tree in trees]
    return [None if fault is None else fault.offence for fault in faults]


def computed(member: CoordinatorMember, version: int) -> bool:
    """Whether a coordinator made a version itself, since its last start."""
    return any(
        isinstance(effect, StoreModel) and effect.version == version
        for effect in member.effects
    )


def spoilt(
    council: FourCoordinators, board: FleetBoard, closed: set[int], base: int = 0
) -> Upload:
    """An upload whose boxes for some coordinators hold nothing."""
    (lease, *_) = council.check_in(board, base)
    return board.upload(lease, closed=closed)


@pytest.mark.parametrize("closed", [{3}, {1, 2, 3}], ids=["one", "all-but-one"])
def test_box_that_opens_for_some_only_costs_nothing_and_convicts(
    council: FourCoordinators, boards: list[FleetBoard], closed: set[int]
) -> None:
    council.send(boards[0], spoilt(council, boards[0], closed))
    council.contribute(boards[1], 0)
    council.run(6.0)

    assert council.heads() == [1, 1, 1, 1]
    assert all(taken(council, boards[0]))
    assert offences(council, boards[0]) == [Offence.MISSEALED] * 4
    assert offences(council, boards[1]) == [None] * 4
    assert [computed(m, 1) for m in council.members] == [True] * 4


def test_box_that_was_never_there_is_passed_and_convicts_nobody(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    # As for a coordinator that joined after the board sealed.
    (lease,) = council.check_in(boards[0], 0)
    council.send(boards[0], boards[0].upload(lease, recipients=(0, 1, 2)))
    council.contribute(boards[1], 0)
    council.run(6.0)

    assert council.heads() == [1, 1, 1, 1]
    assert offences(council, boards[0]) == [None] * 4
    assert computed(council.members[3], 1)


def test_blob_that_opens_for_nobody_stalls_nobody(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    upload = spoilt(council, boards[0], {0, 1, 2, 3})
    council.send(boards[0], upload)
    announce(council, 3, upload.update)
    give(council, 3, upload)
    for board in boards[1:3]:
        council.contribute(board, 0)
    council.run(6.0)

    assert council.heads() == [1, 1, 1, 1]
    assert not any(taken(council, boards[0]))
    assert not any(m.store.upload(identity(upload)) for m in council.members)


def test_update_whose_vector_nobody_gives_stalls_nobody(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    # A board and one coordinator together; no honest one ever sees the vector.
    (lease,) = council.check_in(boards[0], 0)
    hidden = boards[0].upload(lease)
    announce(council, 3, hidden.update)
    for board in boards[1:3]:
        council.contribute(board, 0)
    council.run(6.0)

    assert council.heads() == [1, 1, 1, 1]
    assert not any(taken(council, boards[0]))


def test_restarted_coordinator_without_whom_there_is_no_quorum_gets_the_key_again(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    # It keeps the vector, but what opens it was in memory: the job shows that it lacks.
    council.send(boards[0], spoilt(council, boards[0], {3}))
    council.run(3.0)
    assert all(taken(council, boards[0]))
    council.crash(3)
    council.restart(3)
    council.crash(1)
    assert not council.members[3].state.keys

    council.contribute(boards[1], 0, to={0, 2, 3})
    council.run(8.0)

    assert [council.heads()[i] for i in (0, 2, 3)] == [1, 1, 1]
    assert computed(council.members[3], 1)


def identity(upload: Upload) -> Digest:
    return upload.update.identity(CHAIN_ID)


def announce(council: FourCoordinators, source: int, update: Envelope) -> None:
    """What a coordinator says when it has admitted an update."""
    say(council, source, FrameSubject.TRANSACTION, ENVELOPE.pack(update))


def give(council: FourCoordinators, source: int, upload: Upload) -> None:
    """A vector, to those who ask for it."""
    council.run(vector_exchange.UPLOAD_COMES_S + 0.1)
    given = UploadAnswer(upload.update, upload.blob)
    say(council, source, FrameSubject.UPLOAD, GIVEN_UPLOAD.pack(given))


def say(
    council: FourCoordinators, source: int, subject: FrameSubject, content: bytes
) -> None:
    for payload in payloads(gossip_messages.frame(subject, content)):
        event = PeerFrameArrived(KEYS[source].identity, payload)
        council.tell_all(event, {0, 1, 2, 3} - {source})


def reasons(member: CoordinatorMember) -> list[str]:
    return [e.reason.name for e in member.effects if isinstance(e, RecordRefusal)]


def wants_key(council: FourCoordinators, board: FleetBoard) -> Upload:
    """Lets coordinator 0 ask for a content key that nobody gives it.

    Without coordinator 3 there is no quorum without it, so that it has to vote.
    """
    council.crash(3)
    council.cut = lambda source, target, m: (
        target == 0 and FRAME.unpack(m.payload).subject == FrameSubject.KEY
    )
    upload = spoilt(council, board, {0})
    council.send(board, upload)
    council.run(2.0)
    assert (
        request_scheduler.keys([identity(upload)])[0] in council.members[0].state.wanted
    )
    return upload


@pytest.mark.parametrize(
    ("content_key", "asker", "reason"),
    [
        (bytes(32), 0, "MALFORMED"),
        (ENTROPY, 2, "MALFORMED"),
    ],
    ids=["other-key", "boxed-for-another"],
)
def test_wrong_key_of_a_peer_is_counted_and_another_asked(
    council: FourCoordinators,
    boards: list[FleetBoard],
    content_key: bytes,
    asker: int,
    reason: str,
) -> None:
    upload = wants_key(council, boards[0])
    member = council.members[0]
    member.effects.clear()
    to = OPENING[asker].public
    box = pass_key(content_key, identity(upload), OPENING[1], to)
    given = GIVEN_KEY.pack(ContentKeyAnswer(upload.update, upload.blob, box))
    member.step(
        PeerFrameArrived(
            KEYS[1].identity, gossip_messages.frame(FrameSubject.KEY, given)
        ),
        council.now_s,
    )

    assert reasons(member) == [reason]
    assert identity(upload) not in member.state.keys

    council.cut = lambda source, target, m: source == 1
    council.run(5.0)
    assert identity(upload) in member.state.keys


def test_key_of_another_blob_is_refused(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    upload = wants_key(council, boards[0])
    member = council.members[0]
    member.effects.clear()
    sealed = SEALED.unpack(upload.blob)
    other = SEALED.pack(replace(sealed, boxes=sealed.boxes[1:]))
    box = pass_key(ENTROPY, identity(upload), OPENING[1], OPENING[0].public)
    given = GIVEN_KEY.pack(ContentKeyAnswer(upload.update, other, box))

    member.step(
        PeerFrameArrived(
            KEYS[1].identity, gossip_messages.frame(FrameSubject.KEY, given)
        ),
        council.now_s,
    )

    assert reasons(member) == ["COMMITMENT_MISMATCH"]


def test_key_that_nobody_asked_for_changes_nothing(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    (lease,) = council.check_in(boards[0], 0)
    upload = boards[0].upload(lease)
    box = pass_key(ENTROPY, identity(upload), OPENING[1], OPENING[0].public)
    given = GIVEN_KEY.pack(ContentKeyAnswer(upload.update, upload.blob, box))
    member = council.members[0]

    effects = member.step(
        PeerFrameArrived(
            KEYS[1].identity, gossip_messages.frame(FrameSubject.KEY, given)
        ),
        council.now_s,
    )

    assert effects == ()
    assert not member.state.keys


def test_flood_of_requests_for_keys_is_limited(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    member = council.members[0]
    council.now_s += 60.0
    keys = tuple(H(bytes([n])) for n in range(KEYS_PER_REQUEST_MAX))
    member.effects.clear()
    for _ in range(100):
        asked = request_frame(KEYS[1], KEYS[0].identity, FrameSubject.KEY, *keys)
        member.step(PeerFrameArrived(KEYS[1].identity, asked), council.now_s)

    given = [e for e in member.effects if isinstance(e, SendContentKey)]
    assert 0 < len(given) <= peer_quota.ASKS_BURST / peer_requests.ASKS_OF_KEY
    assert "BUSY" in reasons(member)


@pytest.mark.parametrize(
    ("signer", "base"),
    [(SigningKey(b"x" * 32), 0), (None, 9)],
    ids=["stranger", "future"],
)
def test_announcement_of_what_could_not_count_is_not_asked_for(
    council: FourCoordinators,
    boards: list[FleetBoard],
    signer: SigningKey | None,
    base: int,
) -> None:
    (lease,) = council.check_in(boards[0], 0)
    body = CONTRIBUTION.unpack(boards[0].upload(lease).update.body)
    voter = boards[0] if signer is None else FleetBoard(signer)
    changed = CONTRIBUTION.pack(replace(body, version=base))  # type: ignore[arg-type]  # a plain number
    announce(council, 3, voter.sign(MessageKind.UPDATE, changed))

    assert [len(m.state.wanted) for m in council.members] == [0, 0, 0, 0]


def test_announcements_of_one_displace_its_own_and_are_counted(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    (lease,) = council.check_in(boards[0], 0)
    update = boards[0].upload(lease).update
    council.cut = lambda source, target, message: True
    liar, honest, most = KEYS[3].identity, KEYS[2].identity, 2048
    named = [
        request_scheduler.uploads([H(number.to_bytes(4))])[0] for number in range(most)
    ]
    others = request_scheduler.blob_keys([H(b"a model")]) + request_scheduler.uploads(
        [H(b"its")]
    )
    member = council.members[0]
    asked = {
        key: PendingRequest(council.now_s + 60.0, sources=frozenset({liar}))
        for key in named
    }
    asked[others[0]] = PendingRequest(council.now_s + 60.0)
    asked[others[1]] = PendingRequest(council.now_s + 60.0, sources=frozenset({honest}))
    asked[named[0]] = replace(asked[named[0]], sources=frozenset({liar, honest}))
    member.state = replace(member.state, wanted=asked)
    announce(council, 3, update)

    wanted = member.state.wanted
    (fresh,) = request_scheduler.uploads([update.identity(CHAIN_ID)])
    assert wanted.keys() == {*named, *others, fresh}
    assert wanted[named[0]].sources == {honest}
    assert member.state.peers[liar].wants_dropped == 1
    assert member.state.peers[honest].wants_dropped == 0


@pytest.mark.parametrize(
    ("sender", "version", "reason"),
    [("stranger", Version(0), "NOT_ENROLLED"), ("board", Version(50), "STALE")],
)
def test_vector_of_what_enters_no_block_is_not_kept(
    council: FourCoordinators,
    boards: list[FleetBoard],
    sender: str,
    version: Version,
    reason: str,
) -> None:
    # A proposal may name any update: who gives it has signed it with whatever key.
    member, liar = council.members[0], KEYS[3].identity
    (lease,) = council.check_in(boards[0], 0)
    granted = replace(LEASE.unpack(lease.body), version=version)
    lease = replace(lease, body=LEASE.pack(granted))
    voter = boards[0] if sender == "board" else FleetBoard(SigningKey(b"\x07" * 32))
    upload = voter.upload(lease)
    step = CoordinatorStep(member.settings, member.state, council.now_s, 0)
    request_scheduler.request_blob(
        step, request_scheduler.uploads([identity(upload)]), source=liar
    )
    member.state, _ = step.result()
    member.effects.clear()

    given = GIVEN_UPLOAD.pack(UploadAnswer(upload.update, upload.blob))
    for payload in payloads(gossip_messages.frame(FrameSubject.UPLOAD, given)):
        member.step(PeerFrameArrived(liar, payload), council.now_s)

    assert reasons(member) == [reason]
    assert not member.state.held
    assert not member.state.wanted
    assert member.store.upload(identity(upload)) is None
