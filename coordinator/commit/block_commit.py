"""Handles a committed block: proofs for boards, the next jobs of tasks."""

from starling.coordinator.boards import board_refusals, lease_grants
from starling.coordinator.boards.finality_proofs import BlockProofs
from starling.coordinator.chain.governance import expiry
from starling.coordinator.chain.node.node import StoreBlock
from starling.coordinator.chain.state import (
    board_records,
    task_records,
    transaction_codec,
    validator_records,
)
from starling.coordinator.chain.state.overlay import (
    AttestationOutvoted,
    AttestationsSplit,
    BoardChanged,
    BoardQuarantined,
    LossKnown,
    ScoresKnown,
    TaskClosed,
    TaskResumed,
)
from starling.coordinator.commit import evidence_pool
from starling.coordinator.models import (
    held_out_losses,
    manifest_publication,
    model_versions,
    version_scores,
)
from starling.coordinator.peers import directory, responder_selection
from starling.coordinator.step.admitted_updates import admitted_key
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.effects import (
    DropUpload,
    DropUploads,
    PruneBlocks,
    RecordRefusal,
    RemoveInboxFile,
)
from starling.protocol.chain.light_client import HANDOVERS_MAX, ValidatorSetTransition
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import ProtocolError, Reason
from starling.protocol.ids import DEVICE_ID_BYTES, DeviceId, Digest, device_id
from starling.protocol.wire.envelope import Envelope, MessageKind

FINALITIES_KEPT = 256
"""Times that a shown median is of."""
DROP_EVERY_BLOCKS = 64
_LEAVES_TASKS = (
    BoardChanged,
    BoardQuarantined,
    LossKnown,
    ScoresKnown,
    TaskResumed,
)


def block_decided(step: CoordinatorStep, stored: StoreBlock) -> None:
    """Applies a block's effects to boards, tasks and peers, and starts what follows."""
    block = stored.block
    step.state = evolve(step.state, rounds=step.state.rounds + stored.certificate.round)
    # Paths and packed header once for the block, and not for each of its boards.
    proven = BlockProofs.of(block, stored.certificate)
    for index, packed in enumerate(block.transactions):
        envelope, identity = (
            transaction_codec.unpack(packed),
            stored.results[index].identity,
        )
        if envelope.kind == MessageKind.UPDATE:
            _update_final(step, envelope, identity, proven, index)
        else:
            _take_from_inbox(step, identity)
    _attested(step, stored)
    # The next height is another set's: boards are led there under this header.
    if block.header.next_validators != block.header.validators:
        _handed_over(step, stored)
    # Most blocks change nothing that this looks at, and a large job is long to read.
    if any(not isinstance(one, _LEAVES_TASKS) for one in stored.happenings):
        model_versions.follow_chain(step)
    _evaluated(step, stored)
    manifest_publication.announce_ends(step)
    if block.header.height % DROP_EVERY_BLOCKS == 0:
        _drop_old(step, block.header.height)


def _attested(step: CoordinatorStep, stored: StoreBlock) -> None:
    for happening in stored.happenings:
        if isinstance(happening, AttestationOutvoted):
            _name_outvoted(step, happening)
        if isinstance(happening, AttestationsSplit):
            model_versions.recompute(step, happening.task, happening.version)


def _evaluated(step: CoordinatorStep, stored: StoreBlock) -> None:
    for happening in stored.happenings:
        if isinstance(happening, LossKnown):
            held_out_losses.loss_known(step, happening)
        if isinstance(happening, TaskResumed):
            held_out_losses.task_resumed(step, happening)
        if isinstance(happening, BoardChanged):
            board_refusals.board_changed(step, DeviceId(happening.board))
        if isinstance(happening, TaskClosed):
            lease_grants.task_closed(step, happening.task)
        if isinstance(happening, BoardQuarantined):
            version_scores.board_quarantined(step, happening)


def transaction_refused(
    step: CoordinatorStep, identity: Digest, reason: Reason, detail: str
) -> None:
    """The state machine does not take a transaction: nobody waits for it any longer."""
    if reason == Reason.ALREADY_KNOWN:
        # It waits already, or stands in a block: its blob is still needed. While it
        # only waits, in memory, the file in the inbox is what outlives a power cut.
        if step.state.ledger.mempool.get(identity) is None:
            _take_from_inbox(step, identity, reason, detail)
        return
    if reason == Reason.BUSY:
        # What was acknowledged stays stored, and is submitted again at the next start.
        step.emit(RecordRefusal(None, reason, detail))
        return
    step.emit(DropUpload(identity))
    _take_from_inbox(step, identity, reason, detail)
    waited = [
        key for key, held in step.state.held.items() if held.transaction == identity
    ]
    for key in waited:
        device = DeviceId(key[:DEVICE_ID_BYTES])
        held = step.state.held.get(key)
        assert held is not None
        step.state = evolve(step.state, held=step.state.held.without(key))
        if reason == Reason.EQUIVOCATION:
            evidence_pool.refused(step, device, held)
        board_refusals.refuse(step, device, identity, ProtocolError(detail, reason))
    # An attestation after the quorum's is late and nobody's fault.
    if not waited and reason != Reason.STALE:
        step.emit(RecordRefusal(None, reason, detail))


