"""The section of `task.toml` that says when a task is to be noticed, and to pause."""

from dataclasses import dataclass

from starling.protocol.learning.progress_guard import (
    DEFAULT_MARGIN_MICRO,
    MARGIN_MAX,
    PATIENCE_MAX,
    GuardPolicy,
)
from starling.protocol.learning.task import MICRO
from starling.protocol.schema.toml_settings import setting


@dataclass(frozen=True)
class GuardSection:
    """Guard of the task's progress."""

    patience: int = setting(
        50,
        "Versions without a lower held-out loss after which no more leases are "
        "granted, until an operator resumes the task; 10 at most while no version was "
        "better than version 0; 0 for never.",
        least=0,
        most=PATIENCE_MAX,
    )
    margin: float = setting(
        DEFAULT_MARGIN_MICRO / MICRO,
        "Share of the best held-out loss by which a version's may exceed it before "
        "the version is called worse.",
        least=0.0,
        most=MARGIN_MAX / MICRO,
    )


def guard_policy(section: GuardSection) -> GuardPolicy:
    """The section in the integers of the chain."""
    return GuardPolicy(section.patience, round(section.margin * MICRO))
