"""The task that a board takes part in, and those that it left, in one file.

A line of numbers: the task, then those after it that were over.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from starling.agent.config import TrainingSettings
from starling.agent.step.state import AgentState
from starling.durable.files import read_if_present, write_atomic
from starling.protocol.errors import LimitError
from starling.protocol.ids import TASKS_MAX, TaskId

_BYTES_MAX = 4096


@dataclass(frozen=True)
class FollowedTask:
    """A task that a board takes part in.

    Attributes:
      number: Which one.
      left: Later ones that were over; the board does not go back to them.
    """

    number: TaskId
    left: frozenset[TaskId] = frozenset()

    @classmethod
    def read(cls, path: Path, training: TrainingSettings) -> "FollowedTask":
        """The owner's task, or another one that the board changed over to since."""
        named, found = TaskId(training.task), None
        # A damaged file costs no more than to hear of all tasks again.
        with suppress(LimitError):
            found = read_if_present(path, _BYTES_MAX)
        words = (found or b"").split()
        numbers = [TaskId(int(word)) for word in words if word.isdigit()]
        sound = words and len(numbers) == len(words) and max(numbers) < TASKS_MAX
        if not training.newest or not sound:
            return cls(named)
        left = frozenset(numbers[1:])
        # The larger number is the newer task, unless that one is over.
        return cls(max({named, numbers[0]} - left, default=named), left)

    @classmethod
    def after(cls, number: TaskId, state: AgentState) -> "FollowedTask":
        """The task that a board with this state changes over to, and what it left."""
        return cls(number, frozenset(task for task in state.over if task > number))

    def write(self, path: Path) -> None:
        """Writes it for the next start.

        Raises:
          StorageError: If the disk refuses.
        """
        numbers = [self.number, *sorted(self.left)]
        write_atomic(path, b"%s\n" % " ".join(map(str, numbers)).encode())
