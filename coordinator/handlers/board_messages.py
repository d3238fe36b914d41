"""Messages of boards: chunks of uploads, check-ins, requests and states.

What comes here is within the board's allowance. A board costs at most one upload in
assembly. Nothing is kept for one that the chain does not know.
"""

from typing import assert_never

from starling.coordinator.availability import vector_exchange
from starling.coordinator.boards import (
    blob_service,
    board_refusals,
    health_requests,
    lease_grants,
)
from starling.coordinator.chain.state import (
    board_records,
    rollback_records,
    task_records,
)
from starling.coordinator.commit import evidence_submission
from starling.coordinator.commit.transaction_submission import submit_upload
from starling.coordinator.downloads import request_scheduler
from starling.coordinator.handlers import update_receipts
from starling.coordinator.peers import responder_selection
from starling.coordinator.step.admitted_updates import AdmittedUpdate, admitted_key
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.deferred_replies import (
    DeferredAnswer,
    DeferredReceipt,
    DeferredRefusal,
)
from starling.coordinator.step.effects import (
    RecordAcceptance,
    RecordRefusal,
    StoreUpload,
)
from starling.coordinator.update.admission_checks import (
    AdmittedUpload,
    SenderRecord,
    UpdateEquivocation,
    admit,
)
from starling.coordinator.wire.frames import UploadAnswer
from starling.protocol.chain.board_statement import StatementRequest
from starling.protocol.crypto.sealed_blob import blob_digest
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import (
    DecodeError,
    InvalidUpdate,
    LimitError,
    ProtocolError,
    Reason,
    SignatureError,
    StaleUpdate,
)
from starling.protocol.ids import DeviceId, PublicKey
from starling.protocol.wire.chunks import CHUNK, Chunk, ChunkAssembly, chunk_count
from starling.protocol.wire.envelope import (
    ENVELOPE,
    CounterWindow,
    Envelope,
    MessageKind,
)
from starling.protocol.wire.message_bodies import (
    CHECK_IN,
    CHUNK_REQUEST,
    DEVICE_STATE,
    FORFEIT,
    UPLOAD,
    Contribution,
    DevicePhase,
)
from starling.protocol.wire.token_bucket import upload_bytes_max

CHECK_INS_PATIENCE = 4
"""Check-ins for one version after which one more coordinator answers."""
RECEIPTS_WAITING_MAX = 16
"""A lone coordinator gives no more receipts to updates that wait for one block."""


def chunk_arrived(step: CoordinatorStep, device: DeviceId, payload: bytes) -> None:
    """Takes a chunk; the last one makes an upload to be admitted."""
    chunk = whole = None
    try:
        chunk = CHUNK.unpack(payload)
        whole = _assemble(step, device, chunk)
        if whole is not None:
            upload_arrived(step, device, whole)
    except ProtocolError as error:
        if chunk and whole and _is_signed_upload(step, device, whole):
            board_refusals.refuse(step, device, chunk.digest, error)
        else:
            board_refusals.count(step, device, error)


def _is_signed_upload(step: CoordinatorStep, device: DeviceId, whole: bytes) -> bool:
    try:
        return board_refusals.is_signed(step, device, UPLOAD.unpack(whole).update)
    except ProtocolError:
        return False


def upload_arrived(step: CoordinatorStep, device: DeviceId, whole: bytes) -> None:
    """Admits an upload: durable first, then the receipt, then the chain."""

    def lookup(sender: PublicKey, contribution: Contribution) -> SenderRecord:
        return _sender_record(step, sender, contribution)

    # Before all checks: for want of room they would be made in vain.
    if step.state.ledger.mempool.size >= step.settings.ledger.waiting_max:
        raise LimitError("too many updates wait for a block", Reason.BUSY)
    try:
        admitted = admit(step.settings.gate, device, whole, lookup)
    except UpdateEquivocation as error:
        evidence_submission.second_update_found(step, error.known, error.update)
        subject = error.update.identity(step.settings.gate.chain_id)
        board_refusals.refuse(step, device, subject, error)
        return
    session = evolve(step.session(device), updates=admitted.window)
    step.put_session(device, session)
    if admitted.known:
        _known_arrived(step, device, admitted)
        return
    body = admitted.contribution
    step.emit(StoreUpload(admitted.transaction, admitted.update, admitted.blob))
    key = admitted_key(device, body.task, body.version)
    update = admitted.update
    held = AdmittedUpdate(
        admitted.transaction, body.version, body.task, step.now_s, update
    )
    step.state = evolve(step.state, held=step.state.held.put(key, held))
    # A peer may have named it before the board sent it here.
    wanted = request_scheduler.vectors([admitted.transaction])
    if step.state.wanted and not step.state.wanted.keys().isdisjoint(wanted):
        vector_exchange.vectors_arrived(step, wanted)
    step.emit(RecordAcceptance(device))
    if not responder_selection.is_first(step, device):
        update_receipts.leave_receipt(step, device, admitted)
    elif not _proof_is_near(step):
        update_receipts.send_accepted(step, device, admitted.transaction)
    lease_grants.delivered(step, device, step.state.tasks[body.task])
    # Last, since it may decide a block within this step.
    submit_upload(step, update)


