"""Privacy statement of a task for the boards' owners, with expected accuracy.

Noise against signal follows from the task; accuracies are those that were measured on
MNIST with a hundred boards of 600 digits, and say what to expect of such a fleet.
"""

import math
from dataclasses import dataclass

from starling.protocol.learning.task import E12, MICRO, Q24, PrivacyPolicy, TaskSpec
from starling.protocol.privacy.mechanisms import (
    DEVICE_GAUSSIAN,
    DEVICE_LAPLACE,
    DEVICE_LEVEL,
    MECHANISMS,
    NONE,
    RECORD_DPSGD,
    RECORD_GAUSSIAN,
)
from starling.protocol.privacy.privacy_loss_distribution import (
    DELTA_LEAST,
    sampled_epsilon,
)

_FLEET = "MNIST, 100 boards of 600 digits, ten releases, delta 1e-5"
EXPECTED = {
    NONE: "98.5 to 98.7 % (CNN)",
    RECORD_GAUSSIAN: (
        "head of 6,490 parameters 93.7 / 95.1 / 96.0 / 96.5 % at epsilon 1 / 2 / 4 / 8;"
        " CNN of 26,010 92.5 % at 2, 95.6 to 95.9 % at 8"
    ),
    RECORD_DPSGD: (
        "CNN of 26,010 parameters 94.0 % at epsilon 8 with ten steps of a tenth, where"
        " record-gaussian has 95.6 to 95.9 %"
    ),
    DEVICE_GAUSSIAN: (
        "head of 6,490 parameters 72 % at epsilon 19.1, 89 % at 40.9, 93 % at 88.4;"
        " with two classes a board 31, 43 and 61 %; useless for a CNN. The same noise"
        " hides whether a board had data at all with epsilon 8, 16 and 32"
    ),
    DEVICE_LAPLACE: (
        "worse than device-gaussian at every epsilon, by about the root of the number"
        " of parameters; meant for models of a few dozen parameters"
    ),
}
"""Accuracies by mechanism, each with the epsilon it took."""


@dataclass(frozen=True)
class PrivacyStatement:
    """A task's privacy with everything that makes its epsilon meaningful.

    Attributes:
      mechanism: Its name.
      unit: What is hidden.
      adjacency: Between which data sets.
      epsilon: In total, over all planned releases.
      delta: Of that epsilon.
      releases: Planned per board.
      noise_multiplier: Noise scale over sensitivity.
      clip: What is clipped to it says `unit`.
      epsilon_as_planned: Of exactly the planned schedule, where a tighter account than
        the ledger's is known.
      noise_to_signal: Largest signal of an update against its noise, as norms.
      expected: Measured accuracies.
    """

    mechanism: str
    unit: str
    adjacency: str
    epsilon: float
    delta: float
    releases: int
    noise_multiplier: float
    clip: float
    epsilon_as_planned: float | None
    noise_to_signal: float
    expected: str

    def lines(self) -> tuple[str, ...]:
        """For an operator to read."""
        if self.mechanism == "none":
            return ("privacy: none; updates tell about the boards' data",)
        planned = self.epsilon_as_planned
        tighter = "" if planned is None else f" ({planned:.2f} if kept as planned)"
        return (
            f"privacy: {self.mechanism} hides {self.unit}; {self.adjacency}",
            f"  epsilon {self.epsilon:g}{tighter} at delta {self.delta:g} for"
            f" {self.releases} releases; clip {self.clip:g},"
            f" noise multiplier {self.noise_multiplier:.3f}",
            f"  noise is at least {self.noise_to_signal:.3g} times an update, and"
            " shrinks with the root of the buffer",
            f"  to expect ({_FLEET}): {self.expected}",
        )


def promise(spec: TaskSpec) -> PrivacyStatement:
    """Privacy statement of a task."""
    privacy = spec.privacy
    names = {number: name for name, number in MECHANISMS.items()}
    device = privacy.mechanism in DEVICE_LEVEL
    return PrivacyStatement(
        names[privacy.mechanism],
        "everything that a board holds" if device else "one record",
        "any two data sets" if device else "add or remove",
        privacy.epsilon_micro / MICRO,
        privacy.delta_e12 / E12,
        privacy.releases,
        privacy.sigma_micro / MICRO,
        privacy.clip_q24 / Q24,
        _epsilon_as_planned(privacy),
        _noise_to_signal(privacy, spec.dimension, spec.pledges[-1]),
        EXPECTED[privacy.mechanism],
    )


def _epsilon_as_planned(privacy: PrivacyPolicy) -> float | None:
    delta = privacy.delta_e12 / E12
    if privacy.mechanism != RECORD_DPSGD or delta < DELTA_LEAST:
        return None
    total = privacy.steps * privacy.releases
    return sampled_epsilon(privacy.sigma_micro, privacy.sampling_micro, total, delta)


def _noise_to_signal(privacy: PrivacyPolicy, dimension: int, pledge: int) -> float:
    """The noise's norm over the norm of an update of which nothing cancels."""
    noise = privacy.sigma_micro / MICRO * math.sqrt(dimension)
    if privacy.mechanism == RECORD_DPSGD:
        drawn = pledge * privacy.sampling_micro / MICRO
        return noise / (math.sqrt(privacy.steps) * drawn)
    if privacy.mechanism == DEVICE_LAPLACE:
        return 2 * math.sqrt(2) * noise
    return 2 * noise if privacy.mechanism == DEVICE_GAUSSIAN else noise / pledge
