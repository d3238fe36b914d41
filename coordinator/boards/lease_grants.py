"""Check-ins and leases: from a board that is ready to a board that may send."""

from functools import partial

from starling.coordinator.boards import finality_proofs
from starling.coordinator.chain.state import (
    board_records,
    closure_records,
    rollback_records,
    task_records,
)
from starling.coordinator.chain.tasks import reputations, task_end
from starling.coordinator.leases.lease_table import Grant, draw_for
from starling.coordinator.peers import directory, responder_selection
from starling.coordinator.step.admitted_updates import admitted_key
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.state import TaskState
from starling.protocol.chain.board_statement import STATEMENT
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import InvalidUpdate, Reason, StaleUpdate
from starling.protocol.ids import DeviceId, Digest, TaskId, Version, device_id
from starling.protocol.learning.board_reputation import (
    BoardReputation,
    quarantined_text,
)
from starling.protocol.learning.task import AggregationPolicy, TaskSpec
from starling.protocol.wire.envelope import MessageKind
from starling.protocol.wire.message_bodies import LEASE, CheckIn, Lease

BACKLOG_BUFFERS = 2
"""Buffers of updates that may wait, admitted or on the chain, before leases pause."""


def check_in(
    step: CoordinatorStep, device: DeviceId, said: CheckIn, counter: int
) -> None:
    """A board is ready: it gets a lease, or waits for one.

    Raises:
      InvalidUpdate: `UNKNOWN_TASK`, `STALE`, `POLICY_MISMATCH`, `CLOSED`, `PAUSED`,
        `QUARANTINED`, or
        `ALREADY_KNOWN` when its update for this base version was taken already.
    """
    task = step.state.tasks.get(said.task)
    if task is None:
        raise InvalidUpdate(f"no task {said.task}", Reason.UNKNOWN_TASK)
    head = task_records.head(step.state.ledger.tree, said.task) or 0
    # Others are ahead: the board is to ask again soon.
    if said.version > head:
        raise InvalidUpdate("its version is not final here yet", Reason.BUSY)
    if said.version < _oldest(step, task, head):
        raise StaleUpdate(f"version {said.version}, the newest is {head}")
    if said.pledge not in task.spec.pledges:
        raise InvalidUpdate("not a size to pledge", Reason.POLICY_MISMATCH)
    if contributed(step, device, said.task, said.version):
        raise InvalidUpdate("has its update for this version", Reason.ALREADY_KNOWN)
    granted = task.leases.granted.get(device)
    # The same bytes again, whatever else has changed: the first may have been lost.
    if granted is not None and granted.version == said.version:
        step.send(device, granted.envelope)
        return
    tree = step.state.ledger.tree
    # After the lease in force, which still counts in a task that is closed.
    if (ended := closure_records.closure(tree, said.task)) is not None:
        raise InvalidUpdate(f"the task was {ended.text}", Reason.CLOSED)
    if rests := task_end.rests(tree, said.task, _time_ms(step)):
        raise InvalidUpdate(rests, Reason.PAUSED)
    standing = reputations.reputation(step.state.ledger.tree, device)
    _check_quarantine(step, standing)
    # The counter makes each check-in draw afresh, and the seed is secret: no board can
    # choose a counter that draws well.
    draw = draw_for(step.settings.selection_seed, device, counter)
    select = partial(
        step.settings.selection, task.spec.selection, said, standing.expectation_ppm
    )
    # A board that took a newer version gives its older lease back.
    leases = task.leases.release(device)
    leases = leases.wait(device, said, select, draw)
    step.put_task(evolve(task, leases=leases))
    grant_free(step, step.state.tasks[task.number])


def task_closed(step: CoordinatorStep, number: TaskId) -> None:
    """No board waits for a lease any more; what was leased may still be sent."""
    task = step.state.tasks.get(number)
    ended = closure_records.closure(step.state.ledger.tree, number)
    if task is None or ended is None:
        return
    step.report(f"task {number} {task.spec.name!r} was {ended.text}")
    step.put_task(evolve(task, leases=task.leases.without_waiting()))


def _check_quarantine(step: CoordinatorStep, known: BoardReputation) -> None:
    now_ms = _time_ms(step)
    if known.is_quarantined(now_ms):
        raise InvalidUpdate(quarantined_text(known, now_ms), Reason.QUARANTINED)


def _time_ms(step: CoordinatorStep) -> int:
    """Time of the newest header, in Unix milliseconds; 0 before the first."""
    header = step.state.ledger.header
    return 0 if header is None else header.time_ms


def state(
    step: CoordinatorStep, device: DeviceId, said: CheckIn, asked: Digest
) -> None:
    """Proves to a board what the chain knows of it, for it to compare."""
    if said.task not in step.state.tasks:
        return
    statement = finality_proofs.statement(step.state.ledger, device, said.task, asked)
    if statement is not None:
        step.sign_and_send(device, MessageKind.STATEMENT, STATEMENT.pack(statement))


def moved_on(step: CoordinatorStep, device: DeviceId, said: CheckIn) -> None:
    """A board asks another one of us for a newer version.

    What it has here for an older one it will not use: a place that was kept for it
    until the lease ends would be lost to everybody.
    """
    task = step.state.tasks.get(said.task)
    if task is None:
        return
    granted, asked = task.leases.granted.get(device), task.leases.asked(device)
    leases = task.leases
    if granted is not None and granted.version < said.version:
        leases = leases.release(device)
    if asked is not None and asked.version < said.version:
        leases = leases.stop_waiting(device)
    # By identity: nothing changed, and no place has become free.
    if leases is not task.leases:
        grant_free(step, evolve(task, leases=leases))


