"""From the chain's state to versions: jobs handed out, results attested, models final.

What follows from the chain's state is read from the state, level-triggered, so that a
restart and a block lead to the same actions; a block only says when to look. A version
that became final without us, or differs from what we computed, is got from others.
"""

import math
from dataclasses import replace

from coordinator import duty, granting, proofs, wanting
from coordinator.effects import (
    Aggregate,
    Evaluate,
    Publish,
    Secure,
    StoreDigests,
    StoreModel,
    StoreVersion,
)
from coordinator.events import Aggregated, AggregationFailed, Secured
from coordinator.gossip import GivenModel, Subject, model_key
from coordinator.leases import LeaseTable
from coordinator.ledger import views
from coordinator.ledger.views import Job
from coordinator.state import TaskState
from coordinator.turn import Turn
from protocol.ids import Digest, TaskId, Version
from protocol.light import MANIFEST
from protocol.messages import Attest
from protocol.task import ModelDigests, TaskSpec, version_digest

WHOLES_MAX = 8
"""How many digests of older versions stay on offer for boards in mid-pull."""
ANNOUNCE_EVERY_S = 10.0
"""A broker that restarted has forgotten the manifest, and its announcer may be gone."""
ANNOUNCE_AFTER_S = 3.0
"""After a connection; until then we may have caught up."""
RETRY_FIRST_S = 1.0
RETRY_MOST_S = 300.0
"""A vector may be missing here until another coordinator's copy has come."""
_DOUBLINGS_MAX = 16
_SECURING = b"store"
"""In `TaskState.lacking` while the store is searched."""


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
            task = _catch_up(turn, task, head)
        if head == task.head:
            _hand_out_job(turn, task)


def open_task(turn: Turn, number: TaskId, spec: TaskSpec) -> TaskState:
    """Starts to serve a task from its version 0."""
    places = granting.lease_places(turn, spec)
    task = TaskState(number, spec, Version(0), spec.initial, LeaseTable(places))
    task = replace(task, wholes=_wholes(task, spec.initial))
    turn.put_task(task)
    turn.emit(StoreVersion(number, Version(0), 0, 0, turn.charge_max))
    if turn.ledger.alone:
        turn.emit(Evaluate(number, Version(0), spec.initial.inference, spec.bundle))
        return task
    # The operator gave bundle and model to one of us.
    task = replace(task, opening=True)
    return secure(turn, task)


def secure(turn: Turn, task: TaskState) -> TaskState:
    """Has the store searched for what serving a task takes; others have the rest."""
    model = task.found or task.model
    parts = (model.theta, model.momentum, model.average)
    digests = (task.spec.bundle, model.training, model.inference, *parts)
    turn.emit(Secure(task.number, digests))
    task = replace(task, lacking=frozenset({_SECURING}))
    turn.put_task(task)
    return task


def secured(turn: Turn, event: Secured) -> None:
    """Asks others for what the store lacks; goes on if that is nothing."""
    task = turn.tasks.get(event.task)
    keys = wanting.wholes(event.absent)
    if task is None or _SECURING not in task.lacking:
        # The task waits for something else by now; these are needed all the same.
        wanting.want(turn, keys)
        return
    task = wanting.want_for(turn, task, keys)
    if not task.lacking:
        resume(turn, task)


def resume(turn: Turn, task: TaskState) -> None:
    """Goes on with a task whose last lack was made up."""
    if task.lacking:
        return
    if task.opening:
        task = replace(task, opening=False)
        inference, bundle = task.model.inference, task.spec.bundle
        turn.emit(Evaluate(task.number, task.head, inference, bundle))
    if task.found is not None and task.sought is not None:
        turn.emit(StoreDigests(task.number, task.sought, task.found))
        turn.put_task(task)
        _version_final(turn, task, task.sought, task.found)
        follow_chain(turn)
        return
    turn.put_task(task)
    if task.job is not None and task.job.version > task.head and not task.computing:
        _compute(turn, task, task.job)


def announce(turn: Turn, task: TaskState) -> None:
    """Publishes the newest version with its proof, retained, if that is our turn."""
    if views.version(turn.ledger.tree, task.number, task.head) is None:
        # Others are far ahead, and its proof is no longer in the state.
        return
    matter = model_key(task.number, task.head)
    shown = proofs.manifest(turn.ledger, task, turn.handovers)
    if shown is not None and duty.is_among_first(turn, matter):
        topic = turn.settings.topics.manifest(task.number)
        turn.emit(Publish(topic, MANIFEST.pack(shown), retain=True))


def announce_again(turn: Turn) -> None:
    """Publishes all manifests once more, from time to time."""
    if turn.ledger.alone or turn.now_s < turn.announce_at_s:
        return
    turn.announce_at_s = turn.now_s + ANNOUNCE_EVERY_S
    for task in list(turn.tasks.values()):
        announce(turn, task)
        _look_after(turn, task)


def _look_after(turn: Turn, task: TaskState) -> None:
    """Wants again what nobody gave; a version that was overtaken is given up."""
    given_up = [
        key for key in sorted(task.lacking - {_SECURING}) if key not in turn.wanted
    ]
    if not given_up:
        return
    head = views.head(turn.ledger.tree, task.number) or 0
    if task.sought is None or task.sought == head:
        wanting.want(turn, given_up)
        return
    turn.put_task(replace(task, sought=None, found=None, lacking=frozenset()))
    follow_chain(turn)


