"""Next action of the operator for each condition, and the board's health in it."""

from collections.abc import Mapping

from starling.agent.step.state import ReadinessCondition as R

WAITS = ""
"""Nothing is to be done."""

NEXT_ACTIONS: Mapping[R, str] = {
    R.TRAINING: WAITS,
    R.ASKING: WAITS,
    R.READY: WAITS,
    R.TOOK_PART: WAITS,
    R.SENDING: WAITS,
    R.PACED: WAITS,
    R.FETCHING: WAITS,
    R.LOADING: WAITS,
    R.UNPROVEN: WAITS,
    R.OFFLINE: "run: starling agent check",
    R.UNINVITED: (
        "none if the operators are yet to publish one; else see training.task"
    ),
    R.TASK_CHANGED: "ask the operators which task was meant; see docs/agent.md",
    R.LEDGER_BEHIND: (
        "nothing if it passes with the next version; else stop the copy that runs, too"
    ),
    R.MODEL_REFUSED: "tell the operator what `fault` says",
    R.NO_DATA: "put .npz files or tables into the folder that `fault` names",
    R.PLEDGE_TOO_SMALL: "raise data.pledge if there are as many records",
    R.BUDGET_SPENT: "nothing more can be learnt from these data under this epsilon",
    R.POLICY_REFUSED: "ask for a task with more privacy; see [privacy] in agent.toml",
    R.SPOOL_FULL: "see whether coordinators are heard; raise spool.mb if they are",
    R.DISK_FULL: "make room on the disk",
    R.REVOKED: "ask the operator; a revoked board comes back with a new home alone",
    R.RESTORED: "nothing if it passes; else stop the copy that runs with the same key",
    R.JAILED: "see `refused`; it ends by itself",
    R.TASK_PAUSED: "see `refused`; it goes on by itself if the operator lets it",
    R.TASK_CLOSED: "nothing if another is open, or to come, and training.newest is on",
    R.QUARANTINED: "look at this board's data, labels first; it ends by itself",
    R.BROKER_REFUSES: "ask the operator: was this board revoked, or the fleet renamed?",
    R.UNTRUSTED: "have it admitted anew: starling agent enrol --admission F --replace",
    R.UNANSWERED: "have the operator run: starling coordinator admit",
    R.RESTING: "read what `fault` says; it is tried again by itself",
}
"""Empty where the board only has to be left alone."""


STOPPED = frozenset(
    condition.value
    for condition in (
        *(R.TASK_CHANGED, R.MODEL_REFUSED, R.NO_DATA, R.PLEDGE_TOO_SMALL),
        *(R.POLICY_REFUSED, R.DISK_FULL, R.REVOKED, R.BROKER_REFUSES, R.UNTRUSTED),
    )
)
"""Those that end only if somebody acts, as the status shows them."""


def next_action(condition: str) -> str:
    """Next action for a condition as the status shows it; empty for nothing.

    A text that is none of the conditions names its way out itself.
    """
    for known, action in NEXT_ACTIONS.items():
        if known.value == condition:
            return action
    return WAITS
