"""EVALUATION: held-out losses of versions, and the median of a quorum; RESUME.

    evaluated/<n>/<v>   `VersionLosses`: who stated which loss, and the median
    guard/<n>           `TaskLoss`: the best median, and the newest version's

The median of a version is fixed by the first quorum of members of the set that state a
loss; what comes later is noted for nobody's benefit but its sender's, who is told that
it stands. Versions may be evaluated until `KEPT` versions later, however stale their
updates may be: trials take their time.

Source: as for `scores`, the lower median of at least q = floor(2n/3) + 1 values, of
which at most f lie, has an honest value on either side of it or is one.
"""

from typing import Annotated

from starling.coordinator.chain.governance.permissions import check_operator
from starling.coordinator.chain.state import task_records, validator_records
from starling.coordinator.chain.state.overlay import (
    BlockContext,
    LossKnown,
    StateOverlay,
    TaskResumed,
)
from starling.coordinator.chain.state.state_table import (
    StateReader,
    Table,
    by_number,
    by_task_and_number,
)
from starling.protocol.chain.genesis import VALIDATORS_MAX, FaultModel, quorum
from starling.protocol.chain.update_scores import lower_medians
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import ProtocolError, Reason
from starling.protocol.ids import Digest, PublicKey, TaskId, Version
from starling.protocol.learning.progress_guard import (
    EVALUATION,
    LOSS_MAX,
    RESUME,
    TASK_LOSS,
    TaskLoss,
    is_paused,
    with_loss,
)
from starling.protocol.schema.msgpack_codec import Structure, many, structure, uint
from starling.protocol.wire.envelope import Envelope

KEPT = 64
"""Versions for which a loss may come after the version was final."""
WATCHED = 8
"""Versions in a row of which a validator that evaluates has stated a loss of some."""


class StatedLoss(Structure, frozen=True):
    """The loss that one validator states, in 10^-6."""

    validator: PublicKey
    loss_micro: Annotated[int, uint(LOSS_MAX)]


class VersionLosses(Structure, frozen=True):
    """Losses of one version.

    Attributes:
      stated: By validator, sorted.
      median: In 10^-6, once a quorum stated a loss; does not change any more.
    """

    stated: Annotated[tuple[StatedLoss, ...], many(VALIDATORS_MAX, 1)]
    median: Annotated[int, uint(LOSS_MAX)] | None = None


LOSSES = Table(b"evaluated/", by_task_and_number, structure(VersionLosses, 4096))
"""By task and version: held-out losses."""
GUARDS = Table(b"guard/", by_number, TASK_LOSS)
"""By task: its best and its newest median."""


def task_loss(tree: StateReader, number: int) -> TaskLoss | None:
    """A task's best and newest median; None before the first one."""
    return GUARDS.get(tree, number)


def evaluators(tree: StateReader, number: int) -> int:
    """Number of validators that stated a loss of the last `WATCHED` versions."""
    head = task_records.head(tree, number) or 0
    known = (
        LOSSES.get(tree, number, version)
        for version in range(max(0, head - WATCHED + 1), head + 1)
    )
    return len({each.validator for one in known if one for each in one.stated})


def paused(tree: StateReader, number: int) -> bool:
    """True if a task pauses: its loss has not fallen for as long as its guard waits."""
    spec = task_records.task(tree, number)
    return spec is not None and is_paused(spec.guard, task_loss(tree, number))


def evaluation(
    draft: StateOverlay, context: BlockContext, envelope: Envelope, identity: Digest
) -> None:
    """Takes a coordinator's held-out loss; those of a quorum give the median.

    Raises:
      ProtocolError: NOT_AUTHORISED, UNKNOWN_TASK, STALE, ALREADY_KNOWN, EQUIVOCATION or
        MALFORMED.
    """
    del identity
    body = EVALUATION.unpack(envelope.body)
    validators = validator_records.validators(draft, context.genesis, context.height)
    if validators.index_of(envelope.sender) is None:
        raise ProtocolError("signed by no validator", Reason.NOT_AUTHORISED)
    head = task_records.head(draft, body.task)
    if head is None:
        raise ProtocolError(f"no task {body.task}", Reason.UNKNOWN_TASK)
    if not head - KEPT < body.version <= head:
        detail = f"no version {body.version} to evaluate, the head is {head}"
        raise ProtocolError(detail, Reason.STALE)
    known = LOSSES.get(draft, body.task, body.version)
    stated = {} if known is None else {s.validator: s for s in known.stated}
    own = StatedLoss(envelope.sender, body.loss_micro)
    # A first word binds, as for a vote; only its repetition is harmless.
    if envelope.sender in stated:
        same = stated[envelope.sender] == own
        reason = Reason.ALREADY_KNOWN if same else Reason.EQUIVOCATION
        raise ProtocolError("the validator stated a loss of this version", reason)
    if known is not None and known.median is not None:
        raise ProtocolError("a quorum stated losses before", Reason.STALE)
    # Who left the set since counts as little as who never was in it.
    counted = [
        each
        for each in (*stated.values(), own)
        if validators.index_of(each.validator) is not None
    ]
    median = None
    fault_model = FaultModel(context.genesis.fault_model)
    if len(counted) >= quorum(len(validators.members), fault_model):
        (median,) = lower_medians([(each.loss_micro,) for each in counted])
    # With the members of today only, so that the list never outgrows a set.
    kept = tuple(sorted(counted, key=lambda each: each.validator))
    LOSSES.put(draft, VersionLosses(kept, median), body.task, body.version)
    if median is not None:
        _note(draft, body.task, body.version, median)


def resume(
    draft: StateOverlay, context: BlockContext, envelope: Envelope, identity: Digest
) -> None:
    """Lets a paused task go on: its patience counts from its newest evaluated version.

    Raises:
      ProtocolError: NOT_AUTHORISED, UNKNOWN_TASK, STALE or MALFORMED.
    """
    del context, identity
    body = RESUME.unpack(envelope.body)
    check_operator(draft, envelope)
    if task_records.head(draft, body.task) is None:
        raise ProtocolError(f"no task {body.task}", Reason.UNKNOWN_TASK)
    known = task_loss(draft, body.task)
    if known is None or not paused(draft, body.task) or body.version != known.newest:
        raise ProtocolError(
            f"task {body.task} does not pause at version {body.version}", Reason.STALE
        )
    after = TaskLoss(
        known.best, known.best_micro, known.newest, known.newest_micro, body.version
    )
    GUARDS.put(draft, after, body.task)
    draft.happen(TaskResumed(body.task))


def restart_patience(draft: StateOverlay, number: int, version: Version) -> None:
    """Lets a task's patience count from a version that its updates did not make."""
    known = task_loss(draft, number)
    if known is not None:
        GUARDS.put(draft, evolve(known, since=version), number)


def forget(draft: StateOverlay, number: int, head: int) -> None:
    """Drops losses of the version that nobody evaluates any more at a new head."""
    if head >= KEPT and LOSSES.has(draft, number, head - KEPT):
        LOSSES.drop(draft, number, head - KEPT)


def _note(draft: StateOverlay, number: TaskId, version: Version, median: int) -> None:
    known = with_loss(task_loss(draft, number), version, median)
    GUARDS.put(draft, known, number)
    draft.happen(LossKnown(number, version))
