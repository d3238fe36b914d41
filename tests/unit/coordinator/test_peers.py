"""Long frames of one peer that come in turns, to everybody and to us alone."""

import itertools

from coordinator.events import PeerArrived
from coordinator.gossip import Subject, payloads
from coordinator.ledger import wire
from coordinator.line import ASSEMBLIES_MAX
from tests.unit.coordinator.council import KEYS, Council

SPEAKER = KEYS[0].identity
LONG = 200_000


def _chunks(fill: int) -> list[bytes]:
    """Of a long message that is refused once it is whole: it holds no decision."""
    content = bytes([fill]) * LONG
    message = wire.MESSAGE.pack(wire.Message(wire.Topic.DECISION, content))
    return list(payloads(Subject.LEDGER, message))


def _in_turns(council: Council, frames: int) -> list[str]:
    member = council.members[1]
    member.effects.clear()
    streams = [_chunks(fill) for fill in range(frames)]
    for payload in itertools.chain.from_iterable(zip(*streams, strict=True)):
        member.step(PeerArrived(SPEAKER, payload), council.now_s)
        lines = member.state.peers[SPEAKER].lines.values()
        assert all(len(line.assemblies) <= ASSEMBLIES_MAX for line in lines)

    return member.refusals()


def test_two_long_frames_that_come_in_turns_are_both_heard(council: Council) -> None:
    assert _in_turns(council, 2) == ["MALFORMED", "MALFORMED"]


def test_more_long_frames_at_once_take_no_more_room(council: Council) -> None:
    assert _in_turns(council, 5) == []
