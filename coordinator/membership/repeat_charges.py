"""Charges for repetitions: the bytes go to the sender of the status.

A status says what its sender lacks of the height that is decided, and of the one before
(`chain.gossip.vote_repair`). It is signed and fresh, but nobody can check what it says:
a liar that lacks everything for ever gets as much of it as it may be answered otherwise
(`handlers.peer_requests`). Who is really behind stays far from that: all that it pulls
is half of it.
"""

from dataclasses import replace

from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.protocol.dataclass_replace import evolve
from starling.protocol.ids import DeviceId


def pays(turn: CoordinatorStep, who: DeviceId | None, size: int) -> bool:
    """Charges a peer for what its status asked for; whether it could pay.

    Args:
      turn: The step.
      who: Who brought the status; None for what no peer did.
      size: Of the answer, in bytes.
    """
    peer = None if who is None else turn.state.peers.get(who)
    line = None if peer is None else peer.lines.get(turn.broker)
    if who is None or peer is None or line is None:
        return True
    if line.answers < size:
        refused = replace(peer, refused=peer.refused + 1)
        turn.state = evolve(turn.state, peers={**turn.state.peers, who: refused})
        return False
    line = replace(line, answers=line.answers - size)
    peer = replace(peer, lines={**peer.lines, turn.broker: line})
    turn.state = evolve(turn.state, peers={**turn.state.peers, who: peer})
    return True
