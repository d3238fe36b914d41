"""What boards send: chunks of uploads, check-ins, requests and their states.

What comes here is within the board's allowance. A board costs at most one upload in
assembly. Nothing is kept for one that the chain does not know.
"""

from typing import assert_never

from coordinator import accusation, duty, granting, refusing, sharing, wanting
from coordinator.admission import Admitted, Equivocation, Standing, admit
from coordinator.allowance import upload_bytes_max
from coordinator.effects import Accept, PublishChunks, PublishFinal, Refuse, StoreUpload
from coordinator.gossip import GivenUpload
from coordinator.ledger import views
from coordinator.owed import LeftAnswer, LeftReceipt, LeftRefusal
from coordinator.state import Held, TaskState, held_key
from coordinator.submission import submit_upload
from coordinator.turn import Turn
from protocol.chunks import CHUNK, Assembly, Chunk, chunk_count
from protocol.envelope import ENVELOPE, CounterWindow, Envelope, Kind
from protocol.errors import (
    DecodeError,
    InvalidUpdate,
    LimitError,
    ProtocolError,
    Reason,
    SignatureError,
    StaleUpdate,
)
from protocol.evolve import evolve
from protocol.ids import DeviceId, Digest, PublicKey
from protocol.messages import (
    ACCEPTED,
    CHECK_IN,
    CHUNK_REQUEST,
    DEVICE_STATE,
    FORFEIT,
    UPLOAD,
    Accepted,
    ChunkRequest,
    Contribution,
    DevicePhase,
)
from protocol.sealing import blob_digest
from protocol.statement import Asks

CHECK_INS_PATIENCE = 4
"""Check-ins for one version after which one more coordinator answers."""
RECEIPTS_WAITING_MAX = 16
"""A lone coordinator gives no more receipts to updates that wait for one block."""


def chunk_arrived(turn: Turn, device: DeviceId, payload: bytes) -> None:
    """Takes a chunk; the last one makes an upload to be admitted."""
    chunk = whole = None
    try:
        chunk = CHUNK.unpack(payload)
        whole = _assemble(turn, device, chunk)
        if whole is not None:
            upload_arrived(turn, device, whole)
    except ProtocolError as error:
        if chunk and whole and _is_signed_upload(turn, device, whole):
            refusing.refuse(turn, device, chunk.digest, error)
        else:
            refusing.count(turn, device, error)


def _is_signed_upload(turn: Turn, device: DeviceId, whole: bytes) -> bool:
    try:
        return refusing.is_signed(turn, device, UPLOAD.unpack(whole).update)
    except ProtocolError:
        return False


def upload_arrived(turn: Turn, device: DeviceId, whole: bytes) -> None:
    """Admits an upload: durable first, then the receipt, then the chain."""

    def lookup(sender: PublicKey, contribution: Contribution) -> Standing:
        return _standing(turn, sender, contribution)

    if turn.ledger.mempool.size >= turn.settings.ledger.waiting_max:
        raise LimitError("too many updates wait for a block", Reason.BUSY)
    try:
        admitted = admit(turn.settings.gate, device, whole, lookup)
    except Equivocation as error:
        accusation.found(turn, error.known, error.update)
        subject = error.update.identity(turn.settings.gate.chain_id)
        refusing.refuse(turn, device, subject, error)
        return
    session = evolve(turn.session(device), updates=admitted.window)
    turn.put_session(device, session)
    if admitted.known:
        _known_arrived(turn, device, admitted)
        return
    body = admitted.contribution
    turn.emit(StoreUpload(admitted.transaction, admitted.update, admitted.blob))
    key = held_key(device, body.task, body.version)
    update = admitted.update
    held = Held(admitted.transaction, body.version, body.task, turn.now_s, update)
    turn.held = turn.held.put(key, held)
    wanted = wanting.vectors([admitted.transaction])
    if turn.wanted and not turn.wanted.keys().isdisjoint(wanted):
        sharing.came(turn, wanted)
    turn.emit(Accept(device))
    if not duty.is_first(turn, device):
        _leave_receipt(turn, device, admitted)
    elif not _proof_is_near(turn):
        _tell_accepted(turn, device, admitted.transaction)
    granting.delivered(turn, device, turn.tasks[body.task])
    submit_upload(turn, update)


def said_arrived(turn: Turn, device: DeviceId, payload: bytes) -> None:
    """Takes a check-in or a request for chunks."""
    try:
        envelope = ENVELOPE.unpack(payload)
    except ProtocolError as error:
        refusing.count(turn, device, error)
        return
    subject = envelope.identity(turn.settings.gate.chain_id)
    try:
        _check_said(turn, device, envelope)
        if envelope.kind == Kind.FORFEIT:
            _forfeited(turn, device, envelope)
            return
        if envelope.kind == Kind.CHECK_IN:
            body = CHECK_IN.unpack(envelope.body)
            granting.moved_on(turn, device, body)
            if body.asks == Asks.EVERYBODY:
                granting.state(turn, device, body, subject)
            matter = b"check in" + body.version.to_bytes(8)
            patience = CHECK_INS_PATIENCE
        else:
            request = CHUNK_REQUEST.unpack(envelope.body)
            matter = request.digest + request.indices[0].to_bytes(4)
            patience = 1
    except ProtocolError as error:
        if refusing.is_signed(turn, device, envelope):
            refusing.refuse(turn, device, subject, error)
        else:
            refusing.count(turn, device, error)
        return
    if duty.answers(turn, device, matter, patience):
        _answer(turn, device, envelope)
    else:
        duty.leave(turn, LeftAnswer(device, turn.now_s, matter, envelope))


