"""The coordinator as a pure function: `step(settings, state, event) -> effects`.

It keeps the chain through its ledger, admits updates, lets boards train, hands out jobs
and publishes versions. What peers send never raises here: it is refused and counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

from starling.coordinator.availability import bundle_examination
from starling.coordinator.boards import (
    board_refusals,
    health_requests,
    lease_grants,
)
from starling.coordinator.chain.execution.transaction_table import TRANSACTIONS
from starling.coordinator.chain.node import node
from starling.coordinator.chain.node.node import ChainState
from starling.coordinator.chain.state import board_records, task_records
from starling.coordinator.commit import block_commit, evidence_submission
from starling.coordinator.commit.transaction_submission import (
    advance,
    submit,
    submit_upload,
)
from starling.coordinator.downloads import request_scheduler
from starling.coordinator.handlers import (
    board_messages,
    chain_messages,
    deferred_proposals,
    peer_messages,
)
from starling.coordinator.leases.lease_table import LeaseTable
from starling.coordinator.models import (
    held_out_losses,
    manifest_publication,
    model_versions,
    version_scores,
)
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.effects import (
    DropEvidence,
    Effect,
    RecordOverLimit,
    RecordRefusal,
    RemoveInboxFile,
    SendMessage,
    StoreFailure,
)
from starling.coordinator.step.events import (
    BoardMessageArrived,
    BoardStateArrived,
    BundleExamined,
    BusConnected,
    BusDisconnected,
    ChunkArrived,
    ClockTicked,
    ComputationFailed,
    EvaluationFailed,
    Event,
    MissingBlobsFound,
    PeerFrameArrived,
    ScoringFailed,
    TransactionArrived,
    UpdateLookedUp,
    UploadsQueued,
    VersionComputed,
    VersionEvaluated,
    VersionScored,
)
from starling.coordinator.step.pending_proposal import ProgressTimes
from starling.coordinator.step.state import (
    AdmittedUpdate,
    CoordinatorSettings,
    CoordinatorState,
    TaskState,
    admitted_key,
)
from starling.coordinator.wire.rate_limit import rates, spend
from starling.protocol.chain.light_client import ValidatorSetTransition
from starling.protocol.chain.update_scores import SCORE
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import DecodeError, ProtocolError, Reason
from starling.protocol.ids import Digest, TaskId, Version
from starling.protocol.learning.progress_guard import EVALUATION
from starling.protocol.learning.task import ModelDigests
from starling.protocol.wire.envelope import (
    ENVELOPE,
    Envelope,
    MessageKind,
    sign,
)
from starling.protocol.wire.message_bodies import (
    ATTEST,
    CONTRIBUTION,
    COORDINATOR_STATE,
)
from starling.protocol.wire.message_bodies import CoordinatorOnlineState as ShownState


@dataclass(frozen=True)
class RestoredState:
    """State that was read from disk.

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

    ledger: ChainState
    counter: int
    models: Mapping[TaskId, tuple[Version, ModelDigests]]
    wholes: Mapping[TaskId, tuple[Digest, ...]]
    uploads: Sequence[Envelope]
    charge_max: int
    attested: Mapping[TaskId, ModelDigests] = field(default_factory=dict)
    evidence: Sequence[tuple[Envelope, Envelope]] = ()
    spent: Sequence[tuple[Digest, Envelope]] = ()
    handovers: tuple[ValidatorSetTransition, ...] = ()


def begin(
    settings: CoordinatorSettings, restored: RestoredState, now_s: float, now_ms: int
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
        pace=ProgressTimes(now_s, now_s),
        handovers=restored.handovers,
    )
    turn = CoordinatorStep(settings, state, now_s, now_ms)
    for number, (version, model) in sorted(restored.models.items()):
        spec = task_records.task(restored.ledger.tree, number)
        assert spec is not None
        leases = LeaseTable(lease_grants.lease_places(turn, spec))
        task = TaskState(number, spec, version, model, leases)
        wholes = (spec.bundle, *restored.wholes.get(number, ()))
        attested = restored.attested.get(number)
        task = replace(task, wholes=wholes, attested=attested)
        turn.put_task(task)
        if not restored.ledger.alone:
            model_versions.secure(turn, task)
    # First, while the chain is as it was stored: the ledger may decide a block that its
    # journal brings back as soon as it takes a step.
    model_versions.follow_chain(turn)
    for update in restored.uploads:
        _hold_again(turn, update)
    for known, other in restored.spent:
        turn.emit(DropEvidence(known, other))
    for first, second in restored.evidence:
        evidence_submission.accuse(turn, first, second)
    advance(turn, node.ChainTicked())
    request_scheduler.send_due_requests(turn)
    return turn.result()


