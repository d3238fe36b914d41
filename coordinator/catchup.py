"""Making up for many heights: one peer is asked for a range of blocks at a time.

Who is a height or two behind gets them from its peers' repair. Who is further behind
asks for ranges, of one coordinator that says to be ahead, then of the next one. Every
block is a decision, which its certificate proves; nobody is believed.
"""

from coordinator import membership, restoring, wanting
from coordinator.gossip import GIVEN_BLOCKS, Subject, blocks_key, parse_blocks_key
from coordinator.ledger import node, wire
from coordinator.submission import advance
from coordinator.turn import Turn

BEHIND_MIN = 2
"""Heights that we must lack to ask for a range."""


def look(turn: Turn) -> None:
    """Asks for the next blocks if a coordinator says that it is far ahead of us."""
    if restoring.look(turn):
        return
    height = turn.ledger.consensus.height
    # Not a learner: nobody vouches for what it says.
    heights = [
        peer.height
        for who, peer in turn.peers.items()
        if membership.is_coordinator(turn.ledger, who)
    ]
    ahead = max(heights, default=0) - height
    key = wanting.want_key(Subject.BLOCKS, blocks_key(height))
    past = [other for other in turn.wanted if _is_past(other, height)]
    if past:
        wanting.forget(turn, past)
    if ahead >= BEHIND_MIN:
        wanting.want(turn, [key])


def _is_past(key: bytes, height: int) -> bool:
    return key[0] == Subject.BLOCKS and parse_blocks_key(key[1:]) != height


def given(turn: Turn, subject: Subject, content: bytes) -> None:
    """Takes an answer to what we asked for: blocks, or what there is instead of them.

    Raises:
      ProtocolError: If it is not what it says to be.
    """
    if subject is Subject.SNAPSHOT:
        restoring.snapshot_given(turn, content)
    elif subject is Subject.BUCKETS:
        restoring.buckets_given(turn, content)
    else:
        _blocks_given(turn, content)


def _say_if_pinned(turn: Turn, height: int) -> None:
    """Who pins a header is to hear of blocks that do not lead through it."""
    pinned = turn.ledger.tip.pinned
    if pinned is not None and pinned.height == height:
        turn.report(
            f"was given no block of height {height} that is the pinned one. If nobody "
            "gives it, what was followed until there is another past, which retired "
            "keys signed (set state/chain.sqlite3 aside and start again), or the "
            "checkpoint is wrong"
        )


def _blocks_given(turn: Turn, content: bytes) -> None:
    """Takes a range that we asked for, and asks for the next one.

    A range that leads nowhere is asked again of the next coordinator.
    """
    blocks = GIVEN_BLOCKS.unpack(content)
    height = turn.ledger.consensus.height
    key = wanting.want_key(Subject.BLOCKS, blocks_key(blocks.first))
    if key not in turn.wanted or blocks.first != height or turn.restoring is not None:
        return
    for packed in blocks.decisions:
        decision = wire.MESSAGE.pack(wire.Message(wire.Topic.DECISION, packed))
        advance(turn, node.PeerMessage(decision))
        if turn.ledger.consensus.height == height:
            _say_if_pinned(turn, height)
            return
        height = turn.ledger.consensus.height
    look(turn)
