"""Presets of training, where a plan leaves the choice open.

The numbers were chosen on training data by simulation: `digits` and any other table on
digits with ten boards, `mnist` with a hundred. None of them was looked up in a board's
data, so that none of them costs privacy.
"""

import math
from dataclasses import dataclass
from pathlib import PurePath

from starling.coordinator.task_file.guard_settings import GuardSection
from starling.coordinator.task_file.optimiser_settings import (
    OptimiserSection,
    PersonalSection,
)
from starling.coordinator.task_file.privacy_settings import PrivacySection
from starling.coordinator.task_file.privacy_statement import promise
from starling.coordinator.task_file.score_settings import (
    ScoresSection,
    SelectionSection,
)
from starling.coordinator.task_file.task_settings import (
    DEFAULT_ROBUST,
    TaskSettings,
    TrainingSection,
    publication,
)
from starling.fleet.attacks.attack_schedule import board_attacks
from starling.fleet.datasets.partition import IID
from starling.fleet.fronts.front_catalog import (
    FONTS,
    HEAD_MODEL,
    ORIENTATION,
    PEN,
    WHITENED,
)
from starling.fleet.learning_options import LearningOptions
from starling.fleet.monitor.run_snapshot import PrivacyTerms, RunHeading
from starling.fleet.plan import PRIVACY_KINDS, FleetPlan
from starling.fleet.reference_models import MODEL_SUFFIX
from starling.protocol.learning.task import MICRO, Q24, TaskSpec
from starling.records.record_set import LABELS

PLEDGE_LEAST = 16
_PLEDGE_RATIO = 1.05
_EPSILON_REFERENCE = 8.0
_RELEASES_LEAST = 15
_RELEASES_SPARE = 1.25
_NOISED_STEPS = 10
_PATIENCE_S = 3
"""Boards on one machine train within a second or so; real ones take minutes."""
_SETTLING_S = 15.0
# Of a whole update; in L1 for Laplace.
_UPDATE_CLIPS = {"device-gaussian": 0.3, "device-laplace": 0.1}
_DEVICE_STEP = 0.2
_LATE_MOMENTUM = 0.5
_ADAPTIVE, _ADAPTIVE_STEP = ("adam", "adamw"), 0.003
_PLAIN_RULES = ("fedasync", "fedavg")
"""That have no momentum."""
_SYNCHRONOUS_RULE = "fedavg"
_ADAPTIVE_STEPS = {"fedadam": 0.01, "fedyogi": 0.01, "fedadagrad": 0.1}
"""Server steps, a parameter's own: on digits, at staleness 0 to 5 and in herds."""
_PROJECTED_EXPONENT = 0.5
"""Of the weight by staleness: the projection shortens late steps already."""
_STALENESS_MAX = 20


@dataclass(frozen=True)
class TrainingPreset:
    """Preset for one kind of data.

    Attributes:
      model: Of `fleet.reference_models.MODELS`.
      clip: Of each example's gradient, with privacy.
      learning_rate: Server step on the mean clipped gradient at epsilon 8.
      momentum: Of the server, with privacy, where no update is late.
      local_learning_rate: Of the boards' own SGD, without privacy.
      local_epochs: Of the boards' own SGD.
      average: Share of the old average that stays at each version.
      shrink: Power of epsilon by which smaller budgets take smaller steps.
    """

    model: str
    clip: float
    learning_rate: float
    momentum: float
    local_learning_rate: float
    local_epochs: int
    average: float
    shrink: float = 0.5


_PICTURES = TrainingPreset("cnn", 0.1, 20.0, 0.9, 0.1, 1, 0.7)
_NUMBERS = TrainingPreset("linear", 1.0, 0.5, 0.3, 0.05, 2, 0.7)
_TABLES = TrainingPreset("softmax", 1.0, 2.0, 0.3, 0.2, 2, 0.7)
_HEADS = {
    ORIENTATION: TrainingPreset(HEAD_MODEL, 0.1, 250.0, 0.9, 2.0, 1, 0.9, 0.7),
    WHITENED: TrainingPreset(HEAD_MODEL, 0.1, 250.0, 0.9, 2.0, 1, 0.9, 0.7),
    FONTS: TrainingPreset(HEAD_MODEL, 0.1, 120.0, 0.9, 2.0, 1, 0.9, 0.7),
    PEN: TrainingPreset(HEAD_MODEL, 0.1, 150.0, 0.9, 2.0, 1, 0.9, 1.0),
}
"""By front; their features have length 1, so that gradients are short. Chosen on
held-out examples of MNIST's training files, a hundred boards, but for `fonts`."""


