"""Opening a task: an operator publishes it, and its version 0 is final with it."""

from starling.coordinator.chain.governance.permissions import check_operator
from starling.coordinator.chain.state import task_records
from starling.coordinator.chain.state.overlay import (
    BlockContext,
    StateOverlay,
    TaskOpened,
)
from starling.protocol.chain.board_statement import TaskProgress
from starling.protocol.errors import ConfigError, ProtocolError, Reason
from starling.protocol.ids import TASKS_MAX, Digest, TaskId, Version
from starling.protocol.learning.codec_terms import CODEC_TERMS
from starling.protocol.learning.task import TASK, version_digest
from starling.protocol.privacy.aggregation_terms import check_strategy
from starling.protocol.privacy.mechanisms import check_mode, check_policy
from starling.protocol.wire.envelope import Envelope


def publish(
    draft: StateOverlay, context: BlockContext, envelope: Envelope, identity: Digest
) -> None:
    """Opens a task; its version 0 is final with it.

    Raises:
      ProtocolError: NOT_AUTHORISED, ALREADY_KNOWN, POLICY_MISMATCH, BUSY or MALFORMED.
    """
    del context
    spec = TASK.unpack(envelope.body)
    check_operator(draft, envelope)
    if task_records.published(draft, identity) is not None:
        raise ProtocolError("the task is published", Reason.ALREADY_KNOWN)
    if spec.codec not in CODEC_TERMS:
        raise ProtocolError(f"no codec {spec.codec}", Reason.POLICY_MISMATCH)
    try:
        check_policy(spec.privacy)
        check_mode(spec.privacy.mechanism, spec.training.mode)
    except ConfigError as error:
        raise ProtocolError(f"privacy: {error}", Reason.POLICY_MISMATCH) from error
    try:
        check_strategy(spec.aggregation, spec.training, spec.privacy, spec.dimension)
    except ConfigError as error:
        raise ProtocolError(f"aggregation: {error}", Reason.POLICY_MISMATCH) from error
    number = task_records.task_count(draft)
    if number >= TASKS_MAX:
        raise ProtocolError(f"{TASKS_MAX} tasks at most", Reason.BUSY)
    task_records.TASK_COUNT.put(draft, number + 1)
    task_records.TASK_NUMBERS.put(draft, number, identity)
    task_records.TASKS.put(draft, spec, number)
    task_records.VERSIONS.put(draft, version_digest(spec.initial), number, 0)
    start = TaskProgress(Version(0), 0, 0, 0)
    task_records.PROGRESS.put(draft, start, number)
    draft.happen(TaskOpened(TaskId(number)))
