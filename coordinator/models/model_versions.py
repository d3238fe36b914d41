"""From the chain's state to versions: jobs handed out, results attested, models final.

What follows from the chain's state is read from the state, level-triggered, so that a
restart and a block lead to the same actions; a block only says when to look. A version
that became final without us, or differs from what we computed, is got from others.
"""

import math
from dataclasses import replace

from starling.coordinator.boards import lease_grants
from starling.coordinator.chain.gossip_messages import FrameSubject
from starling.coordinator.chain.state import rollback_records, task_records
from starling.coordinator.chain.state.task_records import AggregationJob
from starling.coordinator.downloads import request_scheduler
from starling.coordinator.leases.lease_table import LeaseTable
from starling.coordinator.models import (
    manifest_publication,
    pending_jobs,
    version_rollbacks,
    version_scores,
)
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.effects import (
    ComputeVersion,
    EvaluateVersion,
    FindMissingBlobs,
    StoreDigests,
    StoreModel,
    StoreVersion,
)
from starling.coordinator.step.events import (
    ComputationFailed,
    MissingBlobsFound,
    VersionComputed,
)
from starling.coordinator.step.state import SOUGHT_PATIENCE_S, TaskState
from starling.coordinator.wire.frames import ModelAnswer, model_key
from starling.protocol.backoff import backoff_s
from starling.protocol.dataclass_replace import evolve
from starling.protocol.ids import Digest, TaskId, Version
from starling.protocol.learning.task import ModelDigests, TaskSpec, version_digest
from starling.protocol.wire.message_bodies import Attest

BLOBS_OFFERED_MAX = 8
"""How many digests of older versions stay on offer for boards in mid-pull."""
RETRY_FIRST_S = 1.0
RETRY_MOST_S = 300.0
"""A vector may be missing here until another coordinator's copy has come."""
SOUGHT_PATIENCE_S_MAX = 600.0
_SECURING = b"store"
"""In `TaskState.missing` while the store is searched."""


def follow_chain(step: CoordinatorStep) -> None:
    """Brings every task to where the chain's state says that it is."""
    tree = step.state.ledger.tree
    for number in range(task_records.task_count(tree)):
        task = step.state.tasks.get(TaskId(number))
        if task is None:
            spec = task_records.task(tree, number)
            assert spec is not None
            task = open_task(step, TaskId(number), spec)
            manifest_publication.announce(step, task)
            step.report(f"task {number} {spec.name!r} is open")
        head = task_records.head(tree, number)
        assert head is not None
        task = pending_jobs.note(step, task)
        if head > task.head:
            task = _catch_up(step, task, head)
        if head == task.head:
            _hand_out_job(step, task)


def open_task(step: CoordinatorStep, number: TaskId, spec: TaskSpec) -> TaskState:
    """Starts to serve a task from its version 0."""
    places = lease_grants.lease_places(step, spec)
    task = TaskState(number, spec, Version(0), spec.initial, LeaseTable(places))
    task = replace(task, blobs=_blobs(task, spec.initial))
    step.put_task(task)
    step.emit(StoreVersion(number, Version(0), 0, 0, step.state.charge_max))
    if step.state.ledger.alone:
        step.emit(
            EvaluateVersion(number, Version(0), spec.initial.inference, spec.bundle)
        )
        return task
    # The operator gave bundle and model to one of us.
    task = replace(task, opening=True)
    return secure(step, task)


def secure(step: CoordinatorStep, task: TaskState) -> TaskState:
    """Has the store searched for what serving a task takes; others have the rest."""
    model = task.found or task.model
    parts = (model.theta, model.momentum, model.average)
    digests = (task.spec.bundle, model.training, model.inference, *parts)
    step.emit(FindMissingBlobs(task.number, digests))
    task = replace(task, missing=frozenset({_SECURING}))
    step.put_task(task)
    return task


