"""After a block: boards get their proofs, jobs are handed out, versions come out.

What follows from the chain's state is read from the state, level-triggered, so that a
restart and a block lead to the same actions; a block only says when to look.
"""

import math
from dataclasses import replace

from coordinator import granting, proofs
from coordinator.events import (
    Aggregate,
    AggregationFailed,
    DropUpload,
    DropUploads,
    Evaluate,
    Publish,
    Refuse,
    RemoveInbox,
    StoreVersion,
)
from coordinator.leases import LeaseTable
from coordinator.ledger import views
from coordinator.ledger.draft import BoardChanged
from coordinator.ledger.node import StoreBlock
from coordinator.ledger.views import Job
from coordinator.proofs import BlockProofs
from coordinator.state import TaskState, held_key
from coordinator.turn import Turn
from protocol.envelope import ENVELOPE, Envelope, Kind
from protocol.errors import ProtocolError, Reason
from protocol.ids import (
    DEVICE_ID_BYTES,
    DeviceId,
    Digest,
    TaskId,
    Version,
    device_id,
)
from protocol.light import MANIFEST
from protocol.messages import CONTRIBUTION
from protocol.task import ModelDigests, TaskSpec, version_digest

WHOLES_MAX = 8
"""How many digests of older versions stay on offer for boards in mid-pull."""
DROP_EVERY_BLOCKS = 64
RETRY_FIRST_S = 1.0
RETRY_MOST_S = 300.0
"""A vector may be missing here until another coordinator's copy has come."""
_DOUBLINGS_MAX = 16


def block_decided(turn: Turn, stored: StoreBlock) -> None:
    """Tells everyone concerned what stands in a block, and looks what comes next."""
    block = stored.block
    proven = BlockProofs.of(block, stored.certificate)
    for index, packed in enumerate(block.transactions):
        envelope = ENVELOPE.unpack(packed)
        if envelope.kind == Kind.UPDATE:
            _update_final(turn, envelope, proven.packed(index))
        else:
            _take_from_inbox(turn, envelope.identity(turn.settings.gate.chain_id))
    # Most blocks change nothing that this looks at, and a large job is long to read.
    if any(not isinstance(one, BoardChanged) for one in stored.happenings):
        follow_chain(turn)
    if block.header.height % DROP_EVERY_BLOCKS == 0:
        _drop_used(turn, block.header.height - turn.settings.audit_blocks)


def transaction_refused(
    turn: Turn, identity: Digest, reason: Reason, detail: str
) -> None:
    """The state machine does not take a transaction: nobody waits for it any longer."""
    if reason == Reason.ALREADY_KNOWN:
        # It waits already, or stands in a block: then its blob is still needed.
        _take_from_inbox(turn, identity)
        return
    if reason == Reason.BUSY:
        # What was acknowledged stays stored, and is submitted again at the next start.
        turn.emit(Refuse(None, reason, detail))
        return
    turn.emit(DropUpload(identity))
    _take_from_inbox(turn, identity)
    waited = [key for key, held in turn.held.items() if held.transaction == identity]
    for key in waited:
        turn.held = turn.held.without(key)
        device = DeviceId(key[:DEVICE_ID_BYTES])
        turn.refuse(device, identity, ProtocolError(detail, reason))
    if not waited:
        turn.emit(Refuse(None, reason, detail))


def follow_chain(turn: Turn) -> None:
    """Brings every task to where the chain's state says that it is."""
    tree = turn.ledger.tree
    for number in range(views.task_count(tree)):
        task = turn.tasks.get(TaskId(number))
        if task is None:
            spec = views.task(tree, number)
            assert spec is not None
            task = open_task(turn, TaskId(number), spec)
            announce(turn, task)
            turn.report(f"task {number} {spec.name!r} is open")
        head = views.head(tree, number)
        assert head is not None
        if head > task.head:
            task = _version_final(turn, task, head)
        _hand_out_job(turn, task)


def open_task(turn: Turn, number: TaskId, spec: TaskSpec) -> TaskState:
    """Starts to serve a task from its version 0."""
    places = lease_places(turn, spec)
    task = TaskState(number, spec, Version(0), spec.initial, LeaseTable(places))
    task = replace(task, wholes=_wholes(task, spec.initial))
    turn.put_task(task)
    turn.emit(StoreVersion(number, Version(0), 0, 0, turn.charge_max))
    turn.emit(Evaluate(number, Version(0), spec.initial.inference, spec.bundle))
    return task


