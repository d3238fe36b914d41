"""Long frames of one peer that come in turns, to everybody and to us alone."""

import itertools

from starling.coordinator.chain import gossip_messages
from starling.coordinator.step.events import PeerFrameArrived
from starling.coordinator.wire.frames import FrameSubject, payloads
from starling.coordinator.wire.peer_quota import ASSEMBLIES_MAX
from tests.unit.coordinator.fixtures.four_coordinators import KEYS, FourCoordinators

SPEAKER = KEYS[0].identity
LONG = 200_000


def _chunks(fill: int) -> list[bytes]:
    """Of a long message that is refused once it is whole: it holds no decision."""
    content = bytes([fill]) * LONG
    message = gossip_messages.MESSAGE.pack(
        gossip_messages.GossipMessage(gossip_messages.GossipTopic.DECISION, content)
    )
    return list(payloads(FrameSubject.LEDGER, message))


def _in_turns(council: FourCoordinators, frames: int) -> list[str]:
    member = council.members[1]
    member.effects.clear()
    streams = [_chunks(fill) for fill in range(frames)]
    for payload in itertools.chain.from_iterable(zip(*streams, strict=True)):
        member.step(PeerFrameArrived(SPEAKER, payload), council.now_s)
        lines = member.state.peers[SPEAKER].lines.values()
        assert all(len(line.assemblies) <= ASSEMBLIES_MAX for line in lines)

    return member.refusals()


def test_two_long_frames_that_come_in_turns_are_both_heard(
    council: FourCoordinators,
) -> None:
    assert _in_turns(council, 2) == ["MALFORMED", "MALFORMED"]


def test_more_long_frames_at_once_take_no_more_room(council: FourCoordinators) -> None:
    assert _in_turns(council, 5) == []
