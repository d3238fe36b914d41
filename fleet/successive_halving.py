"""Successive halving: many settings run a little, the best of them longer.

Letters: `n` settings, `eta` how many times fewer go on, each so many times longer.

Source: Jamieson and Talwalkar 2016, arXiv:1502.07943, algorithm 1.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from starling.protocol.errors import ConfigError

ETA = 3
_CLIPS = (1 / 3, 1.0, 3.0)
_STEPS = (1 / 4, 1 / 2, 1.0, 2.0, 4.0)
_RATE_MIN, _RATE_MAX = 2.0**-16, 256.0
VERSIONS_LEAST = 4
"""Fewer tell nothing about a rate."""


@dataclass(frozen=True, order=True)
class TuningCandidate:
    """Settings that are tried.

    Attributes:
      clip: Of gradients or updates; 0 without privacy, where nothing is clipped.
      rate: Server's step with privacy, else that of a local step.
    """

    clip: float
    rate: float


@dataclass(frozen=True)
class HalvingStage:
    """One stage.

    Attributes:
      versions: That each candidate runs for.
      kept: How many of them go on.
    """

    versions: int
    kept: int


def candidates(clip: float, rate: float, private: bool) -> tuple[TuningCandidate, ...]:
    """Settings around a preset.

    A clip that is smaller by some factor goes with a rate that is larger by it: what is
    varied beside the clip is the length of the longest step.

    Args:
      clip: The preset's.
      rate: The preset's.
      private: Whether anything is clipped.

    Returns:
      Those within the bounds of a plan; the preset is one of them.
    """
    if not private:
        return tuple(
            TuningCandidate(0.0, rate * step)
            for step in _STEPS
            if _RATE_MIN <= rate * step <= _RATE_MAX
        )
    return tuple(
        TuningCandidate(clip * factor, rate * step / factor)
        for factor in _CLIPS
        for step in _STEPS
        if _RATE_MIN <= rate * step / factor <= _RATE_MAX
    )


def stages(count: int, versions: int) -> tuple[HalvingStage, ...]:
    """Stages after which one candidate is left.

    Args:
      count: n, at least 1.
      versions: Of the last stage, at least `VERSIONS_LEAST`.

    Raises:
      ConfigError: If that is too few.
    """
    if versions < VERSIONS_LEAST:
        detail = f"{versions} is below {VERSIONS_LEAST}, which tell nothing of a rate"
        raise ConfigError(detail, key="--until-version")
    # Rounded first: the logarithm of a power of eta is off in its last digits.
    number = max(1, math.ceil(round(math.log(count, ETA), 9)))
    made = []
    for stage in range(number):
        shorter = ETA ** (number - 1 - stage)
        count = max(1, count // ETA) if stage < number - 1 else 1
        made.append(HalvingStage(max(VERSIONS_LEAST, versions // shorter), count))
    return tuple(made)


def best_of(
    losses: Mapping[TuningCandidate, float], count: int
) -> list[TuningCandidate]:
    """The candidates of the lowest losses, best first; those without one come last."""
    # A NaN compares with nothing, and would leave the order to chance.
    return sorted(losses, key=lambda each: (not_finite(losses[each]), losses[each]))[
        :count
    ]


def not_finite(loss: float) -> bool:
    """True of the loss of a fleet that diverged."""
    return not math.isfinite(loss)