def step(
    settings: CoordinatorSettings,
    state: CoordinatorState,
    event: Event,
    now_s: float,
    now_ms: int,
) -> tuple[CoordinatorState, tuple[Effect, ...]]:
    """Applies an event: the next state, and the effects to carry out.

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
    if isinstance(event, ChunkArrived | BoardMessageArrived | BoardStateArrived):
        earns = rates(task.spec for task in state.tasks.values())
        size = len(event.payload)
        paid = spend(state.allowances, event.device, size, earns, now_s)
        if paid is None:
            return state, (RecordOverLimit(event.device),)
        state = evolve(state, allowances=paid)
    turn = CoordinatorStep(settings, state, now_s, now_ms)
    _take(turn, event)
    if turn.state.parked:
        deferred_proposals.release_deferred_proposals(turn)
    if turn.state.ask_at_s <= now_s:
        request_scheduler.send_due_requests(turn)
    if turn.state.left_at_s <= now_s:
        board_messages.answer_overdue(turn)
    return turn.result()


def _take(turn: CoordinatorStep, event: Event) -> None:
    match event:
        case ChunkArrived() | BoardMessageArrived() | BoardStateArrived():
            _board_spoke(turn, event)
        case PeerFrameArrived():
            peer_messages.frame_arrived(turn, event)
        case TransactionArrived(name, content):
            _transaction_arrived(turn, name, content)
        case (
            VersionComputed()
            | ComputationFailed()
            | VersionEvaluated()
            | EvaluationFailed()
            | VersionScored()
            | ScoringFailed()
            | BundleExamined()
            | MissingBlobsFound()
            | UpdateLookedUp()
        ):
            _work_ended(turn, event)
        case BusConnected():
            _connected(turn)
        case BusDisconnected():
            turn.state = evolve(turn.state, connected=False)
        case UploadsQueued(waits):
            turn.state = evolve(turn.state, uploads_wait=waits, ask_at_s=turn.now_s)
        case ClockTicked():
            lease_grants.share_lease_places(turn)
            lease_grants.expire(turn)
            model_versions.retry_jobs(turn)
            model_versions.give_up(turn)
            bundle_examination.submit_held(turn)
            advance(turn, node.ChainTicked())
            chain_messages.repeat_waiting_transactions(turn)
            model_versions.announce_again(turn)
        case _:
            assert_never(event)


def farewell(settings: CoordinatorSettings, counter: int, height: int) -> SendMessage:
    """Our last will: the retained state that says that we are gone."""
    return _own_state(settings, counter, ShownState(0, height))


def _board_spoke(
    turn: CoordinatorStep, event: ChunkArrived | BoardMessageArrived | BoardStateArrived
) -> None:
    match event:
        case ChunkArrived(device, payload):
            board_messages.chunk_arrived(turn, device, payload)
        case BoardMessageArrived(device, payload):
            board_messages.board_message_arrived(turn, device, payload)
        case BoardStateArrived(device, payload):
            board_messages.state_arrived(turn, device, payload)
        case _:
            assert_never(event)


def _work_ended(
    turn: CoordinatorStep,
    event: (
        VersionComputed
        | ComputationFailed
        | VersionEvaluated
        | EvaluationFailed
        | VersionScored
        | ScoringFailed
        | BundleExamined
        | MissingBlobsFound
        | UpdateLookedUp
    ),
) -> None:
    match event:
        case VersionComputed():
            body = model_versions.computed(turn, event)
            if body is not None:
                submit(turn, turn.sign(MessageKind.ATTEST, ATTEST.pack(body)))
        case ComputationFailed():
            model_versions.not_computed(turn, event)
        case MissingBlobsFound():
            model_versions.secured(turn, event)
        case BundleExamined():
            bundle_examination.bundle_examined(turn, event)
        case UpdateLookedUp():
            evidence_submission.first_update_found(turn, event)
        case (
            VersionEvaluated() | EvaluationFailed() | VersionScored() | ScoringFailed()
        ):
            _trial_ended(turn, event)
        case _:
            assert_never(event)


def _trial_ended(
    turn: CoordinatorStep,
    event: VersionEvaluated | EvaluationFailed | VersionScored | ScoringFailed,
) -> None:
    match event:
        case VersionEvaluated():
            stated = held_out_losses.evaluated(turn, event)
            if stated is not None:
                packed = EVALUATION.pack(stated)
                submit(turn, turn.sign(MessageKind.EVALUATION, packed))
        case EvaluationFailed(task, version, detail):
            turn.emit(StoreFailure(task, version))
            turn.report(f"task {task}: version {version} was not tried: {detail}")
        case VersionScored():
            scores = version_scores.scored(turn, event)
            if scores is not None:
                submit(turn, turn.sign(MessageKind.SCORE, SCORE.pack(scores)))
        case ScoringFailed(task, version, detail):
            turn.report(f"task {task}: version {version} was not scored: {detail}")
        case _:
            assert_never(event)


def _own_state(
    settings: CoordinatorSettings, counter: int, shown: ShownState
) -> SendMessage:
    body = COORDINATOR_STATE.pack(shown)
    chain_id = settings.gate.chain_id
    envelope = sign(
        settings.ledger.key, chain_id, MessageKind.COORDINATOR_STATE, counter, body
    )
    topic = settings.topics.coordinator_state(settings.name)
    return SendMessage(topic, ENVELOPE.pack(envelope), retain=True)


def _connected(turn: CoordinatorStep) -> None:
    turn.state = evolve(
        turn.state,
        connected=True,
        since_s=turn.now_s,
        announce_at_s=turn.now_s + manifest_publication.ANNOUNCE_AFTER_S,
    )
    shown = ShownState(1, turn.state.ledger.height)
    turn.emit(_own_state(turn.settings, turn.take_counter(), shown))
    board_refusals.connected(turn)
    if turn.state.ledger.alone:
        for task in turn.state.tasks.values():
            manifest_publication.announce(turn, task)


def _transaction_arrived(turn: CoordinatorStep, name: str, content: bytes) -> None:
    chain_id = turn.settings.gate.chain_id
    try:
        envelope = ENVELOPE.unpack(content)
        if envelope.kind == MessageKind.HEALTH_REQUEST:
            envelope.check(chain_id)
            health_requests.ask(turn, name, envelope)
            return
        if envelope.kind not in TRANSACTIONS:
            raise DecodeError("not a transaction", Reason.UNKNOWN_KIND)
        envelope.check(chain_id)
    except ProtocolError as error:
        turn.emit(RecordRefusal(None, error.reason, f"{name}: {error}"))
        turn.emit(RemoveInboxFile(name, error.reason, str(error)))
        return
    identity = envelope.identity(chain_id)
    turn.state = evolve(turn.state, inbox={**turn.state.inbox, identity: name})
    if envelope.kind != MessageKind.TASK:
        submit(turn, envelope)
        return
    try:
        bundle_examination.submit_task(turn, envelope)
    except ProtocolError as error:
        block_commit.transaction_refused(turn, identity, error.reason, str(error))


def _hold_again(turn: CoordinatorStep, update: Envelope) -> None:
    body = CONTRIBUTION.unpack(update.body)
    tree = turn.state.ledger.tree
    device = board_records.owner(tree, update.sender)
    if board_records.update_of(tree, body.task, device, body.version) is not None:
        return
    identity = update.identity(turn.settings.gate.chain_id)
    held = AdmittedUpdate(identity, body.version, body.task, turn.now_s, update)
    key = admitted_key(device, body.task, body.version)
    turn.state = evolve(turn.state, held=turn.state.held.put(key, held))
    submit_upload(turn, update)