def _answer(turn: Turn, device: DeviceId, said: Envelope) -> None:
    """Answers what a board asks for, if with a refusal."""
    asked = said.identity(turn.settings.gate.chain_id)
    try:
        if said.kind == Kind.CHECK_IN:
            body = CHECK_IN.unpack(said.body)
            if body.asks == Asks.GRANTOR:
                # Before the lease, which the board does not use without it.
                granting.state(turn, device, body, asked)
            granting.check_in(turn, device, body, said.counter)
        else:
            _serve(turn, device, CHUNK_REQUEST.unpack(said.body))
    except ProtocolError as error:
        refusing.refuse(turn, device, asked, error, answers=True)


def stand_in(turn: Turn) -> None:
    """Answers boards in place of those who had to and were not heard of since."""
    for left in duty.take_overdue(turn):
        match left:
            case LeftReceipt():
                _give_receipt(turn, left)
            case LeftAnswer(device, _, matter, said):
                if turn.session(device).asked[0] != matter:
                    # It asked for something else since, and waits for that.
                    continue
                _answer(turn, device, said)
            case LeftRefusal():
                refusing.stand_in(turn, left)
            case _:
                assert_never(left)


def _give_receipt(turn: Turn, left: LeftReceipt) -> None:
    """Says that an update is durable, or proves it if a block was quicker."""
    device, transaction = left.device, left.transaction
    held = turn.held.get(held_key(device, left.task, left.base))
    if held is not None and held.transaction == transaction:
        _tell_accepted(turn, device, transaction)
        return
    tree = turn.ledger.tree
    if views.update_of(tree, left.task, device, left.base) == transaction:
        turn.emit(PublishFinal(device, transaction, turn.take_counter()))


def _forfeited(turn: Turn, device: DeviceId, envelope: Envelope) -> None:
    """A board has lost what it paid for; it goes to the chain as it is."""
    body = FORFEIT.unpack(envelope.body)
    if granting.contributed(turn, device, body.task, body.version):
        raise InvalidUpdate("signed for this version", Reason.ALREADY_KNOWN)
    if views.head(turn.ledger.tree, body.task) != body.version:
        raise StaleUpdate(f"version {body.version} is not the head")
    # It came to all coordinators.
    submit_upload(turn, envelope)


def state_arrived(turn: Turn, device: DeviceId, payload: bytes) -> None:
    """Notes a board's phase; one that is gone gives its lease back."""
    try:
        envelope = ENVELOPE.unpack(payload)
        if envelope.kind != Kind.DEVICE_STATE:
            raise SignatureError("not a board's state", Reason.NOT_AUTHORISED)
        envelope.check(turn.settings.gate.chain_id)
        shown = DEVICE_STATE.unpack(envelope.body)
        _require_signer(turn, device, envelope)
    except ProtocolError as error:
        turn.emit(Refuse(device, error.reason, f"state: {error}"))
        return
    phase = DevicePhase(shown.phase)
    session = turn.session(device)
    turn.put_session(
        device, evolve(session, phase=phase, epsilon_micro=shown.epsilon_micro)
    )
    if phase in (DevicePhase.LOST, DevicePhase.DISCONNECTED):
        for task in list(turn.tasks.values()):
            granting.release(turn, device, task)


def _require_enrolled(turn: Turn, device: DeviceId) -> None:
    board = views.board(turn.ledger.tree, device)
    if board is None or board.revoked:
        raise SignatureError("the board is not enrolled", Reason.NOT_ENROLLED)
    if board.jailed:
        raise SignatureError(f"jailed until height {board.jailed}", Reason.JAILED)


def _require_signer(turn: Turn, device: DeviceId, envelope: Envelope) -> None:
    tree = turn.ledger.tree
    if views.owner(tree, envelope.sender) != device:
        raise SignatureError("signed by another board", Reason.NOT_AUTHORISED)
    if views.signer(tree, envelope.sender) is None:
        raise SignatureError("the key may not take part", Reason.NOT_ENROLLED)
    _require_enrolled(turn, device)