def computed(turn: Turn, event: Aggregated) -> Attest | None:
    """Keeps what a worker computed.

    Returns:
      What to attest; None if that is no longer of use. What differs from a final
      version is: a lie or a machine that computes wrongly shows however slow it is.
    """
    task = turn.tasks.get(event.task)
    if task is None:
        return None
    awaited = task.computing == event.version
    if awaited:
        task = replace(task, computing=None)
        turn.put_task(task)
    digests = event.model.digests()
    made = Attest(event.task, event.version, version_digest(digests))
    final = views.version(turn.ledger.tree, event.task, event.version)
    if final is not None and final != made.digest:
        _report_other(turn, event.task, event.version)
        follow_chain(turn)
        return made
    if not awaited or event.version <= task.head:
        return None
    turn.put_task(replace(task, attested=digests))
    turn.emit(StoreModel(event.task, event.version, event.model))
    head = views.head(turn.ledger.tree, event.task)
    if head is not None and head >= event.version:
        # Others were faster, and what we have is as good as theirs.
        follow_chain(turn)
        return None
    return made


def _report_other(turn: Turn, task: TaskId, version: Version) -> None:
    turn.report(f"task {task}: version {version} is final, but not as we got it")


def not_computed(turn: Turn, event: AggregationFailed) -> None:
    """Gets from others what a job could not be computed without, and tries again."""
    task = turn.tasks.get(event.task)
    if task is None or task.computing != event.version:
        return
    wait_s = min(
        RETRY_MOST_S, RETRY_FIRST_S * 2.0 ** min(task.failures, _DOUBLINGS_MAX)
    )
    turn.report(
        f"task {event.task}: version {event.version} not computed: {event.detail}; "
        f"next attempt in {wait_s:g} s"
    )
    failures, retry_at_s = task.failures + 1, turn.now_s + wait_s
    task = replace(task, computing=None, failures=failures, retry_at_s=retry_at_s)
    turn.put_task(task)
    head = views.head(turn.ledger.tree, event.task)
    if head is not None and head >= event.version:
        follow_chain(turn)
    elif not turn.ledger.alone:
        keys = wanting.uploads(event.uploads) + wanting.wholes(event.wholes)
        wanting.want_for(turn, task, [*keys, *wanting.keys(event.closed)])


def retry_jobs(turn: Turn) -> None:
    """Hands out again what failed long enough ago; it may have settled meanwhile."""
    for task in list(turn.tasks.values()):
        if turn.now_s < task.retry_at_s:
            continue
        waiting = replace(task, retry_at_s=math.inf)
        turn.put_task(waiting)
        if task.job is not None and not task.computing and not task.lacking:
            _compute(turn, waiting, task.job)


def compute_anew(turn: Turn, number: TaskId, version: Version) -> None:
    """Has a split job handed out again: who was wrong may compute it rightly by now.

    While it is split the chain takes another digest than the one that we attested.
    """
    task = turn.tasks.get(number)
    if task is None or task.job is None or task.job.version != version:
        return
    if not task.computing:
        turn.report(f"task {number}: version {version} is split; computing it again")
        turn.put_task(replace(task, job=None))


def model_given(turn: Turn, given: GivenModel) -> None:
    """A final version that we did not compute consists of this, as the chain proves."""
    task = turn.tasks.get(TaskId(given.task))
    if task is not None and task.sought == given.version:
        secure(turn, replace(task, found=given.digests))


def _catch_up(turn: Turn, task: TaskState, head: Version) -> TaskState:
    """Brings a task to a version that became final, or begins to get it."""
    digest = views.version(turn.ledger.tree, task.number, head)
    model = task.attested
    if model is not None and version_digest(model) == digest:
        return _version_final(turn, task, head, model)
    if version_digest(task.model) == digest:
        # Too many boards had lost their updates: the same model is a new base.
        turn.emit(StoreDigests(task.number, head, task.model))
        return _version_final(turn, task, head, task.model)
    if task.computing == head:
        return task
    if task.sought is not None and task.sought > task.head and task.lacking:
        still = views.version(turn.ledger.tree, task.number, task.sought)
        if task.found is not None or still is not None:
            # First this one, else a slow link would never end with any.
            return task
    if model is not None and task.job is not None and task.job.version == head:
        _report_other(turn, task.number, head)
    task = replace(task, sought=head, found=None)
    key = wanting.want_key(Subject.MODEL, model_key(task.number, head))
    return wanting.want_for(turn, task, [key])


def _version_final(
    turn: Turn, task: TaskState, head: Version, model: ModelDigests
) -> TaskState:
    updates, staleness_milli = _statistics(task.job, head)
    task = replace(
        task,
        head=head,
        model=model,
        attested=None,
        job=None,
        wholes=_wholes(task, model),
        sought=None,
        found=None,
        lacking=frozenset(),
    )
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
        _compute(turn, replace(task, failures=0, retry_at_s=math.inf), job)


def _compute(turn: Turn, task: TaskState, job: Job) -> None:
    turn.put_task(replace(task, job=job, computing=job.version))
    members = [member.transaction for member in job.members]
    keys = {each: turn.keys[each] for each in members if each in turn.keys}
    turn.emit(Aggregate(task.number, job.version, job, keys))


def _forget_stale(turn: Turn, task: TaskState) -> None:
    oldest = task.head - task.spec.aggregation.staleness_max
    for key, held in list(turn.held.items()):
        if held.task == task.number and held.base < oldest:
            turn.held = turn.held.without(key)


def _statistics(job: Job | None, version: Version) -> tuple[int, int]:
    if job is None or job.version != version:
        return 0, 0
    staleness = [job.version - 1 - member.base for member in job.members]
    return len(staleness), 1000 * sum(staleness) // len(staleness)


def _wholes(task: TaskState, model: ModelDigests) -> tuple[Digest, ...]:
    older = [whole for whole in task.wholes if whole != task.spec.bundle]
    kept = (*older, model.training, model.inference)[-WHOLES_MAX:]
    return (task.spec.bundle, *kept)