@dataclass(frozen=True)
class DataShares:
    """Examples of the boards.

    Attributes:
      shape: Of one example.
      least: Examples of the board with the fewest.
      most: Examples of the board with the most.
      loss: That fits their targets.
      reuse: Examples in which one raw sample may stand.
      root: Digest of the root set, in hexadecimal; empty without one.
    """

    shape: tuple[int, ...]
    least: int
    most: int
    loss: str = LABELS
    reuse: int = 1
    root: str = ""


def recipe_for(plan: FleetPlan, shares: DataShares) -> TrainingPreset:
    """The recipe for a head, for numbers, for pictures of 28x28, or everything else."""
    if plan.head_on is not None:
        return _HEADS.get(plan.head_on, _HEADS[ORIENTATION])
    if shares.loss != LABELS:
        return _NUMBERS
    return _PICTURES if shares.shape == (1, 28, 28) else _TABLES


def model_name(plan: FleetPlan, shares: DataShares) -> str:
    """The model that a fleet trains; of a file, what the file is called."""
    name = plan.model or recipe_for(plan, shares).model
    return PurePath(name).stem if name.endswith(MODEL_SUFFIX) else name


def releases(plan: FleetPlan) -> int:
    """Updates of one board that the budget is planned for.

    A quarter more than an even share of all updates, since turns are drawn by chance.
    """
    if plan.releases is not None:
        return plan.releases
    return max(_RELEASES_LEAST, math.ceil(_RELEASES_SPARE * _even_share(plan)))


def _even_share(plan: FleetPlan) -> float:
    """Updates of one board if all send as many."""
    return plan.until_version * plan.buffer / plan.devices


def horizon_s(plan: FleetPlan) -> float:
    """Until when a run goes on at least: a while after the last of its faults."""
    lasting_s = plan.faults_last_s
    return lasting_s + _SETTLING_S if lasting_s else 0.0


def between_s(plan: FleetPlan) -> float:
    """A board's wait between two updates.

    None, but if faults are to come: then the planned updates, and with them the
    privacy budget, are to last until these are over.
    """
    return round(horizon_s(plan) / _even_share(plan), 3)


def task_settings(
    plan: FleetPlan, shares: DataShares, *, in_step: bool = False
) -> TaskSettings:
    """The task that an operator would write for this plan.

    Args:
      plan: What was asked for.
      shares: What the boards hold.
      in_step: Whether no update is ever late.
    """
    recipe = recipe_for(plan, shares)
    private = plan.privacy != "none"
    # What comes late acts like momentum: Mitliagkas et al. 2016, arXiv:1605.09774.
    adaptive = plan.rule in _ADAPTIVE_STEPS
    most = recipe.momentum if in_step else min(_LATE_MOMENTUM, recipe.momentum)
    if adaptive:
        most = _LATE_MOMENTUM
    elif not private or plan.rule in _PLAIN_RULES:
        most = 0.0
    step = _server_step(plan, recipe)
    # A fleet of equals pledges what its smallest board has: nobody's size shows.
    pledge_most = shares.least if plan.split in ("", IID) else shares.most
    return TaskSettings(
        name=f"{model_name(plan, shares)}-{plan.seed}",
        strategy=plan.rule,
        buffer=plan.buffer,
        leases=plan.leases or _leases(plan),
        patience_s=_PATIENCE_S,
        learning_rate=step if plan.learning_rate is None else plan.learning_rate,
        momentum=most if plan.momentum is None else plan.momentum,
        average=recipe.average,
        staleness_exponent=_PROJECTED_EXPONENT if plan.rule == "projected" else 1.0,
        staleness_max=0 if plan.rule == _SYNCHRONOUS_RULE else _STALENESS_MAX,
        codec=plan.codec,
        robust=plan.robust or DEFAULT_ROBUST,
        pledge_least=min(PLEDGE_LEAST, pledge_most),
        pledge_most=pledge_most,
        pledge_ratio=_PLEDGE_RATIO,
        training=_training(plan, recipe),
        privacy=PrivacySection(
            mechanism=PRIVACY_KINDS[plan.privacy],
            clip=_clip(plan, recipe) if plan.clip is None else plan.clip,
            # A sample in several windows weighs as often; boards count exactly.
            epsilon=plan.epsilon / shares.reuse,
            delta=plan.delta,
            releases=releases(plan),
            steps=_NOISED_STEPS,
        ),
        guard=GuardSection(patience=plan.guard_patience),
        scores=ScoresSection(plan.scores, shares.root, plan.quarantine_s),
        selection=SelectionSection(*plan.weights),
    )


