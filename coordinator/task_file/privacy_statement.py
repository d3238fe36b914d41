"""Privacy statement of a task for the boards' owners, with expected accuracy.

Noise against signal follows from the task; accuracies are those that were measured with
what is shipped, each with the fleet and the data that it was measured on.
"""

import math
from dataclasses import dataclass

from starling.protocol.learning.task import (
    E12,
    LABEL_RESPONSE,
    MICRO,
    Q24,
    PrivacyPolicy,
    TaskSpec,
)
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

_MNIST = (
    "MNIST, 100 boards of 600 digits, ten releases, delta 1e-5: `python -m"
    " benchmarks.mnist`"
)
_DIGITS = "digits, ten boards, epsilon 8 planned for 15 releases, 20 versions"
EXPECTED = {
    NONE: f"CNN of 21,840 parameters 98.8 % ({_MNIST})",
    RECORD_GAUSSIAN: (
        "CNN of 21,840 parameters 95.7 % at epsilon 8, 96.9 % from weights that were"
        f" trained on drawn digits ({_MNIST}); fewer parameters take less noise:"
        " `python -m benchmarks.heads` measures heads on fronts"
    ),
    RECORD_DPSGD: (
        "softmax regression 78 to 84 %, where record-gaussian has 81 to 87 %"
        f" ({_DIGITS})"
    ),
    DEVICE_GAUSSIAN: (
        f"softmax regression about 10 %, which is chance ({_DIGITS}); with 80 boards"
        " and a buffer of 40 it has 37 % at epsilon 20 and 77 % at 200"
    ),
    LABEL_RESPONSE: (
        "softmax regression 77 / 90 / 94 % at epsilon 1 / 2 / 4 of each label (digits,"
        " ten boards, 60 versions)"
    ),
    DEVICE_LAPLACE: (
        f"softmax regression about 10 %, which is chance ({_DIGITS}); meant for models"
        " of a few dozen parameters"
    ),
}
"""Accuracies by mechanism, each with what it was measured on."""


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
      noise_multiplier: Noise scale over sensitivity; 0 where labels are drawn.
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
        if not self.noise_multiplier:
            return (
                f"privacy: {self.mechanism} hides {self.unit}; {self.adjacency}",
                f"  epsilon {self.epsilon:g} for each label, spent once and whatever"
                " the releases; delta 0",
                "  it hides nothing else: inputs, and which records there are, count as"
                " public; boards take part whose owners declared that"
                f" (privacy.label_epsilon of at least {self.epsilon:g})",
                f"  to expect: {self.expected}",
            )
        planned = self.epsilon_as_planned
        tighter = "" if planned is None else f" ({planned:.2f} if kept as planned)"
        return (
            f"privacy: {self.mechanism} hides {self.unit}; {self.adjacency}",
            f"  epsilon {self.epsilon:g}{tighter} at delta {self.delta:g} for"
            f" {self.releases} releases; clip {self.clip:g},"
            f" noise multiplier {self.noise_multiplier:.3f}",
            f"  noise is at least {self.noise_to_signal:.3g} times an update, and"
            " shrinks with the root of the buffer",
            f"  to expect: {self.expected}",
        )


_RECORD = ("one record", "add or remove")
_DEVICE = ("everything that a board holds", "any two data sets")
_LABEL = ("one label", "another of the classes in its place")
_UNITS = {LABEL_RESPONSE: _LABEL, **dict.fromkeys(DEVICE_LEVEL, _DEVICE)}
"""What is hidden, and between which data sets; a record where nothing else stands."""


def promise(spec: TaskSpec) -> PrivacyStatement:
    """Privacy statement of a task."""
    privacy = spec.privacy
    names = {number: name for name, number in MECHANISMS.items()}
    unit, adjacency = _UNITS.get(privacy.mechanism, _RECORD)
    return PrivacyStatement(
        names[privacy.mechanism],
        unit,
        adjacency,
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
    # A ledger must hold whatever is released; this schedule is known, and its loss adds
    # up tighter.
    total = privacy.steps * privacy.releases
    return sampled_epsilon(privacy.sigma_micro, privacy.sampling_micro, total, delta)


def _noise_to_signal(privacy: PrivacyPolicy, dimension: int, pledge: int) -> float:
    """The noise's norm over the norm of an update of which nothing cancels."""
    noise = privacy.sigma_micro / MICRO * math.sqrt(dimension)
    if privacy.mechanism == RECORD_DPSGD:
        # Noises of independent steps add up as their root, signals of one direction as
        # they are.
        drawn = pledge * privacy.sampling_micro / MICRO
        return noise / (math.sqrt(privacy.steps) * drawn)
    if privacy.mechanism == DEVICE_LAPLACE:
        return 2 * math.sqrt(2) * noise
    return 2 * noise if privacy.mechanism == DEVICE_GAUSSIAN else noise / pledge
