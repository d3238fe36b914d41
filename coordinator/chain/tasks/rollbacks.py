"""ROLLBACK: a quorum puts a version that was made again in the place of the newest.

The version is the task's next one, so that boards take it like any other, with its
proof. The open job and all updates that wait are dropped without blame: they were made
from what is left behind. So are updates of bases before it that still come. Boards that
are left out lose what they were not paid for yet.
"""

from dataclasses import replace

from starling.coordinator.chain.governance import governance_proposals
from starling.coordinator.chain.state import task_records
from starling.coordinator.chain.state.overlay import BlockContext, StateOverlay
from starling.coordinator.chain.state.rollback_records import (
    NEWEST_ROLLBACKS,
    ROLLBACKS,
)
from starling.coordinator.chain.tasks import (
    contribution_rewards,
    evaluations,
    version_cut,
)
from starling.protocol.chain.board_statement import TaskProgress
from starling.protocol.chain.task_rollback import ROLLBACK
from starling.protocol.errors import ProtocolError, Reason
from starling.protocol.ids import Digest, Version
from starling.protocol.learning.task import version_digest
from starling.protocol.wire.envelope import Envelope


def roll_back(
    draft: StateOverlay, context: BlockContext, envelope: Envelope, identity: Digest
) -> None:
    """Makes a version that was made again the newest one.

    Raises:
      ProtocolError: As `governance_proposals.carried`; UNKNOWN_TASK, STALE or
        MALFORMED.
    """
    del identity
    proposal = governance_proposals.carried(draft, context, envelope)
    body = ROLLBACK.unpack(proposal.content)
    progress = task_records.progress(draft, body.task)
    if progress is None:
        raise ProtocolError(f"no task {body.task}", Reason.UNKNOWN_TASK)
    if body.again > progress.head:
        detail = f"version {body.again} is not final, the head is {progress.head}"
        raise ProtocolError(detail, Reason.STALE)
    version = Version(progress.head + 1)
    # Before the new head, which would cut the next job from what waits.
    _drop_updates(draft, body.task, progress)
    ROLLBACKS.put(draft, body, body.task, version)
    NEWEST_ROLLBACKS.put(draft, version, body.task)
    # In the order of the motion, which a quorum signed.
    for board in body.without:
        contribution_rewards.leave_out(draft, body.task, board)
    evaluations.restart_patience(draft, body.task, version)
    digest = version_digest(body.model)
    version_cut.advance(draft, context, body.task, version, digest)


def _drop_updates(draft: StateOverlay, number: int, progress: TaskProgress) -> None:
    """Drops the open job with its attestations, and all that waits."""
    job = task_records.job_record(draft, number)
    waiting = range(progress.first, progress.following)
    for place in (*(job.places if job else ()), *waiting):
        task_records.QUEUE.drop(draft, number, place)
    task_records.JOBS.drop(draft, number)
    task_records.JOB_ATTESTATIONS.drop(draft, number)
    # Places are never used twice, so that the queue goes on where it ended.
    empty = replace(progress, first=progress.following, pending=0)
    task_records.PROGRESS.put(draft, empty, number)