def board_message_arrived(
    step: CoordinatorStep, device: DeviceId, payload: bytes
) -> None:
    """Takes what a board says beside uploads; says nothing to an empty message.

    A check sends that one, to see whether the broker lets it.
    """
    if not payload:
        return
    try:
        envelope = ENVELOPE.unpack(payload)
    except ProtocolError as error:
        board_refusals.count(step, device, error)
        return
    subject = envelope.identity(step.settings.gate.chain_id)
    try:
        _check_signed_message(step, device, envelope)
        if envelope.kind == MessageKind.FORFEIT:
            _forfeited(step, device, envelope)
            return
        if envelope.kind == MessageKind.HEALTH_REPORT:
            health_requests.answered(step, device, envelope)
            return
        if envelope.kind == MessageKind.CHECK_IN:
            body = CHECK_IN.unpack(envelope.body)
            lease_grants.moved_on(step, device, body)
            if body.asks == StatementRequest.EVERYBODY:
                lease_grants.state(step, device, body, subject)
            matter = b"check in" + body.version.to_bytes(8)
            patience = CHECK_INS_PATIENCE
        else:
            request = CHUNK_REQUEST.unpack(envelope.body)
            matter = request.digest + request.indices[0].to_bytes(4)
            patience = 1
    except ProtocolError as error:
        if board_refusals.is_signed(step, device, envelope):
            board_refusals.refuse(step, device, subject, error)
        else:
            board_refusals.count(step, device, error)
        return
    if responder_selection.answers(step, device, matter, patience):
        _answer(step, device, envelope)
    else:
        responder_selection.defer_reply(
            step, DeferredAnswer(device, step.now_s, matter, envelope)
        )


def _answer(step: CoordinatorStep, device: DeviceId, said: Envelope) -> None:
    """Answers what a board asks for, if with a refusal."""
    asked = said.identity(step.settings.gate.chain_id)
    try:
        if said.kind == MessageKind.CHECK_IN:
            body = CHECK_IN.unpack(said.body)
            if body.asks == StatementRequest.GRANTOR:
                # Before the lease, which the board does not use without it.
                lease_grants.state(step, device, body, asked)
            lease_grants.check_in(step, device, body, said.counter)
        else:
            blob_service.serve(step, device, CHUNK_REQUEST.unpack(said.body))
    except ProtocolError as error:
        board_refusals.refuse(step, device, asked, error, answers=True)


def answer_overdue(step: CoordinatorStep) -> None:
    """Answers boards in place of those who had to and were not heard of since."""
    for left in responder_selection.take_overdue_replies(step):
        match left:
            case DeferredReceipt():
                update_receipts.give_receipt(step, left)
            case DeferredAnswer(device, _, matter, said):
                if step.session(device).asked[0] != matter:
                    # It asked for something else since, and waits for that.
                    continue
                _answer(step, device, said)
            case DeferredRefusal():
                board_refusals.send_deferred_refusal(step, left)
            case _:
                assert_never(left)


def _forfeited(step: CoordinatorStep, device: DeviceId, envelope: Envelope) -> None:
    """A board has lost what it paid for; it goes to the chain as it is."""
    body = FORFEIT.unpack(envelope.body)
    if lease_grants.contributed(step, device, body.task, body.version):
        raise InvalidUpdate("signed for this version", Reason.ALREADY_KNOWN)
    if task_records.head(step.state.ledger.tree, body.task) != body.version:
        raise StaleUpdate(f"version {body.version} is not the head")
    # It came to all coordinators.
    submit_upload(step, envelope)


def state_arrived(step: CoordinatorStep, device: DeviceId, payload: bytes) -> None:
    """Notes a board's phase; one that is gone gives its lease back."""
    try:
        envelope = ENVELOPE.unpack(payload)
        if envelope.kind != MessageKind.DEVICE_STATE:
            raise SignatureError("not a board's state", Reason.NOT_AUTHORISED)
        envelope.check(step.settings.gate.chain_id)
        shown = DEVICE_STATE.unpack(envelope.body)
        _require_signer(step, device, envelope)
    except ProtocolError as error:
        step.emit(RecordRefusal(device, error.reason, f"state: {error}"))
        return
    phase = DevicePhase(shown.phase)
    # Shown at once, for people; leases follow only from what is gone.
    step.put_session(device, evolve(step.session(device), phase=phase))
    if phase in (DevicePhase.LOST, DevicePhase.DISCONNECTED):
        for task in list(step.state.tasks.values()):
            lease_grants.release(step, device, task)


