"""Who counts as alive: whoever says so itself, and just now."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from broker.events import Message
from coordinator import duty
from coordinator.events import PeerArrived
from coordinator.gossip import FRAME, WANT, Frame, Subject, Want
from coordinator.ledger import wire
from coordinator.state import Peer
from coordinator.turn import Turn
from protocol.envelope import Kind
from protocol.ids import BlockHash, H
from tests.unit.coordinator.council import (
    CHAIN_ID,
    KEYS,
    TICK_S,
    Council,
    Member,
    Voter,
    voters,
)

DEAD = 3
GONE_S = duty.SILENT_AFTER_STATUSES + 1.0


@pytest.fixture
def boards(council: Council) -> list[Voter]:
    made = voters(4)
    council.open(made)
    council.run(2.0)
    return made


def status(member: Member, index: int = DEAD, more: int = 1) -> bytes:
    """A status of somebody, above the latest that a member heard of it by `more`."""
    key = KEYS[index]
    heard = member.state.ledger.heard.get(key.public)
    counter = (0 if heard is None else heard.counter) + more
    tip, height = BlockHash(H(b"tip")), member.state.ledger.consensus.height
    bare = wire.Status(key.public, counter, height, tip, 0, (), b"", (), bytes(64))
    signature = key.sign(bare.signed_bytes(CHAIN_ID))
    content = wire.STATUS.pack(replace(bare, signature=signature))
    message = wire.MESSAGE.pack(wire.Message(wire.Topic.STATUS, content))
    return FRAME.pack(Frame(Subject.LEDGER, message))


def want() -> bytes:
    asked = Want(KEYS[0].identity, Subject.WHOLE, (H(b"bundle"),))
    return FRAME.pack(Frame(Subject.WANT, WANT.pack(asked)))


def peer(member: Member) -> Peer:
    return member.state.peers[KEYS[DEAD].identity]


def hear(
    council: Council, payload: bytes, *, by: int = DEAD, elsewhere: bool = False
) -> Member:
    """Member 0 hears something under somebody's name, a moment later."""
    member = council.members[0]
    council.now_s += TICK_S
    event = PeerArrived(KEYS[by].identity, payload, elsewhere)
    member.step(event, council.now_s)
    return member


def seen(council: Council) -> tuple[bool, bool]:
    """Whether what was heard last was a sign of life, and one at our broker."""
    known = peer(council.members[0])
    return known.heard_at_s == council.now_s, known.near_at_s == council.now_s


def record(council: Council) -> list[tuple[int, bytes]]:
    """Keeps all that the one that will die says, with whom it says it to."""
    said: list[tuple[int, bytes]] = []

    def keep(source: int, target: int, message: Message) -> bool:
        if source == DEAD:
            said.append((target, message.payload))
        return False

    council.cut = keep
    return said


def test_who_repeats_all_that_the_dead_said_does_not_keep_it_alive(
    council: Council, boards: list[Voter]
) -> None:
    said = record(council)
    for board in boards:
        council.contribute(board, 0)
    council.run(2.0)
    topics = {
        wire.MESSAGE.unpack(frame.content).topic
        for frame in (FRAME.unpack(payload) for _, payload in said)
        if frame.subject == Subject.LEDGER
    }
    assert {wire.Topic.STATUS, wire.Topic.VOTE} <= topics
    council.members[DEAD].up = False
    council.members[DEAD].sent.clear()
    end_s = council.now_s + GONE_S
    while council.now_s < end_s:
        council.run(0.5)
        for target, payload in (*said[-60:], (0, want())):
            event = PeerArrived(KEYS[DEAD].identity, payload)
            council.members[target].step(event, council.now_s)
        council.settle()

    for member in council.members[:DEAD]:
        turn = Turn(member.settings, member.state, council.now_s, 0)
        assert not duty.is_alive(turn, KEYS[DEAD].identity)
    version = council.heads()[0]
    for board in boards:
        council.contribute(board, version)
    council.down.clear()
    council.run(1.0)
    finals = [each for each, envelope in council.down if envelope.kind == Kind.FINAL]
    assert sorted(finals) == sorted(board.device for board in boards)


REPEATED: dict[str, Callable[[Member], bytes]] = {
    "request": lambda member: want(),
    "status of before": lambda member: status(member, more=0),
    "status long gone": lambda member: status(member, more=-1),
    "status of another": lambda member: status(member, index=1),
}


@pytest.mark.parametrize("make", REPEATED.values(), ids=REPEATED.keys())
def test_what_anybody_could_say_in_its_name_is_no_sign_of_life(
    council: Council, boards: list[Voter], make: Callable[[Member], bytes]
) -> None:
    del boards
    hear(council, make(council.members[0]))
    assert seen(council) == (False, False)


def test_status_is_a_sign_of_life_once(council: Council, boards: list[Voter]) -> None:
    del boards
    fresh = status(council.members[0])
    hear(council, fresh)
    assert seen(council) == (True, True)
    hear(council, fresh)
    assert seen(council) == (False, False)


def test_status_from_another_broker_counts_for_ours_when_it_comes_there(
    council: Council, boards: list[Voter]
) -> None:
    del boards
    fresh = status(council.members[0])
    hear(council, fresh, elsewhere=True)
    assert seen(council) == (True, False)
    hear(council, fresh, elsewhere=True)
    assert seen(council) == (False, False)
    hear(council, fresh)
    assert seen(council) == (True, True)
    hear(council, fresh)
    assert seen(council) == (False, False)


def test_status_that_others_passed_on_before_it_came_counts_still(
    council: Council, boards: list[Voter]
) -> None:
    del boards
    fresh = status(council.members[0])
    hear(council, fresh, by=1)
    assert seen(council) == (False, False)
    hear(council, fresh)
    assert seen(council) == (True, True)


def test_vote_that_is_counted_is_a_sign_of_life_once(
    council: Council, boards: list[Voter]
) -> None:
    votes: list[bytes] = []

    def withhold(source: int, target: int, message: Message) -> bool:
        """Nothing but proposals comes to member 0."""
        frame = FRAME.unpack(message.payload)
        if target != 0 or frame.subject != Subject.LEDGER:
            return target == 0
        topic = wire.MESSAGE.unpack(frame.content).topic
        if source == DEAD and topic == wire.Topic.VOTE:
            votes.append(message.payload)
        return topic != wire.Topic.PROPOSAL

    council.cut = withhold
    council.contribute(boards[0], 0)
    council.run(0.5)
    first = votes[0]

    hear(council, first, by=1, elsewhere=True)
    assert seen(council) == (False, False)
    hear(council, first)
    assert seen(council) == (False, False)
    (other, *_) = [vote for vote in votes if vote != first]
    hear(council, other, elsewhere=True)
    assert seen(council) == (True, False)
    hear(council, other)
    assert seen(council) == (False, False)
