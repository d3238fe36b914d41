"""From TASK over UPDATE to the cut: how a task gets its jobs, and a new head.

Updates queue up in the order (height, index). When K wait and no job is open, the first
K become the job of version head + 1; half of them are enough once the oldest waited
`patience` blocks and `patience_s`, and one if the task is over. While a job is open the
head stands still, so that nothing that waits gets staler between its admission and its
cut; what a new head makes too stale is dropped at once. `attestation` says when the
job's version is final.
"""

from dataclasses import replace

from starling.coordinator.chain.state import (
    board_records,
    task_records,
    transaction_codec,
)
from starling.coordinator.chain.state.board_records import SignedBase, SigningHistory
from starling.coordinator.chain.state.overlay import (
    BlockContext,
    JobCut,
    StateOverlay,
    VersionFinal,
)
from starling.coordinator.chain.state.rollback_records import oldest_base
from starling.coordinator.chain.state.task_records import JobRecord, QueuedUpdate
from starling.coordinator.chain.tasks import (
    evaluations,
    lost_updates,
    scores,
    task_end,
)
from starling.coordinator.chain.tasks.lost_updates import LostUpdateCount
from starling.protocol.chain.board_statement import BoardRecord, TaskProgress
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import (
    BudgetExceeded,
    InvalidUpdate,
    ProtocolError,
    Reason,
    ShapeMismatch,
    StaleUpdate,
)
from starling.protocol.ids import DeviceId, Digest, TaskId, Version
from starling.protocol.learning.task import TaskSpec
from starling.protocol.privacy.gaussian_dp import CHARGE_MAX
from starling.protocol.privacy.mechanisms import UNNOISED, stated_charge
from starling.protocol.wire.envelope import Envelope
from starling.protocol.wire.message_bodies import FORFEIT, Contribution, Forfeit

DISSENT_VERSIONS = 256
"""How long the digest of a version stays known once nobody may train from it any more:
an attestation that comes so late is still compared with it, and names its sender."""


def update(
    draft: StateOverlay, context: BlockContext, envelope: Envelope, identity: Digest
) -> None:
    """Takes a contribution into its task's queue.

    Raises:
      ProtocolError: Anything in `_check_policy` and `_check_base`; NOT_ENROLLED,
        UNKNOWN_TASK, ALREADY_KNOWN, EQUIVOCATION, BUDGET_EXCEEDED or MALFORMED.
    """
    body = transaction_codec.contribution(envelope.body)
    sender, board = _participant(draft, context, envelope)
    spec, progress = _open_task(draft, body.task)
    signed = board_records.history(draft, body.task, sender)
    _check_unsigned(signed, body.version, identity)
    _check_base(draft, spec, body, progress.head)
    _check_policy(spec, body)
    _credit(draft, sender, board, spec, body, 1)
    _remember(draft, body, sender, signed, progress.head, spec, identity)
    entry = QueuedUpdate(
        identity,
        sender,
        body.version,
        body.pledge,
        body.blob,
        context.height,
        context.time_ms,
    )
    place = progress.following
    task_records.QUEUE.put(draft, entry, body.task, place)
    progress = evolve(progress, following=place + 1, pending=progress.pending + 1)
    _queue_changed(draft, context, body.task, spec, progress)


def forfeit(
    draft: StateOverlay, context: BlockContext, envelope: Envelope, identity: Digest
) -> None:
    """Notes that a board has paid for the head and will never sign an update for it.

    Raises:
      ProtocolError: NOT_ENROLLED, JAILED, UNKNOWN_TASK, ALREADY_KNOWN, STALE,
        POLICY_MISMATCH, BUDGET_EXCEEDED or MALFORMED.
    """
    body = FORFEIT.unpack(envelope.body)
    sender, board = _participant(draft, context, envelope)
    spec, progress = _open_task(draft, body.task)
    signed = board_records.history(draft, body.task, sender)
    if any(entry.base == body.version for entry in signed):
        raise InvalidUpdate("the board signed for this base", Reason.ALREADY_KNOWN)
    _check_base(draft, spec, body, progress.head)
    if body.version != progress.head:
        raise StaleUpdate(f"base {body.version} is not the head")
    # Paid for the noise it would have had; less would let boards hurry a version for
    # free.
    if body.charge < stated_charge(spec.privacy):
        raise InvalidUpdate("charged less than its noise", Reason.POLICY_MISMATCH)
    _credit(draft, sender, board, spec, body, 0)
    _remember(draft, body, sender, signed, progress.head, spec, identity)
    lost_updates.add(draft, context, body.task, progress.head)
    _queue_changed(draft, context, body.task, spec, progress)


