"""Sealed vectors that other coordinators admitted: announced, asked for, opened.

An update that another coordinator announces waits for a block only once we hold its
vector and have opened it: else a board and one coordinator could fill every proposal
with an update that nobody else can check. A vector that our box does not open may open
for others; they pass its content key, and the commitment shows that it is the right
one. If our box is not what that key gives, the board is accused (`sealed_blob`).
"""

from collections.abc import Sequence
from dataclasses import replace

from starling.coordinator.chain.state import (
    board_records,
    task_records,
    transaction_codec,
)
from starling.coordinator.commit import evidence_submission
from starling.coordinator.commit.transaction_submission import submit_upload
from starling.coordinator.downloads import request_scheduler
from starling.coordinator.models.model_versions import resume
from starling.coordinator.peers import directory
from starling.coordinator.step.admitted_updates import AdmittedUpdate, admitted_key
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.effects import SendContentKey, StoreUpload
from starling.coordinator.step.state import OWN
from starling.coordinator.update.admission_checks import open_update
from starling.coordinator.update.norm_bound import check_norm, norm_bound
from starling.coordinator.wire.frames import ContentKeyAnswer, UploadAnswer
from starling.protocol.crypto.sealed_blob import blob_digest, take_key
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import (
    ClosedUpdate,
    InvalidUpdate,
    ProtocolError,
    Reason,
    SignatureError,
    StaleUpdate,
)
from starling.protocol.ids import DeviceId, Digest
from starling.protocol.learning.task import TaskSpec
from starling.protocol.wire.envelope import Envelope
from starling.protocol.wire.message_bodies import Contribution

UPLOAD_COMES_S = 0.2
"""That an upload may come later to us than to others, before we ask for it."""
UPLOAD_WAITS_S = 1.0
"""And how much longer, at each attempt, while uploads wait here that are not looked at
yet: the answers to what is asked for would keep a busy one from them."""
KEYS_MAX = 4096
"""Content keys kept; one that was forgotten is asked for again."""


def announced(step: CoordinatorStep, who: DeviceId, update: Envelope) -> None:
    """Another coordinator took an update that may wait for a block here, too.

    Raises:
      ProtocolError: If it is none, or nobody of the fleet signed it.
    """
    body = transaction_codec.contribution(update.body)
    tree, chain_id = step.state.ledger.tree, step.settings.gate.chain_id
    device, identity = (
        board_records.owner(tree, update.sender),
        update.identity(chain_id),
    )
    held = step.state.held.get(admitted_key(device, body.task, body.version))
    known = board_records.update_of(tree, body.task, device, body.version)
    if known == identity or (held is not None and held.transaction == identity):
        return
    # Before the signature: what the chain will not take is worth no verification.
    if not _may_count(step, update, body):
        return
    update.check(chain_id)
    # Another update for the same base: the two are looked at as evidence.
    if known is not None or held is not None:
        evidence_submission.update_from_peer(step, update)
        return
    fresh = [
        key
        for key in request_scheduler.vectors([identity])
        if (one := step.state.wanted.get(key)) is not None
        and who not in one.sources
        # A download that runs is left to its giver.
        and one.pull is None
    ]
    request_later(step, [identity], who, who)
    # Others may have named it long before they had it.
    request_scheduler.hasten(step, fresh, who)


def request_later(
    step: CoordinatorStep,
    updates: Sequence[Digest],
    first: DeviceId | None = None,
    source: DeviceId = OWN,
) -> None:
    """Wants the vectors of updates that may be on their way from the boards.

    Args:
      step: The step.
      updates: Their ids.
      first: Whom to ask first.
      source: Which coordinator named them.
    """
    # Elsewhere boards publish at other brokers: nothing comes here unasked.
    patience_s = UPLOAD_WAITS_S if step.settings.shared else 0.0
    # Those whose vectors do not open here are asked for with their content keys.
    closed = [
        key for key in request_scheduler.keys(updates) if key in step.state.wanted
    ]
    request_scheduler.request_blob(step, closed, source=source)
    keys = request_scheduler.uploads(
        # A vector that does not open here would only come once more.
        update
        for update in updates
        if request_scheduler.keys([update])[0] not in closed
    )
    request_scheduler.request_blob(
        step, keys, UPLOAD_COMES_S, first, patience_s, source
    )


def _may_count(step: CoordinatorStep, update: Envelope, body: Contribution) -> bool:
    """True if the chain might take an update, by its sender and base version."""
    task, tip = step.state.tasks.get(body.task), step.state.ledger.tip
    board = board_records.signer(tip.tree, update.sender)
    if task is None or board is None or tip.is_jailed(board):
        return False
    return 0 <= task.head - body.version <= task.spec.aggregation.staleness_max


