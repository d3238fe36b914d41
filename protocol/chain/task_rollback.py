"""ROLLBACK: a version of a task made again without some boards' contributions.

A quorum of validators carries it as a motion. Each of them made the version again
itself before it approved, so that their signatures attest its digest; it becomes the
task's next version, and what was made after the version that was made again counts no
more.
"""

from typing import Annotated

from starling.protocol.errors import DecodeError, ProofError
from starling.protocol.ids import DeviceId, TaskId, Version
from starling.protocol.learning.task import ModelDigests
from starling.protocol.schema.msgpack_codec import Structure, many, structure

WITHOUT_MAX = 44
"""Boards of one rollback: the content of a motion holds no more."""


class TaskRollback(Structure, frozen=True):
    """A version made again; it stands under `rollback_key` of the version it became.

    Attributes:
      task: Which task.
      first: The version after which the boards' contributions are left out.
      again: The version that was made again.
      model: What that gives.
      without: Whose contributions are left out, sorted.
    """

    task: TaskId
    first: Version
    again: Version
    model: ModelDigests
    without: Annotated[tuple[DeviceId, ...], many(WITHOUT_MAX, 1)]

    def __post_init__(self) -> None:
        """Refuses boards in any other order, and versions that leave none out."""
        if list(self.without) != sorted(set(self.without)):
            raise DecodeError("boards must be distinct and sorted")
        if self.first >= self.again:
            raise DecodeError("the version made again comes after the first")


ROLLBACK = structure(TaskRollback, 1024)


def rolled_version(key: bytes, task: int) -> Version:
    """The version of a task that a `rollback_key` is of.

    Raises:
      ProofError: If it is no such key.
    """
    _, _, number = key.rpartition(b"/")
    # Made again and compared, so that "07" and other tasks' keys are refused.
    if not number.isdigit() or rollback_key(task, int(number)) != key:
        raise ProofError(f"the proof is not of a rollback of task {task}")
    return Version(int(number))


def rollback_key(task: int, version: int) -> bytes:
    """The state key under which the rollback stands that a version came from."""
    return b"rollback/%d/%d" % (task, version)