def _assemble(turn: Turn, device: DeviceId, chunk: Chunk) -> bytes | None:
    bytes_max = upload_bytes_max(task.spec for task in turn.tasks.values())
    if chunk.size > bytes_max:
        raise LimitError(f"upload of {chunk.size} bytes, {bytes_max} allowed")
    if chunk_count(chunk.size) == 1:
        # All that an upload holds is under a signature or a signed digest, so that
        # hashing it once more would prove nothing.
        return chunk.data
    _require_enrolled(turn, device)
    session = turn.session(device)
    assembly = session.assembly
    if assembly is None or assembly.digest != chunk.digest:
        assembly = Assembly.begin(chunk.digest, chunk.size, bytes_max)
    assembly = assembly.add(chunk)
    complete = None not in assembly.pieces
    kept = None if complete else assembly
    turn.put_session(device, evolve(session, assembly=kept))
    return assembly.whole() if complete else None


def _standing(turn: Turn, sender: PublicKey, body: Contribution) -> Standing:
    tree = turn.ledger.tree
    device = views.owner(tree, sender)
    board = views.signer(tree, sender)
    held = turn.held.get(held_key(device, body.task, body.version))
    known = held.transaction if held is not None else None
    task = turn.tasks.get(body.task)
    if known is None and task is not None:
        known = views.update_of(tree, body.task, device, body.version)
    grant = None if task is None else task.leases.granted.get(device)
    return Standing(
        turn.ledger.party.roster.validators,
        device,
        board is not None and not board.jailed,
        known,
        turn.session(device).updates,
        None if grant is None else grant.envelope,
        None if task is None else task.spec,
        0 if task is None else views.head(tree, body.task) or 0,
        0 if board is None else board.charge,
    )


def _proof_is_near(turn: Turn) -> bool:
    """Whether the proof that the update is final will serve as its receipt.

    A lone coordinator puts what waits into its next block. While many wait, a receipt
    that a stronger proof follows within a block would only take time from the others.
    """
    ledger = turn.ledger
    return ledger.alone and ledger.mempool.size >= RECEIPTS_WAITING_MAX


def _known_arrived(turn: Turn, device: DeviceId, admitted: Admitted) -> None:
    """An update came again; or for the first time, but a block was quicker.

    Then its first answer is on its way from another coordinator, and who comes first
    for the board only sees to it that there is one.
    """
    given = GivenUpload(admitted.update, admitted.blob)
    sharing.upload_given(turn, None, given)
    if turn.ledger.alone or admitted.repeated:
        _repeat_receipt(turn, device, admitted)
        return
    if blob_digest(admitted.blob) == admitted.contribution.blob:
        turn.emit(StoreUpload(admitted.transaction, admitted.update, admitted.blob))
    if duty.is_first(turn, device):
        _tell_accepted(turn, device, admitted.transaction)
    else:
        _leave_receipt(turn, device, admitted)


def _leave_receipt(turn: Turn, device: DeviceId, admitted: Admitted) -> None:
    body, transaction = admitted.contribution, admitted.transaction
    left = LeftReceipt(device, turn.now_s, transaction, body.task, body.version)
    duty.leave(turn, left)


def _tell_accepted(turn: Turn, device: DeviceId, transaction: Digest) -> None:
    turn.tell(device, Kind.ACCEPTED, ACCEPTED.pack(Accepted(transaction)))


def _repeat_receipt(turn: Turn, device: DeviceId, admitted: Admitted) -> None:
    body = admitted.contribution
    _tell_accepted(turn, device, admitted.transaction)
    if turn.held.get(held_key(device, body.task, body.version)) is None:
        duty.missed(turn, device)
        counter = turn.take_counter()
        turn.emit(PublishFinal(device, admitted.transaction, counter))


def _check_said(turn: Turn, device: DeviceId, envelope: Envelope) -> None:
    if envelope.kind not in (Kind.CHECK_IN, Kind.CHUNK_REQUEST, Kind.FORFEIT):
        raise DecodeError(f"kind {envelope.kind} said", Reason.UNKNOWN_KIND)
    _require_signer(turn, device, envelope)
    envelope.check(turn.settings.gate.chain_id)
    session = turn.session(device)
    window = session.said.get(envelope.kind, CounterWindow())
    said = {**session.said, envelope.kind: window.admit(envelope.counter)}
    turn.put_session(device, evolve(session, said=said))


def _serve(turn: Turn, device: DeviceId, request: ChunkRequest) -> None:
    if not any(_offers(task, request.digest) for task in turn.tasks.values()):
        raise InvalidUpdate("not a whole that is offered", Reason.NOT_HERE)
    settings, session = turn.settings, turn.session(device)
    earned = (turn.now_s - session.chunks_at_s) * settings.chunks_per_s
    chunks = min(float(settings.chunks_burst), session.chunks + earned)
    wanted = len(request.indices)
    if wanted > chunks:
        raise InvalidUpdate("asks for chunks too fast", Reason.BUSY)
    turn.put_session(
        device, evolve(session, chunks=chunks - wanted, chunks_at_s=turn.now_s)
    )
    turn.emit(PublishChunks(device, request.digest, request.indices))


def _offers(task: TaskState, digest: Digest) -> bool:
    # While a task is being opened its bytes may be at another one of us only.
    return digest in task.wholes and not task.opening
