"""Block sync: one peer is asked for a range of blocks at a time.

Who is a height or two behind gets them from its peers' repair. Who is further behind
asks for ranges, of one coordinator that says to be ahead, then of the next one. Every
block is a decision, which its certificate proves; nobody is believed.
"""

from starling.coordinator.chain.gossip_messages import DECISION, FrameSubject
from starling.coordinator.chain.node import node
from starling.coordinator.commit.transaction_submission import advance
from starling.coordinator.downloads import request_scheduler
from starling.coordinator.peers import directory
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.sync import state_sync
from starling.coordinator.wire.frames import (
    BlocksAnswer,
    blocks_key,
    parse_blocks_key,
)
from starling.protocol.ids import DeviceId

BEHIND_MIN = 2
"""Heights that we must lack to ask for a range."""


def request_missing_blocks(step: CoordinatorStep) -> None:
    """Asks for the next blocks if a coordinator says that it is far ahead of us."""
    if state_sync.is_syncing(step):
        return
    height = step.state.ledger.consensus.height
    # Not a learner: nobody vouches for what it says.
    heights = [
        peer.height
        for who, peer in step.state.peers.items()
        if directory.is_coordinator(step.state.ledger, who)
    ]
    ahead = max(heights, default=0) - height
    key = request_scheduler.request_key(FrameSubject.BLOCKS, blocks_key(height))
    # The height moved on by other ways: a range from an earlier one is of no use.
    past = [other for other in step.state.wanted if _is_past(other, height)]
    if past:
        request_scheduler.forget(step, past)
    if ahead >= BEHIND_MIN:
        request_scheduler.request_blob(step, [key])


def _is_past(key: bytes, height: int) -> bool:
    return key[0] == FrameSubject.BLOCKS and parse_blocks_key(key[1:]) != height


def _say_if_pinned(step: CoordinatorStep, height: int) -> None:
    """Reports blocks that do not lead through the operator's pinned header."""
    pinned = step.state.ledger.tip.pinned
    if pinned is not None and pinned.height == height:
        step.report(
            f"was given no block of height {height} that is the pinned one. If nobody "
            "gives it, what was followed until there is another past, which retired "
            "keys signed (set state/chain.sqlite3 aside and start again), or the "
            "checkpoint is wrong"
        )


def blocks_received(step: CoordinatorStep, who: DeviceId, blocks: BlocksAnswer) -> None:
    """Takes a range that we asked for, and asks for the next one.

    A range that leads nowhere is asked again of the next coordinator.

    Raises:
      ProtocolError: If it holds no decisions.
    """
    del who
    height = step.state.ledger.consensus.height
    key = request_scheduler.request_key(FrameSubject.BLOCKS, blocks_key(blocks.first))
    if (
        key not in step.state.wanted
        or blocks.first != height
        or step.state.restoring is not None
    ):
        return
    for packed in blocks.decisions:
        decision = DECISION.unpack(packed)
        advance(step, node.PeerMessage(FrameSubject.DECISION, decision))
        # The first decision that does not apply ends the range: the rest builds on it.
        if step.state.ledger.consensus.height == height:
            _say_if_pinned(step, height)
            return
        height = step.state.ledger.consensus.height
    request_missing_blocks(step)
