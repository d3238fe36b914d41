"""Sealed vectors that other coordinators admitted: announced, asked for, opened.

An update that another coordinator announces waits for a block only once we hold its
vector and have opened it: else a board and one coordinator could fill every proposal
with an update that nobody else can check. A vector that our box does not open may open
for others; they pass its content key, and the commitment shows that it is the right
one. If our box is not what that key gives, the board is accused (DESIGN 5, Sealing).
"""

from collections.abc import Sequence
from dataclasses import replace

from coordinator import accusation, membership, wanting
from coordinator.admission import open_update
from coordinator.effects import GiveKey, StoreUpload
from coordinator.gossip import GivenKey, GivenUpload
from coordinator.ledger import transactions, views
from coordinator.robust.norm import check_norm, norm_bound
from coordinator.state import OWN, Held, held_key
from coordinator.submission import submit_upload
from coordinator.turn import Turn
from coordinator.versioning import resume
from protocol.envelope import Envelope
from protocol.errors import (
    ClosedUpdate,
    InvalidUpdate,
    ProtocolError,
    Reason,
    SignatureError,
    StaleUpdate,
)
from protocol.ids import DeviceId, Digest
from protocol.messages import Contribution
from protocol.sealing import blob_digest, take_key
from protocol.task import TaskSpec

UPLOAD_COMES_S = 0.2
"""That an upload may come later to us than to others, before we ask for it."""
UPLOAD_WAITS_S = 1.0
"""And how much longer, at each attempt, while uploads wait here that are not looked at
yet: the answers to what is asked for would keep a busy one from them."""
KEYS_MAX = 4096
"""Content keys kept; one that was forgotten is asked for again."""


def announced(turn: Turn, who: DeviceId, packed: bytes) -> None:
    """Another coordinator took an update that may wait for a block here, too.

    Raises:
      ProtocolError: If it is none, or nobody of the fleet signed it.
    """
    update = transactions.unpack(packed)
    body = transactions.contribution(update.body)
    tree, chain_id = turn.ledger.tree, turn.settings.gate.chain_id
    device, identity = views.owner(tree, update.sender), update.identity(chain_id)
    held = turn.held.get(held_key(device, body.task, body.version))
    known = views.update_of(tree, body.task, device, body.version)
    if known == identity or (held is not None and held.transaction == identity):
        return
    if not _may_count(turn, update, body):
        return
    update.check(chain_id)
    if known is not None or held is not None:
        accusation.met(turn, update)
        return
    want_later(turn, [identity], who, who)


def want_later(
    turn: Turn,
    updates: Sequence[Digest],
    first: DeviceId | None = None,
    source: DeviceId = OWN,
) -> None:
    """Wants the vectors of updates that may be on their way from the boards.

    Args:
      turn: The step.
      updates: Their ids.
      first: Whom to ask first.
      source: Which coordinator named them.
    """
    # Elsewhere boards publish at other brokers: nothing comes here unasked.
    patience_s = UPLOAD_WAITS_S if turn.settings.shared else 0.0
    # Those whose vectors do not open here are asked for with their content keys.
    closed = [key for key in wanting.keys(updates) if key in turn.wanted]
    wanting.want(turn, closed, source=source)
    keys = wanting.uploads(
        update for update in updates if wanting.keys([update])[0] not in closed
    )
    wanting.want(turn, keys, UPLOAD_COMES_S, first, patience_s, source)


def _may_count(turn: Turn, update: Envelope, body: Contribution) -> bool:
    """Whether the chain might take an update, by its sender and base version."""
    task, board = (
        turn.tasks.get(body.task),
        views.signer(turn.ledger.tree, update.sender),
    )
    if task is None or board is None or board.jailed:
        return False
    return 0 <= task.head - body.version <= task.spec.aggregation.staleness_max


def upload_given(turn: Turn, who: DeviceId | None, given: GivenUpload) -> None:
    """Takes the vector of an update that we asked for, from whoever gives it.

    Raises:
      ProtocolError: If it is another one, or passes not what `admission` asks.
    """
    chain_id = turn.settings.gate.chain_id
    identity = given.update.identity(chain_id)
    (key,) = wanting.uploads([identity])
    if key not in turn.wanted:
        return
    given.update.check(chain_id)
    try:
        _take(turn, identity, given.update, given.blob, None)
    except ClosedUpdate:
        sources = turn.wanted[key].sources
        wanting.forget(turn, [key])
        for source in sorted(sources):
            wanting.want(turn, wanting.keys([identity]), first=who, source=source)
        return
    came(turn, [key])