def upload_received(
    step: CoordinatorStep, who: DeviceId | None, given: UploadAnswer
) -> None:
    """Takes the vector of an update that we asked for, from whoever gives it.

    Raises:
      ProtocolError: If it is another one, or passes not what `admission_checks` asks.
    """
    chain_id = step.settings.gate.chain_id
    identity = given.update.identity(chain_id)
    (key,) = request_scheduler.uploads([identity])
    if key not in step.state.wanted:
        return
    given.update.check(chain_id)
    try:
        _take(step, identity, given.update, given.blob, None)
    except ClosedUpdate:
        sources = step.state.wanted[key].sources
        request_scheduler.forget(step, [key])
        # On the word of the same coordinators, so that it fills their room and not the
        # own.
        for source in sorted(sources):
            request_scheduler.request_blob(
                step, request_scheduler.keys([identity]), first=who, source=source
            )
        return
    vectors_arrived(step, [key])


def content_key_received(
    step: CoordinatorStep, who: DeviceId, given: ContentKeyAnswer
) -> None:
    """Takes the content key of an update that our box does not open.

    Raises:
      ProtocolError: If it is not for us, or not the one that the board committed to.
    """
    gate = step.settings.gate
    update = given.update
    identity = update.identity(gate.chain_id)
    (key,) = request_scheduler.keys([identity])
    if key not in step.state.wanted:
        return
    update.check(gate.chain_id)
    content_key = take_key(given.box, identity, gate.key, _sealing_key(step, who))
    _take(step, identity, update, given.blob, content_key)
    evidence_submission.missealed(step, update, given.blob, content_key)
    # The oldest goes first, as dictionaries keep their order.
    rest = list(step.state.keys.items())[1 - KEYS_MAX :]
    step.state = evolve(step.state, keys={**dict(rest), identity: content_key})
    vectors_arrived(step, [key])


def send_content_key(
    step: CoordinatorStep, who: DeviceId, update: Digest, pieces: tuple[int, ...] = ()
) -> None:
    """Passes the content key of an update to whoever asks, if we have it."""
    box_for, content_key = _sealing_key(step, who), step.state.keys.get(update)
    step.emit(SendContentKey(who, update, box_for, content_key, pieces))


def _sealing_key(step: CoordinatorStep, who: DeviceId) -> bytes:
    found = directory.sealing_key(step.state.ledger, who)
    if found is None:
        raise SignatureError("a former coordinator", Reason.NOT_AUTHORISED)
    return found


def _take(
    step: CoordinatorStep,
    identity: Digest,
    update: Envelope,
    blob: bytes,
    content_key: bytes | None,
) -> None:
    """Stores a vector that the chain has, or that passes admission's checks of it."""
    evidence_submission.update_from_peer(step, update)
    body = transaction_codec.contribution(update.body)
    device = board_records.owner(step.state.ledger.tree, update.sender)
    known = board_records.update_of(
        step.state.ledger.tree, body.task, device, body.version
    )
    task = step.state.tasks.get(body.task)
    if task is None or (known is not None and known != identity):
        return
    # The chain has this very update: only its bytes are compared, as a quorum saw to
    # the rest.
    if known == identity and content_key is None:
        if blob_digest(blob) != body.blob:
            detail = "blob differs from its digest"
            raise InvalidUpdate(detail, Reason.COMMITMENT_MISMATCH)
        step.emit(StoreUpload(identity, update, blob))
        return
    if known is None:
        _check_may_enter(step, update, body, task.spec)
    # Opened before it is stored: a vector that cannot be checked is not held.
    vector = open_update(step.settings.gate.key, update, blob, task.spec, content_key)
    check_norm(vector, norm_bound(task.spec, body.pledge))
    step.emit(StoreUpload(identity, update, blob))
    if known is None:
        held = AdmittedUpdate(identity, body.version, body.task, step.now_s, update)
        step.state = evolve(
            step.state,
            held=step.state.held.put(
                admitted_key(device, body.task, body.version), held
            ),
        )
        submit_upload(step, update)


def _check_may_enter(
    step: CoordinatorStep, update: Envelope, body: Contribution, spec: TaskSpec
) -> None:
    """Refuses to keep what enters no block: who proposes may name anything.

    Raises:
      ProtocolError: If no board of the fleet signed it, or for no recent version.
    """
    tree = step.state.ledger.tree
    board = board_records.signer(tree, update.sender)
    head = task_records.head(tree, body.task) or 0
    recent = 0 <= head - body.version <= spec.aggregation.staleness_max
    if board is not None and recent:
        return
    identity = update.identity(step.settings.gate.chain_id)
    # Asked for no more, as any other giver would bring the same.
    request_scheduler.forget(step, request_scheduler.vectors([identity]))
    if board is None:
        raise ProtocolError("an update of no board", Reason.NOT_ENROLLED)
    raise StaleUpdate(f"an update for version {body.version}; the head is {head}")


def vectors_arrived(step: CoordinatorStep, keys: Sequence[bytes]) -> None:
    """Lets go on whoever waited for these alone."""
    request_scheduler.forget(step, keys)
    gone = frozenset(keys)
    for task in list(step.state.tasks.values()):
        if gone & task.missing:
            # Something came, so that the patience with the sought version begins again.
            missing = task.missing - gone
            give_up_at_s = step.now_s + task.patience_s
            task = replace(task, missing=missing, give_up_at_s=give_up_at_s)
            step.put_task(task)
            resume(step, task)