def lease_places(turn: Turn, spec: TaskSpec) -> int:
    """Our share of the leases: C over the number of coordinators, rounded up."""
    coordinators = len(turn.settings.gate.validators.members)
    return -(-spec.aggregation.leases // coordinators)


def announce(turn: Turn, task: TaskState) -> None:
    """Publishes the newest version with its proof, retained."""
    shown = proofs.manifest(turn.ledger, task)
    if shown is not None:
        topic = turn.settings.topics.manifest(task.number)
        turn.emit(Publish(topic, MANIFEST.pack(shown), retain=True))


def _version_final(turn: Turn, task: TaskState, head: Version) -> TaskState:
    digest = views.version(turn.ledger.tree, task.number, head)
    model = task.attested
    if model is None or version_digest(model) != digest:
        turn.report(f"task {task.number}: version {head} is final, but not ours")
        return task
    updates, staleness_milli = _statistics(task.job)
    wholes = _wholes(task, model)
    task = replace(task, head=head, model=model, attested=None, job=None, wholes=wholes)
    turn.put_task(task)
    _forget_stale(turn, task)
    charge_max = turn.charge_max
    turn.emit(StoreVersion(task.number, head, updates, staleness_milli, charge_max))
    granting.release_stale(turn, task)
    announce(turn, task)
    turn.emit(Evaluate(task.number, head, model.inference, task.spec.bundle))
    turn.report(f"task {task.number}: version {head} is final from {updates} updates")
    return turn.tasks[task.number]


def _hand_out_job(turn: Turn, task: TaskState) -> None:
    record = views.job_record(turn.ledger.tree, task.number)
    if record is None or (task.job and task.job.version == record.version):
        return
    job = views.open_job(turn.ledger.tree, task.number)
    if job is not None:
        turn.put_task(replace(task, job=job, failures=0, retry_at_s=math.inf))
        turn.emit(Aggregate(task.number, job.version, job))


def aggregation_failed(turn: Turn, event: AggregationFailed) -> None:
    """Says why a job was not computed, and when it is tried again."""
    task = turn.tasks.get(event.task)
    if task is None or task.job is None or task.job.version != event.version:
        return
    doubled_s = RETRY_FIRST_S * 2.0 ** min(task.failures, _DOUBLINGS_MAX)
    wait_s = min(RETRY_MOST_S, doubled_s)
    turn.put_task(
        replace(task, failures=task.failures + 1, retry_at_s=turn.now_s + wait_s)
    )
    turn.report(
        f"task {event.task}: version {event.version} not computed: {event.detail}; "
        f"next attempt in {wait_s:g} s"
    )


def retry_jobs(turn: Turn) -> None:
    """Hands out again what failed long enough ago; another may have settled it."""
    for task in list(turn.tasks.values()):
        if turn.now_s >= task.retry_at_s:
            turn.put_task(replace(task, retry_at_s=math.inf))
            if task.job is not None:
                turn.emit(Aggregate(task.number, task.job.version, task.job))


def _update_final(turn: Turn, envelope: Envelope, proof: bytes) -> None:
    device = device_id(envelope.sender)
    body = CONTRIBUTION.unpack(envelope.body)
    key = held_key(device, body.task, body.version)
    turn.held = turn.held.without(key)
    board = views.board(turn.ledger.tree, device)
    if board is not None and board.charge > turn.charge_max:
        turn.charge_max = board.charge
    turn.tell(device, Kind.FINAL, proof)


def _drop_used(turn: Turn, height: int) -> None:
    """Lets the vectors of old blocks go, but none that a job still needs."""
    tree = turn.ledger.tree
    for number in turn.tasks:
        job, progress = views.job_record(tree, number), views.progress(tree, number)
        assert progress is not None
        places = [*(job.places[:1] if job else ()), progress.first]
        for place in places:
            entry = views.pending_at(tree, number, place)
            if entry is not None:
                height = min(height, entry.height - 1)
    if height > 0:
        turn.emit(DropUploads(height))


def _take_from_inbox(turn: Turn, identity: Digest) -> None:
    name = turn.inbox.get(identity)
    if name is not None:
        turn.emit(RemoveInbox(name))
        rest = {key: at for key, at in turn.inbox.items() if key != identity}
        turn.inbox = rest


def _forget_stale(turn: Turn, task: TaskState) -> None:
    oldest = task.head - task.spec.aggregation.staleness_max
    for key, held in list(turn.held.items()):
        if held.task == task.number and held.base < oldest:
            turn.held = turn.held.without(key)


def _statistics(job: Job | None) -> tuple[int, int]:
    if job is None:
        return 0, 0
    staleness = [job.version - 1 - member.base for member in job.members]
    return len(staleness), 1000 * sum(staleness) // len(staleness)


def _wholes(task: TaskState, model: ModelDigests) -> tuple[Digest, ...]:
    older = [whole for whole in task.wholes if whole != task.spec.bundle]
    kept = (*older, model.training, model.inference)[-WHOLES_MAX:]
    return (task.spec.bundle, *kept)