def _participant(
    draft: StateOverlay, context: BlockContext, envelope: Envelope
) -> tuple[DeviceId, BoardRecord]:
    board = board_records.signer(draft, envelope.sender)
    if board is None:
        raise ProtocolError("the board may not take part", Reason.NOT_ENROLLED)
    if board.is_jailed(context.height, context.time_ms):
        raise ProtocolError(f"jailed until height {board.jailed}", Reason.JAILED)
    return board_records.owner(draft, envelope.sender), board


def _open_task(draft: StateOverlay, number: int) -> tuple[TaskSpec, TaskProgress]:
    spec, progress = (
        task_records.task(draft, number),
        task_records.progress(draft, number),
    )
    if spec is None or progress is None:
        raise ProtocolError(f"no task {number}", Reason.UNKNOWN_TASK)
    return spec, progress


def _check_unsigned(
    signed: tuple[SignedBase, ...], base: int, identity: Digest
) -> None:
    for entry in signed:
        if entry.base == base and entry.transaction == identity:
            raise InvalidUpdate("the update is taken", Reason.ALREADY_KNOWN)
        if entry.base == base:
            raise InvalidUpdate(
                f"the board signed another update of base {base}", Reason.EQUIVOCATION
            )


def _check_base(
    draft: StateOverlay, spec: TaskSpec, body: Contribution | Forfeit, head: int
) -> None:
    base, most = body.version, spec.aggregation.staleness_max
    if base > head:
        raise InvalidUpdate(f"base {base} is not final, the head is {head}")
    if base < oldest_base(draft, body.task, head, most):
        raise StaleUpdate(f"base {base} is too old, the head is {head}")


def _check_policy(spec: TaskSpec, body: Contribution) -> None:
    if body.codec != spec.codec:
        raise ShapeMismatch(f"codec {body.codec}, the task wants {spec.codec}")
    if body.mechanism != spec.privacy.mechanism or body.pledge not in spec.pledges:
        raise InvalidUpdate("mechanism or pledge differ", Reason.POLICY_MISMATCH)
    least = stated_charge(spec.privacy)
    if body.charge < least or (body.charge and body.mechanism in UNNOISED):
        raise InvalidUpdate(
            f"charge {body.charge}, the task's noise costs {least}",
            Reason.POLICY_MISMATCH,
        )


def _credit(
    draft: StateOverlay,
    sender: DeviceId,
    board: BoardRecord,
    spec: TaskSpec,
    body: Contribution | Forfeit,
    updates: int,
) -> None:
    """Adds what a board paid to its record, from which it can be proven for good."""
    # `paid` is what the board says it paid in all; the chain keeps the most it ever
    # said.
    total, paid = board.charge + body.charge, max(board.paid, body.paid)
    if max(total, paid) > CHARGE_MAX:
        raise BudgetExceeded("the board's charges leave all bounds")
    after = evolve(
        board,
        updates=board.updates + updates,
        charge=total,
        paid=paid,
        mechanisms=board.mechanisms | 1 << spec.privacy.mechanism,
    )
    board_records.BOARDS.put(draft, after, sender)


def _remember(
    draft: StateOverlay,
    body: Contribution | Forfeit,
    sender: DeviceId,
    signed: tuple[SignedBase, ...],
    head: int,
    spec: TaskSpec,
    identity: Digest,
) -> None:
    """Keeps what a board signed while its base can still be used."""
    # A base that is too stale can be signed for no more, so its entry may go.
    oldest = head - spec.aggregation.staleness_max
    kept = [entry for entry in signed if entry.base >= oldest]
    kept.append(SignedBase(body.version, identity))
    kept.sort(key=lambda entry: entry.base)
    record = SigningHistory(tuple(kept))
    board_records.HISTORIES.put(draft, record, body.task, sender)


def _queue_changed(
    draft: StateOverlay,
    context: BlockContext,
    number: int,
    spec: TaskSpec,
    progress: TaskProgress,
) -> None:
    """Cuts if K updates wait and no job is open; keeps the list of waiting tasks."""
    # While a job is open no patience counts, so that the task is off the list.
    if task_records.JOBS.has(draft, number):
        waits = False
    elif progress.pending >= spec.aggregation.buffer:
        progress = _cut(draft, context, number, progress, spec.aggregation.buffer)
        waits = False
    else:
        lost = lost_updates.of_head(draft, number, progress.head)
        waits = progress.pending > 0 or lost is not None
    task_records.PROGRESS.put(draft, progress, number)
    waiting = task_records.waiting(draft)
    # Written only when it changes: the list is one key for all tasks.
    if waits != (number in waiting):
        others = tuple(other for other in waiting if other != number)
        numbers = (*others, number) if waits else others
        task_records.put_waiting(draft, numbers)


