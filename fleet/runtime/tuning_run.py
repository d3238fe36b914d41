"""Looks for clip and rate by simulated fleets; on data that are public, or one's own.

Every candidate's noise is that of the whole run, so that short stages are no less noisy
than what they stand for. Held-out losses decide: whoever tunes on boards' data must pay
for it, which nothing here does.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from starling.fleet.plan import NOISELESS, FleetPlan
from starling.fleet.presets import releases, task_settings
from starling.fleet.runtime.training_material import TrainingMaterial, prepare
from starling.fleet.runtime.virtual_run import Pace, run_prepared
from starling.fleet.successive_halving import (
    HalvingStage,
    TuningCandidate,
    best_of,
    candidates,
    stages,
)

_LAST = 3
"""Losses whose mean stands for a fleet's end: one version's is too noisy."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class TuningTrial:
    """One candidate in one stage.

    Attributes:
      candidate: Clip and rate.
      versions: That it ran for.
      loss: On held-out examples; infinite if it diverged.
      accuracy: On held-out examples; None for numbers.
    """

    candidate: TuningCandidate
    versions: int
    loss: float
    accuracy: float | None


def tuned(plan: FleetPlan, pace: Pace, say: Say) -> list[TuningTrial]:
    """Runs all stages.

    Args:
      plan: Of the whole run; its clip and rates are where the search begins.
      pace: Of its boards.
      say: Told of each trial.

    Returns:
      All trials in their order; the last one is the best candidate's.

    Raises:
      ConfigError: If no fleet can be as planned.
    """
    whole = replace(plan, releases=releases(plan), guard_patience=0, patience=None)
    material = prepare(whole)
    settings = task_settings(whole, material.shares, in_step=pace.in_step)
    private = whole.privacy not in NOISELESS
    rate = settings.learning_rate if private else settings.training.learning_rate
    going = list(candidates(settings.privacy.clip, rate, private))
    trials: list[TuningTrial] = []
    for stage in stages(len(going), whole.until_version):
        ran = [_trial(material, pace, each, stage, say) for each in going]
        trials += ran
        going = best_of({each.candidate: each.loss for each in ran}, stage.kept)
    best = next(each for each in reversed(trials) if each.candidate == going[0])
    trials.remove(best)
    return [*trials, best]


def chosen(plan: FleetPlan, candidate: TuningCandidate, versions: int) -> FleetPlan:
    """The plan with a candidate's clip and rate, for so many versions."""
    if plan.privacy == "none":
        learning = replace(plan.learning, local_learning_rate=candidate.rate)
        return replace(plan, learning=learning, until_version=versions)
    return replace(
        plan,
        clip=candidate.clip,
        learning_rate=candidate.rate,
        until_version=versions,
    )


def _trial(
    material: TrainingMaterial,
    pace: Pace,
    candidate: TuningCandidate,
    stage: HalvingStage,
    say: Say,
) -> TuningTrial:
    plan = chosen(material.plan, candidate, stage.versions)
    run = run_prepared(replace(material, plan=plan), pace)
    if run.outcome.stopped_because == "interrupted":
        raise KeyboardInterrupt
    losses = run.last.losses[-_LAST:]
    # A fleet that makes no more versions has come to nothing, however low it was.
    whole = run.last.version >= stage.versions and len(losses) > 0
    loss = float(np.mean(losses)) if whole else float("inf")
    loss = loss if np.isfinite(loss) else float("inf")
    accuracy = run.last.accuracy
    clip = f"clip {candidate.clip:.3g}, " if candidate.clip else ""
    shown = "" if accuracy is None else f", accuracy {accuracy:.1%}"
    say(
        f"{stage.versions} versions, {clip}rate {candidate.rate:.3g}: loss {loss:.4g}"
        f"{shown}"
    )
    return TuningTrial(candidate, stage.versions, loss, accuracy)
