"""The coordinator as a pure function: `step(settings, state, event) -> effects`.

It keeps the chain through its ledger, admits updates, lets boards train, hands out jobs
and publishes versions. What peers send never raises here: it is refused and counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

from coordinator import (
    accusation,
    finality,
    granting,
    intake,
    peers,
    versioning,
    vouching,
    wanting,
)
from coordinator.allowance import rates, spend
from coordinator.effects import (
    DropEvidence,
    Effect,
    Ignore,
    Publish,
    Refuse,
    RemoveInbox,
    StoreFailure,
    StoreMetrics,
)
from coordinator.events import (
    Aggregated,
    AggregationFailed,
    ChunkArrived,
    Connected,
    Disconnected,
    Evaluated,
    EvaluationFailed,
    Event,
    Examined,
    PeerArrived,
    Recalled,
    SaidArrived,
    Secured,
    StateArrived,
    Ticked,
    TransactionArrived,
    UploadsWait,
)
from coordinator.leases import LeaseTable
from coordinator.ledger import node, views
from coordinator.ledger.node import LedgerState
from coordinator.pending import Pace
from coordinator.state import (
    CoordinatorState,
    Held,
    Settings,
    TaskState,
    held_key,
)
from coordinator.submission import advance, submit, submit_upload
from coordinator.turn import Turn
from protocol.envelope import ENVELOPE, TRANSACTION_KINDS, Envelope, Kind, sign
from protocol.errors import DecodeError, ProtocolError, Reason
from protocol.evolve import evolve
from protocol.ids import Digest, TaskId, Version
from protocol.light import Handover
from protocol.messages import ATTEST, CONTRIBUTION, COORDINATOR_STATE
from protocol.messages import (
    CoordinatorState as ShownState,
)
from protocol.task import ModelDigests


@dataclass(frozen=True)
class Restored:
    """What the disk gave back.

    Attributes:
      ledger: The chain, ready to go on.
      counter: Above every counter that was ever signed with.
      models: The newest final version of each task.
      wholes: Older digests that stay on offer, by task.
      uploads: Admitted updates that are not in the chain, oldest first.
      charge_max: The largest total charge of a board so far.
      attested: What we computed for the version after the newest, by task. A block
        that the vote journal brings back may make it final.
      evidence: Updates that contradict each other, of boards that the chain has not
        convicted.
      spent: Evidence that was kept and is too old for the chain by now: the known
        transaction and what contradicts it.
      handovers: The latest changes of the validator set.
    """

    ledger: LedgerState
    counter: int
    models: Mapping[TaskId, tuple[Version, ModelDigests]]
    wholes: Mapping[TaskId, tuple[Digest, ...]]
    uploads: Sequence[Envelope]
    charge_max: int
    attested: Mapping[TaskId, ModelDigests] = field(default_factory=dict)
    evidence: Sequence[tuple[Envelope, Envelope]] = ()
    spent: Sequence[tuple[Digest, Envelope]] = ()
    handovers: tuple[Handover, ...] = ()


def begin(
    settings: Settings, restored: Restored, now_s: float, now_ms: int
) -> tuple[CoordinatorState, tuple[Effect, ...]]:
    """The first state after a start, and what is still to be done.

    Admitted updates go to the ledger again and an open job is handed out again; both
    end as they would have, since they are functions of what was stored.
    """
    state = CoordinatorState(
        restored.ledger,
        restored.counter,
        charge_max=restored.charge_max,
        since_s=now_s,
        pace=Pace(now_s, now_s),
        handovers=restored.handovers,
    )
    turn = Turn(settings, state, now_s, now_ms)
    for number, (version, model) in sorted(restored.models.items()):
        spec = views.task(restored.ledger.tree, number)
        assert spec is not None
        leases = LeaseTable(granting.lease_places(turn, spec))
        task = TaskState(number, spec, version, model, leases)
        wholes = (spec.bundle, *restored.wholes.get(number, ()))
        attested = restored.attested.get(number)
        task = replace(task, wholes=wholes, attested=attested)
        turn.put_task(task)
        if not restored.ledger.alone:
            versioning.secure(turn, task)
    # First, while the chain is as it was stored: the ledger may decide a block that its
    # journal brings back as soon as it takes a step.
    versioning.follow_chain(turn)
    for update in restored.uploads:
        _hold_again(turn, update)
    for known, other in restored.spent:
        turn.emit(DropEvidence(known, other))
    for first, second in restored.evidence:
        accusation.accuse(turn, first, second)
    advance(turn, node.Ticked())
    wanting.ask_what_is_due(turn)
    return turn.state(), tuple(turn.effects)


def step(
    settings: Settings,
    state: CoordinatorState,
    event: Event,
    now_s: float,
    now_ms: int,
) -> tuple[CoordinatorState, tuple[Effect, ...]]:
    """What an event changes and what is to be done about it.

    Args:
      settings: Constant.
      state: Before the event.
      event: What happened.
      now_s: Monotonic clock, in seconds.
      now_ms: Unix time for the chain's display times; may be wrong without harm.
    """
    if state.restoring is not None and state.restoring.complete:
        # What this core knows of the chain is of the past: it is to be started anew.
        return state, ()
    if isinstance(event, ChunkArrived | SaidArrived | StateArrived):
        earns = rates(task.spec for task in state.tasks.values())
        size = len(event.payload)
        paid = spend(state.allowances, event.device, size, earns, now_s)
        if paid is None:
            return state, (Ignore(event.device),)
        state = evolve(state, allowances=paid)
    turn = Turn(settings, state, now_s, now_ms)
    _take(turn, event)
    if turn.parked:
        peers.release_parked(turn)
    if turn.ask_at_s <= now_s:
        wanting.ask_what_is_due(turn)
    if turn.left_at_s <= now_s:
        intake.stand_in(turn)
    return turn.state(), tuple(turn.effects)


def _take(turn: Turn, event: Event) -> None:
    match event:
        case ChunkArrived() | SaidArrived() | StateArrived():
            _board_spoke(turn, event)
        case PeerArrived():
            peers.heard(turn, event)
        case TransactionArrived(name, content):
            _transaction_arrived(turn, name, content)
        case (
            Aggregated()
            | AggregationFailed()
            | Evaluated()
            | EvaluationFailed()
            | Examined()
            | Secured()
            | Recalled()
        ):
            _work_ended(turn, event)
        case Connected():
            _connected(turn)
        case Disconnected():
            turn.connected = False
        case UploadsWait(waits):
            turn.uploads_wait, turn.ask_at_s = waits, turn.now_s
        case Ticked():
            granting.share_anew(turn)
            granting.expire(turn)
            versioning.retry_jobs(turn)
            versioning.give_up(turn)
            vouching.submit_held(turn)
            advance(turn, node.Ticked())
            peers.repeat_what_waits(turn)
            versioning.announce_again(turn)
        case _:
            assert_never(event)


def farewell(settings: Settings, counter: int, height: int) -> Publish:
    """Our last will: the retained state that says that we are gone."""
    return _own_state(settings, counter, ShownState(0, height))


def _board_spoke(turn: Turn, event: ChunkArrived | SaidArrived | StateArrived) -> None:
    match event:
        case ChunkArrived(device, payload):
            intake.chunk_arrived(turn, device, payload)
        case SaidArrived(device, payload):
            intake.said_arrived(turn, device, payload)
        case StateArrived(device, payload):
            intake.state_arrived(turn, device, payload)
        case _:
            assert_never(event)


def _work_ended(
    turn: Turn,
    event: (
        Aggregated
        | AggregationFailed
        | Evaluated
        | EvaluationFailed
        | Examined
        | Secured
        | Recalled
    ),
) -> None:
    match event:
        case Aggregated():
            body = versioning.computed(turn, event)
            if body is not None:
                submit(turn, turn.sign(Kind.ATTEST, ATTEST.pack(body)))
        case AggregationFailed():
            versioning.not_computed(turn, event)
        case Secured():
            versioning.secured(turn, event)
        case Examined():
            vouching.heard_of(turn, event)
        case Recalled():
            accusation.recalled(turn, event)
        case Evaluated():
            _evaluated(turn, event)
        case EvaluationFailed(task, version, detail):
            turn.emit(StoreFailure(task, version))
            turn.report(f"task {task}: version {version} was not tried: {detail}")
        case _:
            assert_never(event)


def _own_state(settings: Settings, counter: int, shown: ShownState) -> Publish:
    body = COORDINATOR_STATE.pack(shown)
    chain_id = settings.gate.chain_id
    envelope = sign(
        settings.ledger.key, chain_id, Kind.COORDINATOR_STATE, counter, body
    )
    topic = settings.topics.coordinator_state(settings.name)
    return Publish(topic, ENVELOPE.pack(envelope), retain=True)


def _connected(turn: Turn) -> None:
    turn.connected = True
    turn.since_s = turn.now_s
    turn.announce_at_s = turn.now_s + versioning.ANNOUNCE_AFTER_S
    shown = ShownState(1, turn.ledger.height)
    turn.emit(_own_state(turn.settings, turn.take_counter(), shown))
    if turn.ledger.alone:
        for task in turn.tasks.values():
            versioning.announce(turn, task)


def _transaction_arrived(turn: Turn, name: str, content: bytes) -> None:
    chain_id = turn.settings.gate.chain_id
    try:
        envelope = ENVELOPE.unpack(content)
        if envelope.kind not in TRANSACTION_KINDS:
            raise DecodeError("not a transaction", Reason.UNKNOWN_KIND)
        envelope.check(chain_id)
    except ProtocolError as error:
        turn.emit(Refuse(None, error.reason, f"{name}: {error}"))
        turn.emit(RemoveInbox(name))
        return
    identity = envelope.identity(chain_id)
    turn.inbox = {**turn.inbox, identity: name}
    if envelope.kind != Kind.TASK:
        submit(turn, envelope)
        return
    try:
        vouching.submit_task(turn, envelope)
    except ProtocolError as error:
        finality.transaction_refused(turn, identity, error.reason, str(error))


def _evaluated(turn: Turn, event: Evaluated) -> None:
    turn.emit(StoreMetrics(event.task, event.version, event.accuracy, event.loss))
    found = f"loss {event.loss:.4f}"
    if event.accuracy is not None:
        found = f"accuracy {100 * event.accuracy:.2f} %, {found}"
    turn.report(f"task {event.task}: version {event.version} has {found}")


def _hold_again(turn: Turn, update: Envelope) -> None:
    body = CONTRIBUTION.unpack(update.body)
    tree = turn.ledger.tree
    device = views.owner(tree, update.sender)
    if views.update_of(tree, body.task, device, body.version) is not None:
        return
    identity = update.identity(turn.settings.gate.chain_id)
    held = Held(identity, body.version, body.task, turn.now_s, update)
    key = held_key(device, body.task, body.version)
    turn.held = turn.held.put(key, held)
    submit_upload(turn, update)
