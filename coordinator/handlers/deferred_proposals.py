"""Proposals that wait for what they name: vectors of updates, bundles of tasks.

The ledger hears a proposal only when we hold the vectors of the updates in it, or when
a quorum prevoted or precommitted its block without us (docs/consensus.md): then the
block stands whatever we think, and the vectors are fetched afterwards.
"""

from dataclasses import replace

from starling.coordinator.availability import bundle_examination
from starling.coordinator.availability.vector_exchange import request_later
from starling.coordinator.chain.gossip_messages import FrameSubject
from starling.coordinator.chain.node import node
from starling.coordinator.chain.safety import proposal_checks
from starling.coordinator.chain.state import board_records, transaction_codec
from starling.coordinator.commit.transaction_submission import advance
from starling.coordinator.downloads import request_scheduler
from starling.coordinator.step.admitted_updates import admitted_key
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.pending_proposal import DeferredProposal
from starling.protocol.chain.blocks import BLOCK, Proposal, VoteType
from starling.protocol.dataclass_replace import evolve
from starling.protocol.ids import DeviceId, Digest
from starling.protocol.wire.envelope import MessageKind


def missing_data(
    step: CoordinatorStep, proposal: Proposal
) -> tuple[tuple[bytes, Digest], ...]:
    """Updates and tasks of a proposed block whose vectors or bundles we do not hold.

    Raises:
      InvalidBlock, DecodeError: If the bytes are not those of the block that is named.
    """
    # It was valid here before, and its data were held then.
    if proposal.block_id in step.state.ledger.prepared:
        return ()
    block = proposal_checks.check_block(BLOCK.unpack(proposal.block), proposal.block_id)
    missing = []
    for packed in block.transactions:
        envelope = transaction_codec.unpack(packed)
        if envelope.kind == MessageKind.UPDATE:
            body = transaction_codec.contribution(envelope.body)
            device = board_records.owner(step.state.ledger.tree, envelope.sender)
            key = admitted_key(device, body.task, body.version)
            identity = envelope.identity(step.settings.gate.chain_id)
            if not _holds(step, key, identity):
                missing.append((key, identity))
        elif envelope.kind == MessageKind.TASK:
            missing.extend(bundle_examination.missing_bundle(step, envelope))
    return tuple(missing)


def _holds(step: CoordinatorStep, key: bytes, identity: Digest) -> bool:
    if key.startswith(bundle_examination.KEY):
        return bundle_examination.is_sound(step, key, identity)
    held = step.state.held.get(key)
    return held is not None and held.transaction == identity


def defer(
    step: CoordinatorStep,
    who: DeviceId,
    proposal: Proposal,
    missing: tuple[tuple[bytes, Digest], ...],
) -> None:
    """Keeps a proposal until its missing data arrive, and requests them."""
    known = step.state.parked.get(who)
    if known is not None and known.proposal.block_id != proposal.block_id:
        # Only one proposal per peer waits: what the earlier one alone needed is not
        # wanted.
        over = tuple(each for each in known.missing if each not in missing)
        keys = _keys(replace(known, missing=over))
        request_scheduler.withdraw_requests(step, keys, who)
    parked = DeferredProposal(proposal, missing)
    step.state = evolve(step.state, parked={**step.state.parked, who: parked})
    absent = [
        identity
        for key, identity in missing
        if not key.startswith(bundle_examination.KEY)
    ]
    # Whoever offers a block, or passes it on, has what it names.
    request_later(step, absent, first=who, source=who)
    bundle_examination.parked_too(step, who, parked)
    request_scheduler.hasten(step, _keys(parked), who)


def _keys(parked: DeferredProposal) -> list[bytes]:
    """Everything that may be asked for on account of a proposal."""
    keys = request_scheduler.vectors(identity for _, identity in parked.missing)
    return keys + request_scheduler.blob_keys(bundle_examination.bundles_of(parked))


def release_deferred_proposals(step: CoordinatorStep) -> None:
    """Lets the ledger hear the proposals that wait no longer; forgets old ones."""
    # In the order of keys: which proposal counts first must not depend on arrival.
    for who, parked in sorted(step.state.parked.items()):
        current = parked.proposal.height == step.state.ledger.consensus.height
        missing = any(
            not _holds(step, key, identity) for key, identity in parked.missing
        )
        if current and missing and not _carried(step, parked):
            continue
        step.state = evolve(
            step.state,
            parked={at: one for at, one in step.state.parked.items() if at != who},
        )
        # The vectors of a decided block are needed, from any coordinator that has them.
        if not current and not _decided(step, parked):
            request_scheduler.withdraw_requests(step, _keys(parked), who)
        if current:
            # For the core it comes from its sender and not from this event's.
            step.speaker = who
            advance(step, node.PeerMessage(FrameSubject.PROPOSAL, parked.proposal))


def _decided(step: CoordinatorStep, parked: DeferredProposal) -> bool:
    """True if the chain ends with a block, whose vectors are needed then."""
    header = step.state.ledger.header
    return header is not None and header.block_id() == parked.proposal.block_id


def _carried(step: CoordinatorStep, parked: DeferredProposal) -> bool:
    """True if a quorum voted for a block that could not be opened here."""
    vote_set = step.state.ledger.consensus.vote_set
    needed, proposal = step.state.ledger.validator.quorum, parked.proposal
    return any(
        vote_set.certificate(proposal.round, kind, proposal.block_id, needed)
        is not None
        for kind in VoteType
    )
