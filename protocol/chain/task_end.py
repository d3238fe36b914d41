"""End of a task, as a board has it proven: closed by an operator, or by its own rule.

Boards that follow the newest task leave one that is over, and a word of a coordinator
is not enough for that. A task that merely pauses, or whose pool is empty, is not over:
an operator lets it go on.
"""

from starling.protocol.crypto.state_tree import StateProof
from starling.protocol.errors import ProofError
from starling.protocol.ids import Version
from starling.protocol.learning.end_policy import EndPolicy, ended_text
from starling.protocol.learning.progress_guard import TASK_LOSS


def closure_key(task: int) -> bytes:
    """The state key under which an operator's closing of a task stands."""
    return b"closed/%d" % task


def loss_key(task: int) -> bytes:
    """The state key under which a task's packed `TASK_LOSS` stands."""
    return b"guard/%d" % task


def is_over(
    policy: EndPolicy,
    task: int,
    version: Version,
    time_ms: int,
    proof: StateProof | None,
) -> bool:
    """True if a task grants no more leases, for good.

    Args:
      policy: Of the task.
      task: Which task.
      version: Its newest version.
      time_ms: Of a certified header, in Unix milliseconds.
      proof: Of the task's closure or loss under that header; None for neither.

    Raises:
      ProofError, DecodeError: If the proof is of something else.
    """
    known = None
    if proof is not None:
        if proof.key == closure_key(task):
            return True
        if proof.key != loss_key(task):
            raise ProofError(f"the proof is not of an end of task {task}")
        known = TASK_LOSS.unpack(proof.value)
    # With credits in its pool: one without goes on after a FUND, and so is not over.
    return bool(ended_text(policy, version, time_ms, known, pool=1))