def secured(step: CoordinatorStep, event: MissingBlobsFound) -> None:
    """Requests blobs that the store lacks; resumes the task if it lacks none."""
    task = step.state.tasks.get(event.task)
    keys = request_scheduler.blob_keys(event.absent)
    if task is None or _SECURING not in task.missing:
        # The task waits for something else by now; these are needed all the same.
        request_scheduler.request_blob(step, keys)
        return
    task = request_scheduler.request_for_task(step, task, keys)
    if not task.missing:
        resume(step, task)


def resume(step: CoordinatorStep, task: TaskState) -> None:
    """Resumes a task once its last missing blob has arrived."""
    if task.missing:
        return
    if task.opening:
        task = replace(task, opening=False)
        inference, bundle = task.model.inference, task.spec.bundle
        step.emit(EvaluateVersion(task.number, task.head, inference, bundle))
    if task.found is not None and task.sought is not None:
        step.emit(StoreDigests(task.number, task.sought, task.found))
        step.put_task(task)
        _version_final(step, task, task.sought, task.found)
        follow_chain(step)
        return
    step.put_task(task)
    if task.job is not None and task.job.version > task.head and not task.computing:
        _compute(step, task, task.job)


def announce_again(step: CoordinatorStep) -> None:
    """Publishes all manifests once more, from time to time."""
    if step.state.ledger.alone or step.now_s < step.state.announce_at_s:
        return
    again_at_s = step.now_s + manifest_publication.ANNOUNCE_EVERY_S
    step.state = evolve(step.state, announce_at_s=again_at_s)
    for task in list(step.state.tasks.values()):
        manifest_publication.announce(step, task)
        _look_after(step, task)


def _look_after(step: CoordinatorStep, task: TaskState) -> None:
    """Requests missing blobs again; gives up a version that was overtaken."""
    given_up = [
        key
        for key in sorted(task.missing - {_SECURING})
        if key not in step.state.wanted
    ]
    if not given_up:
        return
    head = task_records.head(step.state.ledger.tree, task.number) or 0
    if task.sought is None or task.sought == head:
        request_scheduler.request_blob(step, given_up)
        return
    step.put_task(_seeking_nothing(task))
    follow_chain(step)


def computed(step: CoordinatorStep, event: VersionComputed) -> Attest | None:
    """Keeps what a worker computed.

    Returns:
      What to attest; None if that is no longer of use. What differs from a final
      version is: a lie or a machine that computes wrongly shows however slow it is.
    """
    task = step.state.tasks.get(event.task)
    if task is None:
        return None
    awaited = task.computing == event.version
    if awaited:
        task = replace(pending_jobs.without(task, event.version), computing=None)
        step.put_task(task)
    digests = event.model.digests()
    made = Attest(event.task, event.version, version_digest(digests))
    final = task_records.version(step.state.ledger.tree, event.task, event.version)
    tree, of = step.state.ledger.tree, (event.task, event.version)
    rolled = rollback_records.rollback(tree, *of) is not None
    # Even if it comes late: a result of one's own that differs is what has to be seen.
    if final is not None and final != made.digest and not rolled:
        _report_other(step, event.task, event.version)
        follow_chain(step)
        return made
    if not awaited or rolled or event.version <= task.head:
        return None
    step.put_task(replace(task, attested=digests))
    # Stored before it is attested: what a validator attests it can give to others.
    step.emit(StoreModel(event.task, event.version, event.model))
    head = task_records.head(step.state.ledger.tree, event.task)
    if head is not None and head >= event.version:
        # Others were faster, and what we have is as good as theirs.
        follow_chain(step)
        return None
    return made


def _report_other(step: CoordinatorStep, task: TaskId, version: Version) -> None:
    step.report(f"task {task}: version {version} is final, but not as we got it")