def cut_patient(draft: StateOverlay, context: BlockContext) -> None:
    """At a block's end: cuts buffers that will hardly become fuller.

    Half a buffer is enough once its oldest update waited `patience` blocks and
    `patience_s` by their headers. Boards that
    forfeited the head count towards the half, from their last forfeit on; with them,
    fewer updates make a version, and none at all the same version anew: a base for
    which everybody may sign again. Of a task that was closed or has ended one update is
    enough, since no lease brings more.
    """
    for number in task_records.waiting(draft):
        spec, progress = _open_task(draft, number)
        lost = lost_updates.of_head(draft, number, progress.head)
        # Rounded up, so that a buffer of one is never cut from nothing.
        half = -(-spec.aggregation.buffer // 2)
        if progress.pending and task_end.is_over(draft, number, context.time_ms):
            half = 1
        if progress.pending + (lost.boards if lost else 0) < half:
            continue
        since: list[QueuedUpdate | LostUpdateCount] = []
        if progress.pending:
            oldest = task_records.pending_at(draft, number, progress.first)
            assert oldest is not None
            since.append(oldest)
        # Forfeits have to wait only where they are needed for the half.
        if lost is not None and progress.pending < half:
            since.append(lost)
        if not all(_waited(context, spec, each) for each in since):
            continue
        if progress.pending:
            progress = _cut(draft, context, number, progress, spec.aggregation.buffer)
            # A job is open by then: it only takes the task off the list.
            _queue_changed(draft, context, number, spec, progress)
        else:
            _renew(draft, context, number, progress.head)


def _waited(
    context: BlockContext, spec: TaskSpec, since: QueuedUpdate | LostUpdateCount
) -> bool:
    blocks = context.height - since.height
    waited_ms = context.time_ms - since.time_ms
    policy = spec.aggregation
    return blocks >= policy.patience and waited_ms >= 1000 * policy.patience_s


def _renew(
    draft: StateOverlay, context: BlockContext, number: int, head: Version
) -> None:
    """Makes the head's model the next version, too."""
    digest = task_records.version(draft, number, head)
    assert digest is not None
    advance(draft, context, number, Version(head + 1), digest)


def _cut(
    draft: StateOverlay,
    context: BlockContext,
    number: int,
    progress: TaskProgress,
    most: int,
) -> TaskProgress:
    """Makes the first `most` waiting updates the open job."""
    places: list[int] = []
    place = progress.first
    while place < progress.following and len(places) < most:
        # Stale updates left gaps.
        if task_records.QUEUE.has(draft, number, place):
            places.append(place)
        place += 1
    version = Version(progress.head + 1)
    job = JobRecord(version, context.height, tuple(places))
    task_records.JOBS.put(draft, job, number)
    left = progress.pending - len(places)
    first = _oldest(draft, number, place, progress.following)
    draft.happen(JobCut(TaskId(number), version))
    return replace(progress, first=first, pending=left)


def _oldest(draft: StateOverlay, number: int, place: int, following: int) -> int:
    while place < following and not task_records.QUEUE.has(draft, number, place):
        place += 1
    return place


def advance(
    draft: StateOverlay,
    context: BlockContext,
    number: int,
    version: Version,
    digest: Digest,
) -> None:
    """Makes a version the head, drops what is too old with it, and tries the next cut.

    Args:
      draft: The state.
      context: The block.
      number: The task.
      version: The head plus 1; nothing of it waits any more.
      digest: What it is.
    """
    spec, progress = _open_task(draft, number)
    task_records.VERSIONS.put(draft, digest, number, version)
    lost_updates.forget(draft, number)
    evaluations.forget(draft, number, version)
    oldest = version - spec.aggregation.staleness_max
    # One version leaves this window with each new one.
    if oldest > DISSENT_VERSIONS:
        task_records.VERSIONS.drop(draft, number, oldest - 1 - DISSENT_VERSIONS)
    scores.forget_old(draft, context, number, spec, oldest)
    # Dropped here and without blame: they were in time when they were taken.
    progress = _drop_stale(draft, number, replace(progress, head=version), oldest)
    draft.happen(VersionFinal(TaskId(number), version, digest))
    _queue_changed(draft, context, number, spec, progress)


def _drop_stale(
    draft: StateOverlay, number: int, progress: TaskProgress, oldest: int
) -> TaskProgress:
    left = 0
    for place in range(progress.first, progress.following):
        entry = task_records.pending_at(draft, number, place)
        if entry is None:
            continue
        if entry.base < oldest:
            task_records.QUEUE.drop(draft, number, place)
        else:
            left += 1
    first = _oldest(draft, number, progress.first, progress.following)
    return replace(progress, first=first, pending=left)
