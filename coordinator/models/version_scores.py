"""Scores of final versions: asked of the root set, stated to the chain, and followed.

Whoever holds a root set that the task pins scores the updates of each version that it
has computed or can compute. The chain decides what counts
(`coordinator.chain.tasks.scores`); here a score becomes our statement, and a board
that is quarantined loses its place in the queue.
"""

from starling.coordinator.boards import lease_grants
from starling.coordinator.chain.state.overlay import BoardQuarantined
from starling.coordinator.chain.tasks import reputations, scores
from starling.coordinator.models import pending_jobs
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.effects import ScoreVersion
from starling.coordinator.step.events import VersionScored
from starling.coordinator.step.state import TaskState
from starling.protocol.chain.update_scores import Score
from starling.protocol.ids import Version, device_name
from starling.protocol.learning.board_reputation import quarantined_text


def ask(step: CoordinatorStep, task: TaskState, version: Version) -> None:
    """Has the updates of a version scored, if that is for us.

    Args:
      step: The step.
      task: As it was when the version before was its head.
      version: The one that is final now.
    """
    root = step.settings.root
    # The task pins its root sets by digest, so that no scorer can choose data that suit
    # it.
    if root is None or root not in task.spec.scores.roots:
        return
    job = task.job
    if job is None or job.version != version:
        job = pending_jobs.kept(task, version)
    if (
        job is None
        or task.head != version - 1
        or step.state.ledger.validator.index is None
    ):
        # A version that others made of updates that we never had.
        return
    members = [member.transaction for member in job.members]
    # Content keys that peers passed go along: the worker's own box may not open them.
    keys = {each: step.state.keys[each] for each in members if each in step.state.keys}
    spec = task.spec
    step.emit(
        ScoreVersion(task.number, version, job, task.model.training, spec.bundle, keys)
    )


def scored(step: CoordinatorStep, event: VersionScored) -> Score | None:
    """Statement of our scores to the chain; None if nobody waits for it."""
    ledger = step.state.ledger
    if ledger.validator.index is None:
        return None
    own = step.settings.ledger.key.public
    # Scored once, or late: the chain would refuse it.
    given = own in scores.scorers(ledger.tree, event.task, event.version)
    if given or scores.scores(ledger.tree, event.task, event.version) is not None:
        return None
    return Score(event.task, event.version, event.values)


def board_quarantined(step: CoordinatorStep, found: BoardQuarantined) -> None:
    """Takes a board's place, and says so; the board is told when it asks again."""
    known = reputations.reputation(step.state.ledger.tree, found.board)
    header = step.state.ledger.header
    assert header is not None, "it happened in a block"
    text = quarantined_text(known, header.time_ms)
    name = device_name(found.board)
    step.report(f"board {name} is quarantined {text}", warns=True)
    for task in list(step.state.tasks.values()):
        # A lease that it holds would keep another board from its place until it ends.
        lease_grants.release(step, found.board, task)
