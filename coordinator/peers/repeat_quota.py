"""Charges for repetitions: the bytes go to the author of the status.

A status says what its sender lacks of the height that is decided, and of the one before
(`chain.gossip.vote_repair`). It is signed and fresh, but nobody can check what it says:
a liar that lacks everything for ever gets as much of it as it may be answered otherwise
(`handlers.peer_requests`). Who is really behind stays far from that: all that it pulls
is half of it.
"""

from dataclasses import replace

from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.state import PeerState
from starling.protocol.dataclass_replace import evolve
from starling.protocol.ids import PublicKey, device_id


def pays(step: CoordinatorStep, author: PublicKey, size: int) -> bool:
    """Charges a peer for what its status asked for; whether it could pay.

    Args:
      step: The step.
      author: Whose status it was, by its signature.
      size: Of the answer, in bytes.
    """
    who = device_id(author)
    peer = step.state.peers.get(who) or PeerState()
    quota = peer.quota.earned(step.now_s)
    can = quota.answers >= size
    # Not charged where it cannot pay: later answers are not delayed by a debt.
    if can:
        quota = replace(quota, answers=quota.answers - size)
    peer = replace(peer, quota=quota, refused=peer.refused + (not can))
    step.state = evolve(step.state, peers={**step.state.peers, who: peer})
    return can
