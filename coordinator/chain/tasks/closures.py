"""CLOSE: an operator ends a task, for good.

No board gets another lease of it. What was leased before counts as it did: boards have
paid for it, and their updates still become versions. What is set aside for what boards
contributed is paid at once, and with each version that is scored later.
"""

from starling.coordinator.chain.governance.permissions import check_operator
from starling.coordinator.chain.state import task_records
from starling.coordinator.chain.state.closure_records import (
    CLOSURES,
    TaskClosure,
    closure,
)
from starling.coordinator.chain.state.overlay import (
    BlockContext,
    StateOverlay,
    TaskClosed,
)
from starling.coordinator.chain.tasks import contribution_rewards
from starling.protocol.errors import ProtocolError, Reason
from starling.protocol.ids import Digest, PublicKey
from starling.protocol.wire.envelope import Envelope
from starling.protocol.wire.message_bodies import CLOSE


def close(
    draft: StateOverlay, context: BlockContext, envelope: Envelope, identity: Digest
) -> None:
    """Closes a task, and pays its boards what is set aside for them.

    Raises:
      ProtocolError: NOT_AUTHORISED, UNKNOWN_TASK, ALREADY_KNOWN or MALFORMED.
    """
    del identity
    body = CLOSE.unpack(envelope.body)
    check_operator(draft, envelope)
    if task_records.head(draft, body.task) is None:
        raise ProtocolError(f"no task {body.task}", Reason.UNKNOWN_TASK)
    known = closure(draft, body.task)
    if known is not None:
        raise ProtocolError(f"task {body.task} was {known.text}", Reason.ALREADY_KNOWN)
    made = TaskClosure(context.height, PublicKey(envelope.sender))
    CLOSURES.put(draft, made, body.task)
    contribution_rewards.pay_all(draft, context, body.task)
    draft.happen(TaskClosed(body.task))