def not_computed(step: CoordinatorStep, event: ComputationFailed) -> None:
    """Gets from others what a job could not be computed without, and tries again."""
    task = step.state.tasks.get(event.task)
    if task is None or task.computing != event.version:
        return
    wait_s = backoff_s(RETRY_FIRST_S, RETRY_MOST_S, task.failures)
    step.report(
        f"task {event.task}: version {event.version} not computed: {event.detail}; "
        f"next attempt in {wait_s:g} s"
    )
    failures, retry_at_s = task.failures + 1, step.now_s + wait_s
    task = replace(task, computing=None, failures=failures, retry_at_s=retry_at_s)
    step.put_task(task)
    head = task_records.head(step.state.ledger.tree, event.task)
    if head is not None and head >= event.version:
        # Others have the model, and perhaps not what it was made of.
        ready = replace(pending_jobs.without(task, event.version), retry_at_s=math.inf)
        step.put_task(ready)
        follow_chain(step)
    elif not step.state.ledger.alone:
        keys = request_scheduler.uploads(event.uploads) + request_scheduler.blob_keys(
            event.blobs
        )
        request_scheduler.request_for_task(
            step, task, [*keys, *request_scheduler.keys(event.closed)]
        )


def retry_jobs(step: CoordinatorStep) -> None:
    """Hands out again what failed long enough ago; it may have settled meanwhile."""
    for task in list(step.state.tasks.values()):
        if step.now_s < task.retry_at_s:
            continue
        waiting = replace(task, retry_at_s=math.inf)
        step.put_task(waiting)
        if task.job is not None and not task.computing and not task.missing:
            _compute(step, waiting, task.job)


def recompute(step: CoordinatorStep, number: TaskId, version: Version) -> None:
    """Has a split job handed out again: who was wrong may compute it rightly by now.

    While it is split the chain takes another digest than the one that we attested.
    """
    task = step.state.tasks.get(number)
    if task is None or task.job is None or task.job.version != version:
        return
    if not task.computing:
        step.report(f"task {number}: version {version} is split; computing it again")
        step.put_task(replace(task, job=None))


def digests_received(step: CoordinatorStep, given: ModelAnswer) -> None:
    """A final version that we did not compute consists of this, as the chain proves."""
    task = step.state.tasks.get(TaskId(given.task))
    if task is not None and task.sought == given.version:
        secure(step, replace(task, found=given.digests))


def give_up(step: CoordinatorStep) -> None:
    """Seeks a newer version where nobody gave anything of the sought one for long.

    Others keep the bytes of their latest versions only: while we asked for one they may
    have let it go. Over a slow link the patience grows until a whole model comes.
    """
    for task in list(step.state.tasks.values()):
        head = task_records.head(step.state.ledger.tree, task.number)
        overtaken = task.sought is not None and task.sought != head
        if step.now_s < task.give_up_at_s or not (overtaken and task.missing):
            continue
        request_scheduler.forget(step, task.missing)
        patience_s = min(SOUGHT_PATIENCE_S_MAX, 2 * task.patience_s)
        step.put_task(replace(_seeking_nothing(task), patience_s=patience_s))
        step.report(f"task {task.number}: version {task.sought} is not to be had")
        follow_chain(step)


def _seeking_nothing(task: TaskState) -> TaskState:
    return replace(task, sought=None, found=None, missing=frozenset())


def _catch_up(step: CoordinatorStep, task: TaskState, head: Version) -> TaskState:
    """Brings a task nearer to the chain's head, by what we compute or get from others.

    What is final already is computed all the same if its job is at hand: in a fleet
    whose versions follow each other faster than a model travels nobody would come level
    otherwise, and a machine that computes wrongly would never show.
    """
    following = Version(task.head + 1)
    digest = task_records.version(step.state.ledger.tree, task.number, following)
    task = version_rollbacks.without_dropped_job(step, task, following)
    model = task.attested
    rolled = version_rollbacks.sought(step, task, head) if following == head else None
    if rolled is not None:
        return secure(step, rolled)
    # Computed here with the same result: nothing to get from others.
    if digest is not None and model is not None and version_digest(model) == digest:
        return _further(step, _version_final(step, task, following, model), head)
    if version_digest(task.model) == digest:
        # Too many boards had lost their updates: the same model is a new base.
        step.emit(StoreDigests(task.number, following, task.model))
        return _further(step, _version_final(step, task, following, task.model), head)
    return _compute_or_seek(step, task, head)


