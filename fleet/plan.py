"""Plan of a fleet, checked before anything starts."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from starling.fleet.attacks.attack_schedule import board_attacks
from starling.fleet.datasets.partition import (
    BOARD_EXAMPLES_MIN,
    IID,
    NATURAL,
    partition_named,
)
from starling.fleet.faults.board_faults import board_faults
from starling.fleet.faults.broker_faults import broker_faults
from starling.fleet.faults.fault_timeline import lasts_s, timeline
from starling.fleet.fronts.front_catalog import HEAD_MODEL, ORIENTATION, front_named
from starling.fleet.learning_options import NOTHING_ASKED, LearningOptions
from starling.fleet.reference_models import MODEL_SUFFIX, MODELS
from starling.protocol.chain.genesis import VALIDATORS_MAX, FaultModel
from starling.protocol.errors import ConfigError
from starling.protocol.learning.codec_terms import CODEC_NAMES
from starling.protocol.learning.score_policy import (
    DEFAULT_QUARANTINE_S,
    QUARANTINE_S_MAX,
    SCORE_RULES,
    ScoreRule,
)
from starling.protocol.learning.selection_policy import WEIGHT_MAX
from starling.protocol.learning.task import BUFFER_MAX, ROBUST_NAMES, Strategy
from starling.protocol.privacy.gaussian_dp import DELTA_MIN, EPSILON_MAX
from starling.records.data_options import DEFAULT_OPTIONS, DataOptions

DEVICES_MAX = 10_000
VERSIONS_MAX = 100_000
RELEASES_MAX = 1 << 20
TIME_LIMIT_S_MAX = 7 * 24 * 3600.0
FAULT_MODELS = tuple(model.name.lower() for model in FaultModel)
RULES = tuple(strategy.name.lower() for strategy in Strategy)
PRIVACY_KINDS = {
    "record": "record-gaussian",
    "record-dpsgd": "record-dpsgd",
    "device-gaussian": "device-gaussian",
    "device-laplace": "device-laplace",
    "labels": "label-response",
    "none": "none",
}
"""Mechanisms by what a plan calls them."""
NOISELESS = ("none", "labels")
"""Where updates carry no noise."""
STEPLESS = ("record", "record-dpsgd")
"""Where the mechanism says how a board trains."""
DEVICES_DEFAULT = 10
ACCURACY = ScoreRule.ACCURACY.name.lower()
WEIGHTS = 5
"""Of `--select`: w1 to w5."""
BUFFER_DEFAULT = 4


@dataclass(frozen=True)
class FleetPlan:
    """A run of a fleet; None leaves the choice to `fleet.presets`.

    Attributes:
      devices: Number of boards; 0 for as many as the data name, or else 10.
      buffer: K, updates that make a version.
      data: `digits`, `mnist` or a path; see `fleet.runtime.dataset_catalog`.
      split: See `fleet.datasets.partition.partition_named`; empty for the data's own
        boards, or else iid.
      data_options: What is learned from the data.
      model: One of `fleet.reference_models.MODELS`, `head`, or an ONNX file.
      front: What a `head` stands on: a front of `fleet.fronts.front_catalog`, or a file
        of `starling fronts build`; with `head` alone the one made from no data.
      learning: How the model is compiled and trained.
      privacy: A key of `PRIVACY_KINDS`.
      epsilon: Total that a board's data may pay.
      delta: Of that epsilon.
      releases: Updates of one board that the epsilon is planned for.
      until_version: The run ends at this version.
      patience: The run ends after so many versions without a lower held-out loss; None
        for never.
      guard_patience: The task pauses after so many versions without a lower held-out
        loss of a quorum; 0 for never.
      baseline: Whether the same model is trained on all data together, too.
      time_limit_s: The run ends after this time, wherever it stands.
      seed: Of the split, the weights and everything else but keys and noise.
      leases: Boards that may be in flight at once.
      clip: Norm to which each example's gradient is clipped.
      learning_rate: Server step.
      momentum: Server momentum.
      coordinators: Processes that keep the chain together.
      brokers: Over which coordinators and boards are dealt out.
      fault_model: `byzantine`, or `crash` for 2 or 3 that trust each other.
      fault: What is made to go wrong and when; see `fleet.faults.fault_timeline` and
        `fleet.attacks.attack_schedule`.
      robust: What a buffer passes before its strategy; a name of
        `protocol.learning.task.Robust`.
      codec: One of `protocol.learning.codec_terms.CODEC_NAMES`.
      rule: Name of a `protocol.learning.task.Strategy`.
      scores: How coordinators score updates; a name of
        `protocol.learning.score_policy.ScoreRule`.
      quarantine_s: Seconds of a board's first quarantine; 0 for none.
      weights: w1 to w5 of `protocol.learning.selection_policy`; empty for none.
    """

    devices: int = 10
    buffer: int = BUFFER_DEFAULT
    data: str = "digits"
    split: str = ""
    data_options: DataOptions = DEFAULT_OPTIONS
    model: str | None = None
    front: str | None = None
    learning: LearningOptions = NOTHING_ASKED
    privacy: str = "record"
    epsilon: float = 8.0
    delta: float = 1e-5
    releases: int | None = None
    until_version: int = 100
    patience: int | None = None
    guard_patience: int = 0
    baseline: bool = False
    time_limit_s: float = 600.0
    seed: int = 1
    leases: int | None = None
    clip: float | None = None
    learning_rate: float | None = None
    momentum: float | None = None
    coordinators: int = 1
    brokers: int = 1
    fault_model: str = "byzantine"
    fault: str = ""
    codec: str = "block8"
    robust: str | None = None
    rule: str = "fedbuff"
    scores: str = "none"
    quarantine_s: int = DEFAULT_QUARANTINE_S
    weights: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuses what cannot run.

        Raises:
          ConfigError: Naming the flag and the bound.
        """
        _within("--devices", self.devices, 0, DEVICES_MAX)
        _within("--buffer", self.buffer, 1, min(BUFFER_MAX, self.boards_max))
        _within("--patience", self.patience, 1, VERSIONS_MAX)
        _within("--until-version", self.until_version, 1, VERSIONS_MAX)
        _within("--guard-patience", self.guard_patience, 0, VERSIONS_MAX)
        _within("--epsilon", self.epsilon, 1e-3, EPSILON_MAX)
        _within("--delta", self.delta, DELTA_MIN, 0.5)
        _within("--time-limit", self.time_limit_s, 1.0, TIME_LIMIT_S_MAX)
        _within("--seed", self.seed, 0, (1 << 63) - 1)
        _within("--releases", self.releases, 1, RELEASES_MAX)
        _within("--leases", self.leases, self.buffer, 1 << 20)
        _within("--clip", self.clip, 1e-6, 1e6)
        _within("--learning-rate", self.learning_rate, 2.0**-16, 256.0)
        _within("--momentum", self.momentum, 0.0, 0.999)
        _within("--coordinators", self.coordinators, 1, VALIDATORS_MAX)
        _within("--brokers", self.brokers, 1, self.coordinators)
        _among("--fault-model", self.fault_model, FAULT_MODELS)
        if self.fault_model == "crash" and self.coordinators not in (2, 3):
            raise ConfigError(
                "crash is for 2 or 3 coordinators that trust each other",
                key="--fault-model",
            )
        if self.faults_last_s > self.time_limit_s:
            raise ConfigError(
                f"its last entry is at {self.faults_last_s:g} s, after --time-limit",
                key="--fault",
            )
        board_attacks(self.fault, self.boards_max)
        _among("--privacy", self.privacy, tuple(PRIVACY_KINDS))
        if self.robust is not None:
            _among("--robust", self.robust, tuple(ROBUST_NAMES))
        _among("--codec", self.codec, CODEC_NAMES)
        _among("--rule", self.rule, RULES)
        self._check_trust()
        if self.model is not None and not self.model.endswith(MODEL_SUFFIX):
            _among("--model", self.model, (*MODELS, HEAD_MODEL))
        self._check_front()
        if self.split != NATURAL:
            partition_named(self.split or IID)
        flag = self.learning.about_steps(self.privacy)
        if flag and self.privacy in STEPLESS:
            raise ConfigError(
                f"boards take no steps of their own with --privacy {self.privacy}; "
                "take none, labels, device-gaussian or device-laplace",
                key=flag,
            )

    def _check_trust(self) -> None:
        _among("--scores", self.scores, tuple(SCORE_RULES))
        _within("--quarantine", self.quarantine_s, 0, QUARANTINE_S_MAX)
        if self.scores == ACCURACY and self.privacy not in NOISELESS:
            detail = "one noised update has no accuracy: take projection"
            raise ConfigError(detail, key="--scores")
        if len(self.weights) not in (0, WEIGHTS):
            detail = f"{len(self.weights)} weights, there are {WEIGHTS}"
            raise ConfigError(detail, key="--select")
        for weight in self.weights:
            _within("--select", weight, 0, WEIGHT_MAX)

    def _check_front(self) -> None:
        if self.front is None:
            return
        if self.model not in (None, HEAD_MODEL):
            raise ConfigError(f"goes with --model {HEAD_MODEL} only", key="--front")
        if not self.front.endswith(MODEL_SUFFIX):
            front_named(self.front)

    @property
    def head_on(self) -> str | None:
        """The front that a head is trained on; None for any other model."""
        if self.front is None and self.model == HEAD_MODEL:
            return ORIENTATION
        return self.front

    @property
    def boards_max(self) -> int:
        """Boards that there are, or may be as long as the data are not read."""
        return self.devices or DEVICES_MAX

    @property
    def faults_last_s(self) -> float:
        """Time at which the last fault begins or ends; 0 without any.

        Raises:
          ConfigError: If the timeline is none.
        """
        of_coordinators = timeline(self.fault, self.coordinators)
        of_brokers = broker_faults(self.fault, self.brokers)
        of_boards = board_faults(self.fault, self.boards_max)
        return lasts_s([*of_coordinators, *of_brokers, *of_boards])

    def resolved(self, boards: int, examples: int) -> "FleetPlan":
        """The plan once it is known how many boards the data name.

        Args:
          boards: That many; 0 if the data name none.
          examples: That there are to learn from; so few may not do for ten boards.

        Raises:
          ConfigError: If a version needs more updates than there are boards.
        """
        split = self.split or (NATURAL if boards else IID)
        if self.devices:
            return replace(self, split=split)
        enough = max(1, min(DEVICES_DEFAULT, examples // BOARD_EXAMPLES_MIN))
        devices = (boards if split == NATURAL else 0) or enough
        # Few boards make the default smaller; more asked for than they are is refused.
        buffer = self.buffer
        if buffer <= BUFFER_DEFAULT:
            buffer = min(buffer, devices)
        return replace(self, split=split, devices=devices, buffer=buffer)

    def document(self) -> dict[str, Any]:
        """All that was asked for, for the report."""
        return asdict(self)


def _within(flag: str, value: float | None, least: float, most: float) -> None:
    # Written so that a NaN is refused too.
    if value is not None and not least <= value <= most:
        detail = f"{_shown(value)} is not in [{_shown(least)}, {_shown(most)}]"
        raise ConfigError(detail, key=flag)


def _shown(number: float) -> str:
    # An integer may be longer than any float.
    return str(number) if isinstance(number, int) else f"{number:g}"


def _among(flag: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{value!r} is not one of {', '.join(choices)}", key=flag)
