"""Long frames of one peer that come in turns, and votes that come too fast."""

import itertools
from dataclasses import replace

from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.gossip_messages import FrameSubject
from starling.coordinator.step.effects import RecordRefusal
from starling.coordinator.step.events import PeerFrameArrived
from starling.coordinator.wire import peer_quota
from starling.coordinator.wire.frames import payloads
from starling.coordinator.wire.peer_quota import ASSEMBLIES_MAX
from starling.protocol.chain.blocks import Vote
from starling.protocol.errors import Reason
from starling.protocol.ids import SIGNATURE_BYTES
from tests.unit.coordinator.fixtures.council_genesis import KEYS
from tests.unit.coordinator.fixtures.four_coordinators import FourCoordinators

SPEAKER = KEYS[0].identity
LONG = 200_000


def _chunks(fill: int) -> list[bytes]:
    """Of a long message that is refused once it is whole: it holds no decision."""
    content = bytes([fill]) * LONG
    message = gossip_messages.frame(FrameSubject.DECISION, content)
    return list(payloads(message))


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


def test_who_votes_too_often_is_not_heard_for_a_while(
    council: FourCoordinators,
) -> None:
    member, now_s = council.members[0], council.now_s + 60.0
    height = member.state.ledger.consensus.height
    refused, payload = 0, b""
    for number in range(int(peer_quota.SIGNATURES_BURST) + 10):
        junk = Vote(1, height, number, None, 0, 3, bytes(SIGNATURE_BYTES))
        (payload,) = payloads(gossip_messages.wrap_vote(junk))
        member.effects.clear()
        member.step(PeerFrameArrived(KEYS[3].identity, payload), now_s)
        (found,) = (each for each in member.effects if isinstance(each, RecordRefusal))
        refused += found.reason == Reason.BUSY
    assert refused == 10
    member.effects.clear()
    member.step(PeerFrameArrived(KEYS[3].identity, payload), now_s + 1.0)
    assert [
        each.reason for each in member.effects if isinstance(each, RecordRefusal)
    ] == [Reason.BAD_SIGNATURE]


def test_statuses_in_another_name_cost_who_says_them_what_votes_cost(
    council: FourCoordinators,
) -> None:
    council.run(2.0)
    member, now_s = council.members[0], council.now_s + 60.0
    said = member.state.ledger.heard[KEYS[1].public]
    member.effects.clear()
    payload = b""
    for number in range(int(peer_quota.SIGNATURES_BURST) + 10):
        forged = replace(said, counter=said.counter + 1 + number)
        payload = gossip_messages.wrap_status(forged)
        member.step(PeerFrameArrived(KEYS[3].identity, payload), now_s)
    refused = member.refusals()
    assert refused.count("BAD_SIGNATURE") == int(peer_quota.SIGNATURES_BURST)
    assert refused.count("BUSY") == 10
    # Whom they name is heard as ever.
    member.step(PeerFrameArrived(KEYS[1].identity, payload), now_s)
    assert member.refusals()[-1] == "BAD_SIGNATURE"
