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
from starling.coordinator.step.admitted_updates import AdmittedUpdate, admitted_key
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
    CoordinatorSettings,
    CoordinatorState,
    TaskState,
)
from starling.coordinator.wire.rate_limit import spend
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
from starling.protocol.wire.token_bucket import rates, upload_bytes_max


@dataclass(frozen=True)
class RestoredState:
    """State that was read from disk.

    Attributes:
      ledger: The chain, ready to go on.
      counter: Above every counter that was ever signed with.
      models: The newest final version of each task.
      blobs: Older digests that stay on offer, by task.
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
    blobs: Mapping[TaskId, tuple[Digest, ...]]
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
    step = CoordinatorStep(settings, state, now_s, now_ms)
    for number, (version, model) in sorted(restored.models.items()):
        spec = task_records.task(restored.ledger.tree, number)
        assert spec is not None
        leases = LeaseTable(lease_grants.lease_places(step, spec))
        task = TaskState(number, spec, version, model, leases)
        blobs = (spec.bundle, *restored.blobs.get(number, ()))
        attested = restored.attested.get(number)
        task = replace(task, blobs=blobs, attested=attested)
        step.put_task(task)
        # One that is alone has nobody to get missing bytes from.
        if not restored.ledger.alone:
            model_versions.secure(step, task)
    # First, while the chain is as it was stored: the ledger may decide a block that its
    # journal brings back as soon as it takes a step.
    model_versions.follow_chain(step)
    for update in restored.uploads:
        _hold_again(step, update)
    for known, other in restored.spent:
        step.emit(DropEvidence(known, other))
    for first, second in restored.evidence:
        evidence_submission.accuse(step, first, second)
    advance(step, node.ChainTicked())
    request_scheduler.send_due_requests(step)
    return step.result()


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
        earns = rates(upload_bytes_max(task.spec for task in state.tasks.values()))
        size = len(event.payload)
        paid = spend(state.allowances, event.device, size, earns, now_s)
        if paid is None:
            return state, (RecordOverLimit(event.device),)
        state = evolve(state, allowances=paid)
    step = CoordinatorStep(settings, state, now_s, now_ms)
    _take(step, event)
    # After the event, which may have brought what a proposal waits for.
    if step.state.parked:
        deferred_proposals.release_deferred_proposals(step)
    if step.state.ask_at_s <= now_s:
        request_scheduler.send_due_requests(step)
    if step.state.left_at_s <= now_s:
        board_messages.answer_overdue(step)
    return step.result()


def _take(step: CoordinatorStep, event: Event) -> None:
    match event:
        case ChunkArrived() | BoardMessageArrived() | BoardStateArrived():
            _board_spoke(step, event)
        case PeerFrameArrived():
            peer_messages.frame_arrived(step, event)
        case TransactionArrived(name, content):
            _transaction_arrived(step, name, content)
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
            _work_ended(step, event)
        case BusConnected():
            _connected(step)
        case BusDisconnected():
            step.state = evolve(step.state, connected=False)
        case UploadsQueued(waits):
            step.state = evolve(step.state, uploads_wait=waits, ask_at_s=step.now_s)
        case ClockTicked():
            lease_grants.share_lease_places(step)
            lease_grants.expire(step)
            model_versions.retry_jobs(step)
            model_versions.give_up(step)
            bundle_examination.submit_held(step)
            advance(step, node.ChainTicked())
            chain_messages.repeat_waiting_transactions(step)
            model_versions.announce_again(step)
        case _:
            assert_never(event)


def farewell(settings: CoordinatorSettings, counter: int, height: int) -> SendMessage:
    """Our last will: the retained state that says that we are gone."""
    return _own_state(settings, counter, ShownState(0, height))


def _board_spoke(
    step: CoordinatorStep, event: ChunkArrived | BoardMessageArrived | BoardStateArrived
) -> None:
    match event:
        case ChunkArrived(device, payload):
            board_messages.chunk_arrived(step, device, payload)
        case BoardMessageArrived(device, payload):
            board_messages.board_message_arrived(step, device, payload)
        case BoardStateArrived(device, payload):
            board_messages.state_arrived(step, device, payload)
        case _:
            assert_never(event)


def _work_ended(
    step: CoordinatorStep,
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
            body = model_versions.computed(step, event)
            if body is not None:
                submit(step, step.sign(MessageKind.ATTEST, ATTEST.pack(body)))
        case ComputationFailed():
            model_versions.not_computed(step, event)
        case MissingBlobsFound():
            model_versions.secured(step, event)
        case BundleExamined():
            bundle_examination.bundle_examined(step, event)
        case UpdateLookedUp():
            evidence_submission.first_update_found(step, event)
        case (
            VersionEvaluated() | EvaluationFailed() | VersionScored() | ScoringFailed()
        ):
            _trial_ended(step, event)
        case _:
            assert_never(event)


def _trial_ended(
    step: CoordinatorStep,
    event: VersionEvaluated | EvaluationFailed | VersionScored | ScoringFailed,
) -> None:
    match event:
        case VersionEvaluated():
            stated = held_out_losses.evaluated(step, event)
            if stated is not None:
                packed = EVALUATION.pack(stated)
                submit(step, step.sign(MessageKind.EVALUATION, packed))
        case EvaluationFailed(task, version, detail):
            step.emit(StoreFailure(task, version))
            step.report(f"task {task}: version {version} was not tried: {detail}")
        case VersionScored():
            scores = version_scores.scored(step, event)
            if scores is not None:
                submit(step, step.sign(MessageKind.SCORE, SCORE.pack(scores)))
        case ScoringFailed(task, version, detail):
            step.report(f"task {task}: version {version} was not scored: {detail}")
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


def _connected(step: CoordinatorStep) -> None:
    step.state = evolve(
        step.state,
        connected=True,
        since_s=step.now_s,
        announce_at_s=step.now_s + manifest_publication.ANNOUNCE_AFTER_S,
    )
    shown = ShownState(1, step.state.ledger.height)
    step.emit(_own_state(step.settings, step.take_counter(), shown))
    board_refusals.connected(step)
    if step.state.ledger.alone:
        for task in step.state.tasks.values():
            manifest_publication.announce(step, task)


def _transaction_arrived(step: CoordinatorStep, name: str, content: bytes) -> None:
    chain_id = step.settings.gate.chain_id
    try:
        envelope = ENVELOPE.unpack(content)
        if envelope.kind == MessageKind.HEALTH_REQUEST:
            envelope.check(chain_id)
            health_requests.ask(step, name, envelope)
            return
        if envelope.kind not in TRANSACTIONS:
            raise DecodeError("not a transaction", Reason.UNKNOWN_KIND)
        envelope.check(chain_id)
    except ProtocolError as error:
        step.emit(RecordRefusal(None, error.reason, f"{name}: {error}"))
        step.emit(RemoveInboxFile(name, error.reason, str(error)))
        return
    identity = envelope.identity(chain_id)
    # First: a refusal may come within this very step, and has to find the file.
    step.state = evolve(step.state, inbox={**step.state.inbox, identity: name})
    if envelope.kind != MessageKind.TASK:
        submit(step, envelope)
        return
    try:
        bundle_examination.submit_task(step, envelope)
    except ProtocolError as error:
        block_commit.transaction_refused(step, identity, error.reason, str(error))


def _hold_again(step: CoordinatorStep, update: Envelope) -> None:
    body = CONTRIBUTION.unpack(update.body)
    tree = step.state.ledger.tree
    device = board_records.owner(tree, update.sender)
    # The chain has this base's update already.
    if board_records.update_of(tree, body.task, device, body.version) is not None:
        return
    identity = update.identity(step.settings.gate.chain_id)
    held = AdmittedUpdate(identity, body.version, body.task, step.now_s, update)
    key = admitted_key(device, body.task, body.version)
    step.state = evolve(step.state, held=step.state.held.put(key, held))
    submit_upload(step, update)