def _compute_or_seek(
    step: CoordinatorStep, task: TaskState, head: Version
) -> TaskState:
    """Computes the version after the one that we have, or gets a final one."""
    following, model = Version(task.head + 1), task.attested
    digest = task_records.version(step.state.ledger.tree, task.number, following)
    near = head - task.head <= pending_jobs.KEPT
    if task.computing == following and near:
        return task
    if task.sought is not None and task.sought > task.head and task.missing:
        still = task_records.version(step.state.ledger.tree, task.number, task.sought)
        if task.found is not None or still is not None:
            # First this one, else a slow link would never end with any.
            return task
    if model is not None and digest is not None:
        _report_other(step, task.number, following)
        task = replace(task, attested=None)
    job = pending_jobs.kept(task, following)
    if job is not None and near and not task.missing and task.retry_at_s == math.inf:
        return _compute(step, task, job)
    task = replace(task, sought=head, found=None)
    key = request_scheduler.request_key(
        FrameSubject.MODEL, model_key(task.number, head)
    )
    return request_scheduler.request_for_task(step, task, [key])


def _further(step: CoordinatorStep, task: TaskState, head: Version) -> TaskState:
    return task if task.head == head else _catch_up(step, task, head)


def _version_final(
    step: CoordinatorStep, task: TaskState, head: Version, model: ModelDigests
) -> TaskState:
    updates, staleness_milli = pending_jobs.statistics(task.job, head)
    before = task
    task = replace(
        task,
        head=head,
        model=model,
        attested=None,
        job=None,
        blobs=_blobs(task, model),
        patience_s=SOUGHT_PATIENCE_S,
    )
    task = pending_jobs.without(_seeking_nothing(task), head)
    step.put_task(task)
    _forget_stale(step, task)
    charge_max = step.state.charge_max
    step.emit(StoreVersion(task.number, head, updates, staleness_milli, charge_max))
    lease_grants.release_stale(step, task)
    newest = task_records.head(step.state.ledger.tree, task.number)
    if newest == head:
        # Boards shall not be shown an older one after the newest.
        manifest_publication.announce(step, task)
    step.emit(EvaluateVersion(task.number, head, model.inference, task.spec.bundle))
    version_scores.ask(step, before, head)
    step.report(f"task {task.number}: version {head} is final from {updates} updates")
    return step.state.tasks[task.number]


def _hand_out_job(step: CoordinatorStep, task: TaskState) -> None:
    record = task_records.job_record(step.state.ledger.tree, task.number)
    if record is None or (task.job and task.job.version == record.version):
        return
    job = pending_jobs.kept(task, record.version)
    job = job or task_records.open_job(step.state.ledger.tree, task.number)
    if job is not None:
        _compute(step, replace(task, failures=0, retry_at_s=math.inf), job)


def _compute(step: CoordinatorStep, task: TaskState, job: AggregationJob) -> TaskState:
    task = replace(task, job=job, computing=job.version)
    step.put_task(task)
    members = [member.transaction for member in job.members]
    keys = {each: step.state.keys[each] for each in members if each in step.state.keys}
    step.emit(ComputeVersion(task.number, job.version, job, keys))
    return task


def _forget_stale(step: CoordinatorStep, task: TaskState) -> None:
    tree, most = step.state.ledger.tree, task.spec.aggregation.staleness_max
    oldest = rollback_records.oldest_base(tree, task.number, task.head, most)
    for key, held in list(step.state.held.items()):
        if held.task == task.number and held.base < oldest:
            step.state = evolve(step.state, held=step.state.held.without(key))


def _blobs(task: TaskState, model: ModelDigests) -> tuple[Digest, ...]:
    older = [blob for blob in task.blobs if blob != task.spec.bundle]
    kept = (*older, model.training, model.inference)[-BLOBS_OFFERED_MAX:]
    return (task.spec.bundle, *kept)
