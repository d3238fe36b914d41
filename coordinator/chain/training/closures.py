"""CLOSE: an operator ends a task, for good.

    closed/<n>   `TaskClosure`: at which height, and by whom

No board gets another lease of it. What was leased before counts as it did: boards have
paid for it, and their updates still become versions.
"""

from starling.coordinator.chain.governance.permissions import check_operator
from starling.coordinator.chain.state import task_records
from starling.coordinator.chain.state.overlay import (
    BlockContext,
    StateOverlay,
    TaskClosed,
)
from starling.coordinator.chain.state.state_table import StateReader, Table, by_number
from starling.protocol.errors import ProtocolError, Reason
from starling.protocol.ids import Digest, PublicKey, device_id, device_name
from starling.protocol.schema.msgpack_codec import Structure, Uint, structure
from starling.protocol.wire.envelope import Envelope
from starling.protocol.wire.message_bodies import CLOSE


class TaskClosure(Structure, frozen=True):
    """End of a task.

    Attributes:
      height: Of the block that has it.
      operator: Who signed it.
    """

    height: Uint
    operator: PublicKey

    @property
    def text(self) -> str:
        """Text of who closed the task, and when."""
        name = device_name(device_id(self.operator))
        return f"closed by operator {name} at height {self.height}"


CLOSURES = Table(b"closed/", by_number, structure(TaskClosure, 64))
"""By task."""


def closure(tree: StateReader, number: int) -> TaskClosure | None:
    """End of a task; None while it is open."""
    return CLOSURES.get(tree, number)


def close(
    draft: StateOverlay, context: BlockContext, envelope: Envelope, identity: Digest
) -> None:
    """Closes a task.

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
    draft.happen(TaskClosed(body.task))
