"""Four coordinators of which three signed two blocks: all stop, and name them."""

import pytest

from coordinator.effects import Report
from coordinator.events import PeerArrived
from coordinator.gossip import FRAME, Frame, Subject
from coordinator.ledger import wire
from coordinator.ledger.node import StoreFork
from coordinator.ledger.wire import FORK, Fork
from coordinator.rim.status import consensus
from protocol.chain import Certificate, VoteType, vote_bytes
from protocol.ids import BlockHash, H
from tests.unit.coordinator.council import CHAIN_ID, KEYS, Council, Voter, voters

LIARS = (0, 2, 3)


@pytest.fixture
def boards(council: Council) -> list[Voter]:
    made = voters(2)
    council.open(made)
    council.run(2.0)
    return made


def other_than(ours: Certificate) -> Certificate:
    """What the liars signed for another block of that height and round."""
    block_id = BlockHash(H(b"other"))
    kind, place = VoteType.PRECOMMIT, (ours.height, ours.round)
    signed = vote_bytes(CHAIN_ID, kind, *place, block_id, 0)
    signatures = tuple(KEYS[liar].sign(signed) for liar in LIARS)
    bits = sum(1 << liar for liar in LIARS)
    return Certificate(*place, block_id, bits, signatures, (0, 0, 0))


def test_council_that_forked_stands_still_and_says_who_lied(
    council: Council, boards: list[Voter]
) -> None:
    first = council.members[1]
    ours = first.state.ledger.recent[-1].certificate
    proof = Fork(ours, other_than(ours), None, ())
    message = wire.Message(wire.Topic.FORK, FORK.pack(proof))
    frame = FRAME.pack(Frame(Subject.LEDGER, wire.MESSAGE.pack(message)))
    first.step(PeerArrived(KEYS[0].identity, frame), council.now_s)
    council.run(3.0)
    heights = council.heights()
    both = sorted(set(ours.members()) & set(LIARS))
    names = [f"member {index}" for index in both]
    for member in council.members:
        assert [one for one in member.effects if isinstance(one, StoreFork)]
        said = [one.text for one in member.effects if isinstance(one, Report)]
        assert any(", ".join(names) in text for text in said)
        shown = consensus(member.settings, member.state, council.now_s)
        assert shown["fork"]["liars"] == names
        assert "stands still" in shown["silence"]
    for board in boards:
        council.contribute(board, 0)
    council.run(3.0)
    assert council.heights() == heights