def _server_step(plan: FleetPlan, recipe: TrainingPreset) -> float:
    if plan.rule in _ADAPTIVE_STEPS:
        return _ADAPTIVE_STEPS[plan.rule]
    if plan.privacy in _UPDATE_CLIPS:
        return _DEVICE_STEP
    if plan.privacy == "record":
        return _gradient_step(plan, recipe)
    return 1.0


def _gradient_step(plan: FleetPlan, recipe: TrainingPreset) -> float:
    """Server step along the mean of clipped gradients."""
    shrink = math.pow(min(1.0, plan.epsilon / _EPSILON_REFERENCE), recipe.shrink)
    return recipe.learning_rate * shrink


def _training(plan: FleetPlan, recipe: TrainingPreset) -> TrainingSection:
    local, asked = recipe.local_learning_rate, plan.learning
    if plan.privacy == "record-dpsgd":
        # The noised steps of an update go as far together as one of the server does.
        local = _gradient_step(plan, recipe) / _NOISED_STEPS
    if asked.optimiser in _ADAPTIVE:
        local = _ADAPTIVE_STEP
    optimiser = OptimiserSection(
        optimiser=asked.optimiser or "sgd", prox=asked.prox or 0.0
    )
    return TrainingSection(
        mode="gradient" if plan.privacy == "record" else "local",
        epochs=asked.epochs or recipe.local_epochs,
        batch=asked.batch or TrainingSection.batch,
        learning_rate=asked.local_learning_rate or local,
        descent=optimiser,
        personal=_personal(asked, recipe),
    )


def _personal(asked: LearningOptions, recipe: TrainingPreset) -> PersonalSection:
    if asked.personal is None:
        return PersonalSection()
    return PersonalSection(asked.epochs or recipe.local_epochs, asked.personal)


def _clip(plan: FleetPlan, recipe: TrainingPreset) -> float:
    return _UPDATE_CLIPS.get(plan.privacy, recipe.clip)


def _leases(plan: FleetPlan) -> int:
    """Half a buffer beyond one, so that the next fills while the last is summed."""
    return max(plan.buffer, min(plan.devices, -(-3 * plan.buffer // 2)))


def privacy_terms(spec: TaskSpec, plan: FleetPlan) -> PrivacyTerms | None:
    """Privacy terms of this task's epsilon; None without privacy."""
    if not spec.privacy.mechanism:
        return None
    promised = promise(spec)
    return PrivacyTerms(
        unit=promised.unit,
        adjacency=promised.adjacency,
        epsilon_cap=plan.epsilon,
        delta=promised.delta,
        noise_multiplier=spec.privacy.sigma_micro / MICRO,
        clip=spec.privacy.clip_q24 / Q24,
        releases=spec.privacy.releases,
    )


def heading(
    plan: FleetPlan,
    name: str,
    shares: DataShares,
    bundle: bytes,
    notes: tuple[str, ...] = (),
) -> RunHeading:
    """Heading of the view and the report.

    Args:
      plan: What was asked for.
      name: Of the data set.
      shares: What the boards hold.
      bundle: The packed bundle.
      notes: What whoever looks at the run should know of its data; of its budgets
        they are added.

    Raises:
      ConfigError: If the plan makes no valid task.
    """
    spec = publication(task_settings(plan, shares), bundle, "task").spec
    title = (
        f"{plan.devices} boards, buffer {plan.buffer} · {name}, {plan.split} · "
        f"{model_name(plan, shares)}, {spec.dimension:,} parameters"
    )
    crash_only = plan.fault_model == "crash"
    attacks = board_attacks(plan.fault, plan.devices)
    terms = privacy_terms(spec, plan)
    notes += _budget_notes(plan)
    return RunHeading(title, plan.until_version, terms, crash_only, attacks, notes)


def _budget_notes(plan: FleetPlan) -> tuple[str, ...]:
    """Warning if all boards' releases are spent before the last version."""
    if plan.privacy == "none" or plan.releases is None:
        return ()
    versions = plan.releases * plan.devices // plan.buffer
    if versions >= plan.until_version:
        return ()
    return (
        f"{plan.releases} updates of each board make about {versions} versions, not "
        f"{plan.until_version}: budgets end first; give more --releases, each of "
        "which then has more noise, or more boards, or an earlier --until-version",
    )
