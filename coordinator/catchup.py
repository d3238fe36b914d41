"""Making up for many heights: one peer is asked for a range of blocks at a time.

Who is a height or two behind gets them from its peers' repair. Who is further behind
asks for ranges, of one coordinator that says to be ahead, then of the next one. Every
block is a decision, which its certificate proves; nobody is believed.
"""

from coordinator import wanting
from coordinator.gossip import GIVEN_BLOCKS, Subject, blocks_key, parse_blocks_key
from coordinator.ledger import node, wire
from coordinator.submission import advance
from coordinator.turn import Turn

BEHIND_MIN = 2
"""Heights that we must lack to ask for a range."""


def look(turn: Turn) -> None:
    """Asks for the next blocks if a coordinator says that it is far ahead of us."""
    height = turn.ledger.consensus.height
    ahead = max((peer.height for peer in turn.peers.values()), default=0) - height
    key = wanting.want_key(Subject.BLOCKS, blocks_key(height))
    past = [other for other in turn.wanted if _is_past(other, height)]
    if past:
        wanting.forget(turn, past)
    if ahead >= BEHIND_MIN:
        wanting.want(turn, [key])


def _is_past(key: bytes, height: int) -> bool:
    return key[0] == Subject.BLOCKS and parse_blocks_key(key[1:]) != height


def blocks_given(turn: Turn, content: bytes) -> None:
    """Takes a range that we asked for, and asks for the next one.

    A range that leads nowhere is asked again of the next coordinator.
    """
    given = GIVEN_BLOCKS.unpack(content)
    height = turn.ledger.consensus.height
    key = wanting.want_key(Subject.BLOCKS, blocks_key(given.first))
    if key not in turn.wanted or given.first != height:
        return
    for packed in given.decisions:
        decision = wire.MESSAGE.pack(wire.Message(wire.Topic.DECISION, packed))
        advance(turn, node.PeerMessage(decision))
        if turn.ledger.consensus.height == height:
            return
        height = turn.ledger.consensus.height
    look(turn)