def key_given(turn: Turn, who: DeviceId, given: GivenKey) -> None:
    """Takes the content key of an update that our box does not open.

    Raises:
      ProtocolError: If it is not for us, or not the one that the board committed to.
    """
    gate = turn.settings.gate
    update = given.update
    identity = update.identity(gate.chain_id)
    (key,) = wanting.keys([identity])
    if key not in turn.wanted:
        return
    update.check(gate.chain_id)
    content_key = take_key(given.box, identity, gate.key, _sealing_key(turn, who))
    _take(turn, identity, update, given.blob, content_key)
    accusation.missealed(turn, update, given.blob, content_key)
    rest = list(turn.keys.items())[1 - KEYS_MAX :]
    turn.keys = {**dict(rest), identity: content_key}
    came(turn, [key])


def give_key(
    turn: Turn, who: DeviceId, update: Digest, pieces: tuple[int, ...] = ()
) -> None:
    """Passes the content key of an update to whoever asks, if we have it."""
    box_for, content_key = _sealing_key(turn, who), turn.keys.get(update)
    turn.emit(GiveKey(who, update, box_for, content_key, pieces))


def _sealing_key(turn: Turn, who: DeviceId) -> bytes:
    found = membership.sealing_key(turn.ledger, who)
    if found is None:
        raise SignatureError("a former coordinator", Reason.NOT_AUTHORISED)
    return found


def _take(
    turn: Turn,
    identity: Digest,
    update: Envelope,
    blob: bytes,
    content_key: bytes | None,
) -> None:
    """Stores a vector that the chain has, or that passes admission's checks of it."""
    accusation.met(turn, update)
    body = transactions.contribution(update.body)
    device = views.owner(turn.ledger.tree, update.sender)
    known = views.update_of(turn.ledger.tree, body.task, device, body.version)
    task = turn.tasks.get(body.task)
    if task is None or (known is not None and known != identity):
        return
    if known == identity and content_key is None:
        if blob_digest(blob) != body.blob:
            detail = "blob differs from its digest"
            raise InvalidUpdate(detail, Reason.COMMITMENT_MISMATCH)
        turn.emit(StoreUpload(identity, update, blob))
        return
    if known is None:
        _check_may_enter(turn, update, body, task.spec)
    vector = open_update(turn.settings.gate.key, update, blob, task.spec, content_key)
    check_norm(vector, norm_bound(task.spec, body.pledge))
    turn.emit(StoreUpload(identity, update, blob))
    if known is None:
        held = Held(identity, body.version, body.task, turn.now_s, update)
        turn.held = turn.held.put(held_key(device, body.task, body.version), held)
        submit_upload(turn, update)


def _check_may_enter(
    turn: Turn, update: Envelope, body: Contribution, spec: TaskSpec
) -> None:
    """Refuses to keep what enters no block: who proposes may name anything.

    Raises:
      ProtocolError: If no board of the fleet signed it, or for no recent version.
    """
    tree = turn.ledger.tree
    board = views.signer(tree, update.sender)
    head = views.head(tree, body.task) or 0
    recent = 0 <= head - body.version <= spec.aggregation.staleness_max
    if board is not None and recent:
        return
    identity = update.identity(turn.settings.gate.chain_id)
    wanting.forget(turn, wanting.vectors([identity]))
    if board is None:
        raise ProtocolError("an update of no board", Reason.NOT_ENROLLED)
    raise StaleUpdate(f"an update for version {body.version}; the head is {head}")


def came(turn: Turn, keys: Sequence[bytes]) -> None:
    """Lets go on whoever waited for these alone."""
    wanting.forget(turn, keys)
    gone = frozenset(keys)
    for task in list(turn.tasks.values()):
        if gone & task.lacking:
            lacking = task.lacking - gone
            give_up_at_s = turn.now_s + task.patience_s
            task = replace(task, lacking=lacking, give_up_at_s=give_up_at_s)
            turn.put_task(task)
            resume(turn, task)