def lease_places(step: CoordinatorStep, spec: TaskSpec) -> int:
    """Our share of the leases: C over the coordinators that are alive, rounded up."""
    own = directory.own_id(step.state.ledger)
    members = [device_id(public) for public in directory.public_keys(step.state.ledger)]
    others = sum(
        who != own and responder_selection.is_alive(step, who) for who in members
    )
    # Rounded up: a task with fewer leases than coordinators still goes on everywhere.
    return -(-spec.aggregation.leases // (1 + others))


def share_lease_places(step: CoordinatorStep) -> None:
    """Takes over the share of who fell silent; gives it back as leases end."""
    if step.state.ledger.alone:
        return
    for task in list(step.state.tasks.values()):
        places = lease_places(step, task.spec)
        if places != task.leases.places:
            leases = evolve(task.leases, places=places)
            grant_free(step, evolve(task, leases=leases))


def grant_free(step: CoordinatorStep, task: TaskState) -> None:
    """Gives away every free place while somebody waits who may train now."""
    policy = task.spec.aggregation
    tree = step.state.ledger.tree
    rests = task_end.rests(tree, task.number, _time_ms(step))
    if rests or closure_records.closure(tree, task.number) is not None:
        # Nobody pays for a version that is not wanted, or would hardly be better.
        step.put_task(task)
        return
    # Whoever trained beyond this would only add to the queue, and come out stale.
    room = BACKLOG_BUFFERS * policy.buffer - _backlog(step, task)
    herd_most, oldest = _herd_most(policy), _oldest(step, task, task.head)
    while room > 0 and (found := task.leases.next_waiting()) is not None:
        device, said = found
        full = task.leases.dealt.get(said.version, 0) >= herd_most
        # The head's herd is complete; its boards wait for the next version.
        if full and said.version == task.head:
            break
        if full or said.version < oldest:
            # It asks again for the newest version, as soon as it has it.
            task = evolve(task, leases=task.leases.stop_waiting(device))
            continue
        room -= 1
        # The envelope's own counter serves as the lease's number.
        number = step.state.counter
        lease = Lease(device, task.number, said.version, number, step.settings.lease_s)
        envelope = step.sign(MessageKind.LEASE, LEASE.pack(lease))
        ends_at_s = step.now_s + step.settings.lease_s
        grant = Grant(said.version, envelope, step.now_s, ends_at_s)
        task = evolve(task, leases=task.leases.grant(device, grant))
        step.send(device, envelope)
    step.put_task(task)


def _oldest(step: CoordinatorStep, task: TaskState, head: int) -> Version:
    """The oldest version that a lease may be for: an update of it still counts."""
    tree, most = step.state.ledger.tree, task.spec.aggregation.staleness_max
    return rollback_records.oldest_base(tree, task.number, head, most)


def _herd_most(policy: AggregationPolicy) -> int:
    """Most leases that one coordinator gives for one base version.

    A buffer and a half: enough to fill the next version though some come late, and not
    so many that several versions in a row add what is nearly the same step. It is not
    divided among coordinators: all boards of a small fleet may be one coordinator's.
    """
    return -(-3 * policy.buffer // 2)


def _backlog(step: CoordinatorStep, task: TaskState) -> int:
    """Updates that wait for a version: on the chain, and admitted here before that."""
    progress = task_records.progress(step.state.ledger.tree, task.number)
    held = step.state.held.of_task(task.number)
    return held + (progress.pending if progress is not None else 0)


def delivered(step: CoordinatorStep, device: DeviceId, task: TaskState) -> None:
    """A board's update was taken: its place is for the next one.

    Not so in a synchronous task, where no older update counts: whoever got the place
    now would spend privacy on an update that comes too late.
    """
    if task.spec.aggregation.staleness_max > 0:
        leases = task.leases.use(device, step.now_s).stop_waiting(device)
        if leases is not task.leases:
            grant_free(step, evolve(task, leases=leases))


def release_stale(step: CoordinatorStep, task: TaskState) -> None:
    """After a new version: frees the places of leases that are for too old ones.

    Whoever waits may go on, too: what was given for the version before no longer
    counts against the newest.
    """
    oldest = _oldest(step, task, task.head)
    leases = task.leases
    for device, grant in leases.granted.items():
        if grant.version < oldest:
            leases = leases.release(DeviceId(device))
    grant_free(step, evolve(task, leases=leases.forget(oldest)))


def release(step: CoordinatorStep, device: DeviceId, task: TaskState) -> None:
    """A board is gone: its place is for the next one."""
    leases = task.leases.release(device).stop_waiting(device)
    if leases is not task.leases:
        grant_free(step, evolve(task, leases=leases))


def expire(step: CoordinatorStep) -> None:
    """Frees the places of leases that have ended."""
    for task in list(step.state.tasks.values()):
        leases = task.leases.expire(step.now_s)
        if leases is not task.leases:
            ended = len(task.leases.granted) - len(leases.granted)
            if ended:
                step.report(f"task {task.number}: {ended} leases ended unused")
            grant_free(step, evolve(task, leases=leases))


def contributed(
    step: CoordinatorStep, device: DeviceId, task: int, version: Version
) -> bool:
    """True if a board has an update for a base version, or has forfeited it."""
    if step.state.held.get(admitted_key(device, task, version)) is not None:
        return True
    return (
        board_records.update_of(step.state.ledger.tree, task, device, version)
        is not None
    )
