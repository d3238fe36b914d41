"""Messages of the chain from other coordinators, on their way to its core.

A proposal is looked into once its maker's turn and signature are checked, and an update
that somebody tells of waits until we hold its vector; the rest the core hears as it
comes.
"""

from starling.coordinator.availability import bundle_examination
from starling.coordinator.availability.vector_exchange import announced
from starling.coordinator.chain.gossip_messages import (
    FRAME,
    ChainMessage,
    FrameSubject,
    ValidatorStatus,
    frame,
)
from starling.coordinator.chain.node import node
from starling.coordinator.chain.safety import proposal_checks
from starling.coordinator.commit.transaction_submission import advance
from starling.coordinator.handlers import deferred_proposals
from starling.coordinator.peers import peer_liveness, transaction_quota
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.sync import block_sync
from starling.protocol.chain.blocks import Proposal, Vote
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import ProtocolError
from starling.protocol.ids import DeviceId
from starling.protocol.wire.envelope import Envelope, MessageKind

REPEAT_EVERY_S = 1.0
REPEATED_MAX = 64


def pass_to_chain(
    subject: FrameSubject, step: CoordinatorStep, who: DeviceId, said: ChainMessage
) -> None:
    """Passes a peer's message to the chain's core."""
    source = transaction_quota.source_of(who, step.broker)
    advance(step, node.PeerMessage(subject, said, source))


def handle_proposal(step: CoordinatorStep, who: DeviceId, proposal: Proposal) -> None:
    """Takes a proposal; one that names what we do not hold waits for it.

    Raises:
      ProtocolError: If it is out of turn, or its bytes are not what it names.
    """
    if not proposal_checks.is_news(step.state.ledger, proposal):
        return
    # Before anything is kept or asked for on its account.
    proposal_checks.check_maker(step.state.ledger.validator, proposal)
    missing = deferred_proposals.missing_data(step, proposal)
    if missing:
        deferred_proposals.defer(step, who, proposal, missing)
    else:
        pass_to_chain(FrameSubject.PROPOSAL, step, who, proposal)


def handle_vote(step: CoordinatorStep, who: DeviceId, vote: Vote) -> None:
    """Takes a vote; one of its sender's own is a sign of life."""
    before = step.state.ledger
    pass_to_chain(FrameSubject.VOTE, step, who, vote)
    peer_liveness.record_vote(step, who, vote, before, bool(step.broker))


def handle_status(
    step: CoordinatorStep, who: DeviceId, status: ValidatorStatus
) -> None:
    """Takes a status; one of its sender's own is a sign of life.

    Raises:
      SignatureError: If it is forged.
    """
    peer_liveness.record_status(step, who, status, bool(step.broker))
    pass_to_chain(FrameSubject.STATUS, step, who, status)
    block_sync.request_missing_blocks(step)


def handle_transaction(step: CoordinatorStep, who: DeviceId, told: Envelope) -> None:
    """Takes a transaction; an update or a task waits for what it needs first.

    Raises:
      ProtocolError: If nobody may send it.
    """
    try:
        if told.kind == MessageKind.UPDATE:
            announced(step, who, told)
            return
        if told.kind == MessageKind.TASK and bundle_examination.task_announced(
            step, who, told
        ):
            return
    except ProtocolError:
        transaction_quota.charge(step, transaction_quota.source_of(who, step.broker))
        raise
    pass_to_chain(FrameSubject.TRANSACTION, step, who, told)


def repeat_waiting_transactions(step: CoordinatorStep) -> None:
    """Tells others again what waits for a block for long: they may have missed it.

    Not what another coordinator told us: it tells again itself, and if it cannot, we
    put what we were told into a block of our own.
    """
    if step.state.ledger.alone or step.now_s < step.state.repeat_at_s:
        return
    mempool, below = step.state.ledger.mempool, step.state.repeat_below
    step.state = evolve(
        step.state,
        repeat_at_s=step.now_s + REPEAT_EVERY_S,
        repeat_below=mempool.following,
    )
    if not mempool.size or not step.state.connected:
        return
    for entry in mempool.oldest(REPEATED_MAX, FRAME.bytes_max):
        # Younger ones are on their way, or in the block that is being decided.
        if entry.place < below and not entry.source:
            again = frame(FrameSubject.TRANSACTION, entry.packed)
            step.emit(node.SendGossip(again))
