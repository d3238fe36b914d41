"""Four coordinators of which three signed two blocks: all stop, and name them."""

import pytest

from starling.coordinator.chain import gossip_messages
from starling.coordinator.chain.gossip_messages import (
    FORK,
    ForkProof,
    FrameSubject,
)
from starling.coordinator.chain.node.node import StoreFork
from starling.coordinator.health.consensus_status import consensus
from starling.coordinator.step.effects import LogLine
from starling.coordinator.step.events import PeerFrameArrived
from starling.protocol.chain.blocks import Certificate, VoteType, vote_bytes
from starling.protocol.ids import BlockHash, H
from tests.unit.coordinator.fixtures.council_genesis import CHAIN_ID, KEYS
from tests.unit.coordinator.fixtures.fleet_board import FleetBoard, voters
from tests.unit.coordinator.fixtures.four_coordinators import FourCoordinators

LIARS = (0, 2, 3)


@pytest.fixture
def boards(council: FourCoordinators) -> list[FleetBoard]:
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
    council: FourCoordinators, boards: list[FleetBoard]
) -> None:
    first = council.members[1]
    ours = first.state.ledger.recent[-1].certificate
    proof = ForkProof(ours, other_than(ours), None, ())
    frame = gossip_messages.frame(FrameSubject.FORK, FORK.pack(proof))
    first.step(PeerFrameArrived(KEYS[0].identity, frame), council.now_s)
    council.run(3.0)
    heights = council.heights()
    both = sorted(set(ours.members()) & set(LIARS))
    names = [f"member {index}" for index in both]
    for member in council.members:
        assert [one for one in member.effects if isinstance(one, StoreFork)]
        said = [one.text for one in member.effects if isinstance(one, LogLine)]
        assert any(", ".join(names) in text for text in said)
        shown = consensus(member.settings, member.state, council.now_s)
        assert shown["fork"]["liars"] == names
        assert "stands still" in shown["silence"]
    for board in boards:
        council.contribute(board, 0)
    council.run(3.0)
    assert council.heights() == heights