def _exclusion(
    step: CoordinatorStep, device: DeviceId, signer: PublicKey | None = None
) -> SignatureError | None:
    """Reason that keeps a board, or one of its keys, out; None if there is none."""
    board = board_records.board(step.state.ledger.tree, device)
    if board is None:
        return SignatureError("the board is not enrolled", Reason.NOT_ENROLLED)
    if board.revoked:
        detail = f"the board was revoked at height {board.revoked}"
        return SignatureError(detail, Reason.NOT_ENROLLED)
    if step.state.ledger.tip.is_jailed(board):
        return SignatureError(f"jailed until height {board.jailed}", Reason.JAILED)
    if signer not in (None, board.public):
        return SignatureError("the board has another key now", Reason.NOT_ENROLLED)
    return None


def _require_enrolled(
    step: CoordinatorStep, device: DeviceId, signer: PublicKey | None = None
) -> None:
    excluded = _exclusion(step, device, signer)
    if excluded is not None:
        raise excluded


def _require_signer(
    step: CoordinatorStep, device: DeviceId, envelope: Envelope
) -> None:
    tree = step.state.ledger.tree
    if board_records.owner(tree, envelope.sender) != device:
        raise SignatureError("signed by another board", Reason.NOT_AUTHORISED)
    _require_enrolled(step, device, envelope.sender)


def _assemble(step: CoordinatorStep, device: DeviceId, chunk: Chunk) -> bytes | None:
    bytes_max = upload_bytes_max(task.spec for task in step.state.tasks.values())
    if chunk.size > bytes_max:
        raise LimitError(f"upload of {chunk.size} bytes, {bytes_max} allowed")
    if chunk_count(chunk.size) == 1:
        # All that an upload holds is under a signature or a signed digest, so that
        # hashing it once more would prove nothing.
        return chunk.data
    _require_enrolled(step, device)
    session = step.session(device)
    assembly = session.assembly
    if assembly is None or assembly.digest != chunk.digest:
        assembly = ChunkAssembly.begin(chunk.digest, chunk.size, bytes_max)
    assembly = assembly.add(chunk)
    complete = None not in assembly.pieces
    kept = None if complete else assembly
    step.put_session(device, evolve(session, assembly=kept))
    return assembly.whole() if complete else None


def _sender_record(
    step: CoordinatorStep, sender: PublicKey, body: Contribution
) -> SenderRecord:
    tree = step.state.ledger.tree
    device = board_records.owner(tree, sender)
    board = board_records.board(tree, device)
    held = step.state.held.get(admitted_key(device, body.task, body.version))
    known = held.transaction if held is not None else None
    task = step.state.tasks.get(body.task)
    if known is None and task is not None:
        known = board_records.update_of(tree, body.task, device, body.version)
    grant = None if task is None else task.leases.granted.get(device)
    return SenderRecord(
        step.state.ledger.validator.roster.validators,
        device,
        _exclusion(step, device, sender),
        known,
        step.session(device).updates,
        None if grant is None else grant.envelope,
        None if task is None else task.spec,
        0 if task is None else task_records.head(tree, body.task) or 0,
        0 if board is None else board.charge,
        rollback_records.newest_rollback(tree, body.task),
    )


def _proof_is_near(step: CoordinatorStep) -> bool:
    """True if the proof that the update is final will serve as its receipt.

    A lone coordinator puts what waits into its next block. While many wait, a receipt
    that a stronger proof follows within a block would only take time from the others.
    """
    ledger = step.state.ledger
    return ledger.alone and ledger.mempool.size >= RECEIPTS_WAITING_MAX


def _known_arrived(
    step: CoordinatorStep, device: DeviceId, admitted: AdmittedUpload
) -> None:
    """An update came again; or for the first time, but a block was quicker.

    Then its first answer is on its way from another coordinator, and who comes first
    for the board only sees to it that there is one.
    """
    given = UploadAnswer(admitted.update, admitted.blob)
    vector_exchange.upload_received(step, None, given)
    if step.state.ledger.alone or admitted.repeated:
        update_receipts.repeat_receipt(step, device, admitted)
        return
    # A known update's blob is unchecked: only the one that was signed for is kept.
    if blob_digest(admitted.blob) == admitted.contribution.blob:
        step.emit(StoreUpload(admitted.transaction, admitted.update, admitted.blob))
    if responder_selection.is_first(step, device):
        update_receipts.send_accepted(step, device, admitted.transaction)
    else:
        update_receipts.leave_receipt(step, device, admitted)


def _check_signed_message(
    step: CoordinatorStep, device: DeviceId, envelope: Envelope
) -> None:
    if envelope.kind not in (
        MessageKind.CHECK_IN,
        MessageKind.CHUNK_REQUEST,
        MessageKind.FORFEIT,
        MessageKind.HEALTH_REPORT,
    ):
        raise DecodeError(f"kind {envelope.kind} said", Reason.UNKNOWN_KIND)
    _require_signer(step, device, envelope)
    envelope.check(step.settings.gate.chain_id)
    session = step.session(device)
    window = session.said.get(envelope.kind, CounterWindow())
    said = {**session.said, envelope.kind: window.admit(envelope.counter)}
    step.put_session(device, evolve(session, said=said))
