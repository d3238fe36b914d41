"""Records of closed tasks in the chain's state.

closed/<n>   `TaskClosure`: at which height, and by whom
"""

from starling.coordinator.chain.state.state_table import StateReader, Table, by_number
from starling.protocol.ids import PublicKey, device_id, device_name
from starling.protocol.schema.msgpack_codec import Structure, Uint, structure


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
