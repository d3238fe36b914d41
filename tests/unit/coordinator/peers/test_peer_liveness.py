"""Who counts as alive: whoever says so itself, and just now."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from starling.broker.link_events import MqttMessage
from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.gossip_messages import FRAME, FrameSubject
from starling.coordinator.peers import responder_selection
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.events import PeerFrameArrived
from starling.coordinator.step.state import PeerState
from starling.protocol.ids import BlockHash, H
from starling.protocol.wire.envelope import MessageKind
from tests.unit.coordinator.fixtures.coordinator_member import CoordinatorMember
from tests.unit.coordinator.fixtures.council_genesis import CHAIN_ID, KEYS
from tests.unit.coordinator.fixtures.fleet_board import FleetBoard, voters
from tests.unit.coordinator.fixtures.four_coordinators import TICK_S, FourCoordinators
from tests.unit.coordinator.fixtures.peer_frames import request_frame

DEAD = 3
GONE_S = responder_selection.SILENT_AFTER_STATUSES + 1.0


@pytest.fixture
def boards(council: FourCoordinators) -> list[FleetBoard]:
    made = voters(4)
    council.open(made)
    council.run(2.0)
    return made


def status(member: CoordinatorMember, index: int = DEAD, more: int = 1) -> bytes:
    """A status of somebody, above the latest that a member heard of it by `more`."""
    key = KEYS[index]
    heard = member.state.ledger.heard.get(key.public)
    counter = (0 if heard is None else heard.counter) + more
    tip, height = BlockHash(H(b"tip")), member.state.ledger.consensus.height
    bare = gossip_messages.ValidatorStatus(
        key.public, counter, height, tip, 0, (), b"", (), bytes(64)
    )
    signature = key.sign(bare.signed_bytes(CHAIN_ID))
    content = gossip_messages.STATUS.pack(replace(bare, signature=signature))
    return gossip_messages.frame(FrameSubject.STATUS, content)


def want() -> bytes:
    return request_frame(KEYS[DEAD], KEYS[0].identity, FrameSubject.WHOLE, H(b"bundle"))


def peer(member: CoordinatorMember) -> PeerState:
    return member.state.peers[KEYS[DEAD].identity]


def receive(
    council: FourCoordinators,
    payload: bytes,
    *,
    by: int = DEAD,
    elsewhere: bool = False,
) -> CoordinatorMember:
    """Member 0 hears something under somebody's name, a moment later."""
    member = council.members[0]
    council.now_s += TICK_S
    event = PeerFrameArrived(KEYS[by].identity, payload, elsewhere)
    member.step(event, council.now_s)
    return member


def seen(council: FourCoordinators) -> tuple[bool, bool]:
    """Whether what was heard last was a sign of life, and one at our broker."""
    known = peer(council.members[0])
    return known.heard_at_s == council.now_s, known.near_at_s == council.now_s


def record(council: FourCoordinators) -> list[tuple[int, bytes]]:
    """Keeps all that the one that will die says, with whom it says it to."""
    said: list[tuple[int, bytes]] = []

    def keep(source: int, target: int, message: MqttMessage) -> bool:
        if source == DEAD:
            said.append((target, message.payload))
        return False

    council.cut = keep
    return said


def test_who_repeats_all_that_the_dead_said_does_not_keep_it_alive(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    said = record(council)
    for board in boards:
        council.contribute(board, 0)
    council.run(2.0)
    subjects = {FRAME.unpack(payload).subject for _, payload in said}
    assert {FrameSubject.STATUS, FrameSubject.VOTE} <= subjects
    council.members[DEAD].up = False
    council.members[DEAD].sent.clear()
    end_s = council.now_s + GONE_S
    while council.now_s < end_s:
        council.run(0.5)
        for target, payload in (*said[-60:], (0, want())):
            event = PeerFrameArrived(KEYS[DEAD].identity, payload)
            council.members[target].step(event, council.now_s)
        council.settle()

    for member in council.members[:DEAD]:
        step = CoordinatorStep(member.settings, member.state, council.now_s, 0)
        assert not responder_selection.is_alive(step, KEYS[DEAD].identity)
    version = council.heads()[0]
    for board in boards:
        council.contribute(board, version)
    council.down.clear()
    council.run(1.0)
    finals = [
        each for each, envelope in council.down if envelope.kind == MessageKind.FINAL
    ]
    assert sorted(finals) == sorted(board.device for board in boards)


REPEATED: dict[str, Callable[[CoordinatorMember], bytes]] = {
    "request": lambda member: want(),
    "status of before": lambda member: status(member, more=0),
    "status long gone": lambda member: status(member, more=-1),
    "status of another": lambda member: status(member, index=1),
}


@pytest.mark.parametrize("make", REPEATED.values(), ids=REPEATED.keys())
def test_what_anybody_could_say_in_its_name_is_no_sign_of_life(
    council: FourCoordinators,
    boards: list[FleetBoard],
    make: Callable[[CoordinatorMember], bytes],
) -> None:
    del boards
    receive(council, make(council.members[0]))
    assert seen(council) == (False, False)


def test_status_is_a_sign_of_life_once(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    del boards
    fresh = status(council.members[0])
    receive(council, fresh)
    assert seen(council) == (True, True)
    receive(council, fresh)
    assert seen(council) == (False, False)


def test_status_from_another_broker_counts_for_ours_when_it_comes_there(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    del boards
    fresh = status(council.members[0])
    receive(council, fresh, elsewhere=True)
    assert seen(council) == (True, False)
    receive(council, fresh, elsewhere=True)
    assert seen(council) == (False, False)
    receive(council, fresh)
    assert seen(council) == (True, True)
    receive(council, fresh)
    assert seen(council) == (False, False)


def test_status_that_others_passed_on_before_it_came_counts_still(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    del boards
    fresh = status(council.members[0])
    receive(council, fresh, by=1)
    assert seen(council) == (False, False)
    receive(council, fresh)
    assert seen(council) == (True, True)


def test_vote_that_is_counted_is_a_sign_of_life_once(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    votes: list[bytes] = []

    def withhold(source: int, target: int, message: MqttMessage) -> bool:
        """Nothing but proposals comes to member 0."""
        subject = FRAME.unpack(message.payload).subject
        if target != 0:
            return False
        if source == DEAD and subject == FrameSubject.VOTE:
            votes.append(message.payload)
        return subject != FrameSubject.PROPOSAL

    council.cut = withhold
    council.contribute(boards[0], 0)
    council.run(0.5)
    first = votes[0]

    receive(council, first, by=1, elsewhere=True)
    assert seen(council) == (False, False)
    receive(council, first)
    assert seen(council) == (False, False)
    (other, *_) = [vote for vote in votes if vote != first]
    receive(council, other, elsewhere=True)
    assert seen(council) == (True, False)
    receive(council, other)
    assert seen(council) == (False, False)


def test_malformed_vote_is_counted_once(
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    message = gossip_messages.frame(FrameSubject.VOTE, b"no vote")
    council.members[0].effects.clear()
    member = receive(council, message)
    assert member.refusals() == ["MALFORMED"]