def _update_final(
    step: CoordinatorStep,
    envelope: Envelope,
    identity: Digest,
    proven: BlockProofs,
    index: int,
) -> None:
    device = board_records.owner(step.state.ledger.tree, envelope.sender)
    body = transaction_codec.contribution(envelope.body)
    key = admitted_key(device, body.task, body.version)
    held = step.state.held.get(key)
    if held is not None:
        step.state = evolve(step.state, held=step.state.held.without(key))
        took_s = step.now_s - held.at_s
        step.state = evolve(
            step.state,
            finalities_s=(*step.state.finalities_s[1 - FINALITIES_KEPT :], took_s),
        )
        # The block has another update of this board and base: both together are
        # evidence.
        if held.transaction != identity:
            evidence_pool.refused(step, device, held)
    board = board_records.board(step.state.ledger.tree, device)
    if board is not None and board.charge > step.state.charge_max:
        step.state = evolve(step.state, charge_max=board.charge)
    # Others hold the same proof, and boards need it once.
    if responder_selection.is_first(step, device):
        step.sign_and_send(device, MessageKind.FINAL, proven.packed(index), identity)


def _name_outvoted(step: CoordinatorStep, found: AttestationOutvoted) -> None:
    name = directory.name_of(step.state.ledger, device_id(found.validator))
    step.report(
        f"task {found.task}: {name} attested another version {found.version} than the "
        "one that is final"
    )


def _handed_over(step: CoordinatorStep, stored: StoreBlock) -> None:
    """Keeps what leads boards to the next validators, and shows it to them."""
    header, tip = stored.block.header, step.state.ledger.tip
    following = validator_records.validators(tip.tree, tip.genesis, header.height + 1)
    handover = ValidatorSetTransition(header, stored.certificate, following)
    step.state = evolve(
        step.state, handovers=(*step.state.handovers, handover)[-HANDOVERS_MAX:]
    )
    names = ", ".join(member.name for member in following.members)
    step.report(f"from height {header.height + 1} on decide {names}")
    # With the manifest, which carries the changes that lead to the new set.
    for task in list(step.state.tasks.values()):
        manifest_publication.announce(step, task)


def _drop_old(step: CoordinatorStep, height: int) -> None:
    """Lets vectors and transactions of old blocks go, but none that a job needs.

    Old is what its blocks and its time are over for; at the longest evidence is taken,
    the marks of the chain's clock reach no further.
    """
    tree, needed = step.state.ledger.tree, height
    for number in step.state.tasks:
        job, progress = (
            task_records.job_record(tree, number),
            task_records.progress(tree, number),
        )
        assert progress is not None
        # Places rise with time: the first of a job is its oldest.
        places = [*(job.places[:1] if job else ()), progress.first]
        for place in places:
            entry = task_records.pending_at(tree, number, place)
            if entry is not None:
                # The block before the oldest one that a job still needs.
                needed = min(needed, entry.height - 1)
    settings, header, genesis = (
        step.settings,
        step.state.ledger.header,
        step.state.ledger.tip.genesis,
    )
    assert header is not None
    now_ms, evidence_ms = header.time_ms, expiry.evidence_ms(tree, genesis, height)
    aged = expiry.aged(tree, now_ms, min(settings.audit_ms, evidence_ms))
    unaudited = min(needed, height - settings.audit_blocks, aged)
    if unaudited > 0:
        step.emit(DropUploads(unaudited, settings.vectors_bytes))
    aged = expiry.aged(tree, now_ms, evidence_ms)
    unneeded = min(needed, height - settings.body_blocks, aged)
    if unneeded > 0:
        step.emit(PruneBlocks(unneeded))


def _take_from_inbox(
    step: CoordinatorStep,
    identity: Digest,
    reason: Reason | None = None,
    detail: str = "",
) -> None:
    name = step.state.inbox.get(identity)
    if name is not None:
        step.emit(RemoveInboxFile(name, reason, detail))
        rest = {key: at for key, at in step.state.inbox.items() if key != identity}
        step.state = evolve(step.state, inbox=rest)
