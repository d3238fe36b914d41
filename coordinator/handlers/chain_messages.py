"""Messages of the chain from other coordinators, on their way to its core.

A proposal is looked into once its maker's turn and signature are checked, and an update
that somebody tells of waits until we hold its vector; the rest the core hears as it
comes.
"""

from starling.coordinator.availability import bundle_examination
from starling.coordinator.availability.vector_exchange import announced
from starling.coordinator.chain.gossip import proposal_checks
from starling.coordinator.chain.gossip_messages import (
    FRAME,
    ChainMessage,
    FrameSubject,
    ValidatorStatus,
    frame,
)
from starling.coordinator.chain.node import node
from starling.coordinator.commit.transaction_submission import advance
from starling.coordinator.handlers import deferred_proposals
from starling.coordinator.membership import peer_liveness, transaction_charges
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.sync import block_sync
from starling.protocol.chain.blocks import Proposal, Vote
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import ProtocolError
from starling.protocol.ids import DeviceId
from starling.protocol.wire.envelope import Envelope, MessageKind

REPEAT_EVERY_S = 1.0
REPEATED_MAX = 64


def hear(
    subject: FrameSubject, turn: CoordinatorStep, who: DeviceId, said: ChainMessage
) -> None:
    """Lets the chain's core hear what a peer said."""
    source = transaction_charges.source_of(who, turn.broker)
    advance(turn, node.PeerMessage(subject, said, source))


def proposal_came(turn: CoordinatorStep, who: DeviceId, proposal: Proposal) -> None:
    """Takes a proposal; one that names what we do not hold waits for it.

    Raises:
      ProtocolError: If it is out of turn, or its bytes are not what it names.
    """
    if not proposal_checks.is_news(turn.state.ledger, proposal):
        return
    # Before anything is kept or asked for on its account.
    proposal_checks.check_maker(turn.state.ledger.party, proposal)
    lacks = deferred_proposals.missing_data(turn, proposal)
    if lacks:
        deferred_proposals.defer(turn, who, proposal, lacks)
    else:
        hear(FrameSubject.PROPOSAL, turn, who, proposal)


def vote_came(turn: CoordinatorStep, who: DeviceId, vote: Vote) -> None:
    """Takes a vote; one of its sender's own is a sign of life."""
    before = turn.state.ledger
    hear(FrameSubject.VOTE, turn, who, vote)
    peer_liveness.vote_came(turn, who, vote, before, bool(turn.broker))


def status_came(turn: CoordinatorStep, who: DeviceId, status: ValidatorStatus) -> None:
    """Takes a status; one of its sender's own is a sign of life.

    Raises:
      SignatureError: If it is forged.
    """
    peer_liveness.status_came(turn, who, status, bool(turn.broker))
    hear(FrameSubject.STATUS, turn, who, status)
    block_sync.request_missing_blocks(turn)


def transaction_came(turn: CoordinatorStep, who: DeviceId, told: Envelope) -> None:
    """Takes a transaction; an update or a task waits for what it needs first.

    Raises:
      ProtocolError: If nobody may send it.
    """
    try:
        if told.kind == MessageKind.UPDATE:
            announced(turn, who, told)
            return
        if told.kind == MessageKind.TASK and bundle_examination.task_announced(
            turn, who, told
        ):
            return
    except ProtocolError:
        transaction_charges.charge(
            turn, transaction_charges.source_of(who, turn.broker)
        )
        raise
    hear(FrameSubject.TRANSACTION, turn, who, told)


def repeat_waiting_transactions(turn: CoordinatorStep) -> None:
    """Tells others again what waits for a block for long: they may have missed it.

    Not what another coordinator told us: it tells again itself, and if it cannot, we
    put what we were told into a block of our own.
    """
    if turn.state.ledger.alone or turn.now_s < turn.state.repeat_at_s:
        return
    mempool, below = turn.state.ledger.mempool, turn.state.repeat_below
    turn.state = evolve(
        turn.state,
        repeat_at_s=turn.now_s + REPEAT_EVERY_S,
        repeat_below=mempool.following,
    )
    if not mempool.size or not turn.state.connected:
        return
    for entry in mempool.oldest(REPEATED_MAX, FRAME.bytes_max):
        if entry.place < below and not entry.source:
            again = frame(FrameSubject.TRANSACTION, entry.packed)
            turn.emit(node.SendGossip(again))
