"""Charges for transactions that enter no block, to whoever told us of them.

A signature proves nothing about use, and keys cost nothing: each transaction of a fresh
key costs a look at its signature and one at what it would do. So what is forged, and
what the chain refuses once its turn comes, is charged to who told us of it, and from
who owes for too many nothing more is looked at for a while.
"""

from dataclasses import replace

from starling.coordinator.chain.mempool import Mempool
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.wire.peer_quota import LineQuota
from starling.protocol.dataclass_replace import evolve
from starling.protocol.ids import DEVICE_ID_BYTES, DeviceId, Digest


def source_of(who: DeviceId, broker: int) -> bytes:
    """Account that is charged: a name at one broker, as with its quota."""
    return who + broker.to_bytes(2) if broker else who


def teller(source: bytes) -> DeviceId:
    """Coordinator that an account of `source_of` belongs to."""
    return DeviceId(source[:DEVICE_ID_BYTES])


def refused(step: CoordinatorStep, waited: Mempool, identity: Digest) -> None:
    """The chain refused a transaction: who told of it pays, if it waited on its word.

    Args:
      step: The step, with the ledger after it.
      waited: What waited before.
      identity: Of the transaction; one that waits on was only submitted again.
    """
    entry = waited.get(identity)
    if entry is None or not entry.source:
        return
    if step.state.ledger.mempool.get(identity) is None:
        charge(step, entry.source)


def charge(step: CoordinatorStep, source: bytes) -> None:
    """Charges a source, as of `source_of`, for a transaction that enters no block."""
    who = teller(source)
    broker = int.from_bytes(source[DEVICE_ID_BYTES:])
    peer = step.state.peers.get(who)
    # A peer that is forgotten has no account.
    if peer is None:
        return
    line = (peer.lines.get(broker) or LineQuota()).earned(step.now_s)
    line = replace(line, void=line.void - 1.0)
    peer = replace(peer, lines={**peer.lines, broker: line})
    step.state = evolve(step.state, peers={**step.state.peers, who: peer})
