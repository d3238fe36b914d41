"""From what an operator writes in `task.toml` to the task that the chain holds.

Real numbers become the integers of `protocol.learning.task` here, once, and nowhere
else; the noise multiplier follows from the privacy budget. Version 0 of the model comes
from the bundle's initial parameters.
"""

import math
from dataclasses import dataclass

from starling.coordinator.aggregation.strategy import PackedModel, pack_model
from starling.coordinator.aggregation.strategy_registry import aggregator_of
from starling.coordinator.task_file.end_settings import EndSection, end_policy
from starling.coordinator.task_file.guard_settings import GuardSection, guard_policy
from starling.coordinator.task_file.optimiser_settings import (
    OptimiserSection,
    PersonalSection,
    check_descent,
    descent_policy,
    personal_policy,
)
from starling.coordinator.task_file.privacy_settings import (
    PrivacySection,
    check_clipping,
    check_labels,
    privacy_policy,
)
from starling.coordinator.task_file.reward_settings import (
    RewardsSection,
    reward_policy,
)
from starling.coordinator.task_file.score_settings import (
    ScoresSection,
    SelectionSection,
    score_policy,
    selection_policy,
)
from starling.coordinator.wire.size_limits import check_travels
from starling.engine.opened_bundle import open_packed
from starling.protocol.errors import ConfigError, ProtocolError
from starling.protocol.learning.codec_terms import (
    CODEC_NAMES,
    CODEC_TERMS,
    codec_number,
)
from starling.protocol.learning.local_optimiser import EPOCHS_MAX
from starling.protocol.learning.task import (
    BUFFER_MAX,
    PLEDGE_MAX,
    Q16,
    Q24,
    ROBUST_NAMES,
    TASK,
    AggregationPolicy,
    ModelDigests,
    Strategy,
    TaskSpec,
    TrainingMode,
    TrainingPolicy,
    geometric_pledges,
    staleness_table,
)
from starling.protocol.learning.vector_codecs import (
    MAGNITUDE_BITS,
    to_grid,
)
from starling.protocol.model.parameter_layout import local_slices
from starling.protocol.model.training_bundle import BundleManifest, bundle_digest
from starling.protocol.privacy.aggregation_terms import check_strategy
from starling.protocol.privacy.mechanisms import (
    DEVICE_GAUSSIAN,
    DEVICE_LAPLACE,
    RECORD_DPSGD,
    UNNOISED,
    check_mode,
    update_radius,
)
from starling.protocol.schema.toml_settings import setting, table

DEFAULT_ROBUST = "none"
_MODES = {"gradient": TrainingMode.GRADIENT, "local": TrainingMode.LOCAL}
STRATEGIES = {strategy.name.lower(): strategy for strategy in Strategy}
"""Rules of aggregation by the names that operators use."""
# How far the largest coordinate of noise lies above the root of their mean square.
_PEAK = {DEVICE_GAUSSIAN: 8, DEVICE_LAPLACE: 16}


@dataclass(frozen=True)
class TrainingSection:
    """Training on a board."""

    mode: str = setting(
        "gradient",
        "One full-batch gradient, or local steps of SGD (not with record-gaussian).",
        choices=tuple(_MODES),
    )
    epochs: int = setting(
        1, "Local epochs; mode local, not record-dpsgd.", least=1, most=EPOCHS_MAX
    )
    batch: int = setting(
        20,
        "Examples per local step; mode local, not record-dpsgd, and a board's own"
        " model.",
        least=1,
        most=1 << 16,
    )
    learning_rate: float = setting(
        0.05,
        "Of local steps; in mode gradient of weights and of a model that stay on the"
        " board.",
        least=0.0,
        most=256.0,
    )
    descent: OptimiserSection = table(
        OptimiserSection, "What makes steps of gradients."
    )
    personal: PersonalSection = table(
        PersonalSection, "A model that never leaves its board."
    )


@dataclass(frozen=True)
class TaskSettings:
    """All of `task.toml`."""

    name: str = setting(..., "What people call the task; at most 64 letters.")
    strategy: str = setting(
        "fedbuff",
        "How updates become a step; docs/learning.md compares them.",
        choices=tuple(STRATEGIES),
    )
    robust: str = setting(
        DEFAULT_ROBUST,
        "What a buffer passes first, so that a minority of boards cannot choose the "
        "step; none trusts them all.",
        choices=tuple(ROBUST_NAMES),
    )
    buffer: int = setting(
        10,
        "K, updates that make a version; at most half of the boards.",
        least=1,
        most=BUFFER_MAX,
    )
    leases: int = setting(
        20,
        "C, boards in flight at once; mean staleness is about C / K.",
        least=1,
        most=1 << 20,
    )
    patience: int = setting(
        20, "Blocks after which half a buffer is enough.", least=1, most=1 << 20
    )
    patience_s: int = setting(
        60,
        "Seconds by the chain's clock that must pass, too: with traffic blocks come "
        "faster.",
        least=0,
        most=1 << 20,
    )
    learning_rate: float = setting(
        1.0, "Server step on the mean gradient.", least=1e-4, most=256.0
    )
    momentum: float = setting(
        0.5,
        "Server momentum; 0.9 when synchronous, 0 where boards train locally without "
        "noise.",
        least=0.0,
        most=0.9999,
    )
    average: float = setting(
        0.5,
        "Share of the old average that stays at each version; the average is what "
        "boards use for inference.",
        least=0.0,
        most=0.9999,
    )
    staleness_exponent: float = setting(
        1.0,
        "a of the weight (1 + lateness)^-a; lateness is the staleness, or twice what "
        "exceeds 2 if that is more.",
        least=0.0,
        most=8.0,
    )
    staleness_max: int = setting(
        20, "Updates older than so many versions are dropped.", least=0, most=63
    )
    codec: str = setting(
        "block8",
        "How vectors travel.",
        choices=CODEC_NAMES,
    )
    norm_max: float = setting(
        0.0,
        "Largest norm of an update; 0 for the radius that clip, noise and the largest "
        "pledge give, or the codec's range without noise.",
        least=0.0,
        most=1e9,
    )
    pledge_least: int = setting(
        16, "Fewest examples that a board may pledge.", least=1, most=PLEDGE_MAX
    )
    pledge_most: int = setting(
        4096, "Most examples that a board may pledge.", least=1, most=PLEDGE_MAX
    )
    pledge_ratio: float = setting(
        1.1, "Ratio of one size to the next.", least=1.01, most=100.0
    )
    pool: int = setting(
        0,
        "Credits shared out for each version, as long as the task's pool has any.",
        least=0,
        most=1 << 60,
    )
    training: TrainingSection = table(TrainingSection, "How a board trains.")
    privacy: PrivacySection = table(PrivacySection, "What boards reveal at most.")
    guard: GuardSection = table(GuardSection, "What is noticed when it goes badly.")
    scores: ScoresSection = table(ScoresSection, "What coordinators think of updates.")
    selection: SelectionSection = table(SelectionSection, "Who gets a lease.")
    rewards: RewardsSection = table(RewardsSection, "How credits are shared.")
    end: EndSection = table(EndSection, "When it is over.")


@dataclass(frozen=True)
class TaskPublication:
    """A task with all that must be stored before it is announced.

    Attributes:
      spec: What the operator signs.
      bundle: The packed bundle.
      model: Version 0.
    """

    spec: TaskSpec
    bundle: bytes
    model: PackedModel


def publication(settings: TaskSettings, bundle: bytes, file: str) -> TaskPublication:
    """Makes a task.

    Args:
      settings: As the operator wrote them.
      bundle: The packed training bundle.
      file: Name of the settings' file, for messages.

    Raises:
      ConfigError: Naming file, key and bound.
    """
    try:
        opened = open_packed(bundle)
        check_clipping(settings.privacy, opened.manifest)
        check_labels(settings.privacy, opened.manifest)
        codec = codec_number(settings.codec)
        _check_codec(codec, opened.manifest)
        theta = opened.theta
        policy = _aggregation(settings, theta.size)
        privacy = privacy_policy(settings.privacy)
        model = pack_model(aggregator_of(policy, privacy, codec).init(to_grid(theta)))
        spec = _spec(settings, bundle, theta.size, model.digests())
        # What the chain would refuse is better refused here.
        TASK.unpack(TASK.pack(spec))
        check_travels(spec, bundle, model)
    except ProtocolError as error:
        raise ConfigError(str(error), file=file) from error
    except ConfigError as error:
        raise ConfigError(error.detail, file=file, key=error.key) from error
    return TaskPublication(spec, bundle, model)


def _check_codec(codec: int, manifest: BundleManifest) -> None:
    if CODEC_TERMS[codec].rotated and local_slices(manifest.parameters):
        detail = (
            "a rotation spreads its rounding over weights that stay on boards, which"
            " newcomers begin with: take block8"
        )
        raise ConfigError(detail, key="codec")


def _spec(
    settings: TaskSettings, bundle: bytes, dimension: int, initial: ModelDigests
) -> TaskSpec:
    training = settings.training
    privacy = privacy_policy(settings.privacy)
    try:
        check_mode(privacy.mechanism, _MODES[training.mode])
    except ConfigError as error:
        named = f"{settings.privacy.mechanism} does not go with mode {training.mode}"
        raise ConfigError(named, key="training.mode") from error
    check_descent(
        training.descent,
        stepless=_MODES[training.mode] == TrainingMode.GRADIENT,
        noised=privacy.mechanism == RECORD_DPSGD,
    )
    aggregation = _aggregation(settings, dimension)
    check_strategy(aggregation, _training(training), privacy, dimension)
    scores = score_policy(settings.scores, noised=privacy.mechanism not in UNNOISED)
    return TaskSpec(
        name=settings.name,
        bundle=bundle_digest(bundle),
        bundle_bytes=len(bundle),
        dimension=dimension,
        codec=codec_number(settings.codec),
        initial=initial,
        training=_training(training),
        privacy=privacy,
        aggregation=aggregation,
        pledges=_pledges(settings),
        pool=settings.pool,
        guard=guard_policy(settings.guard),
        scores=scores,
        selection=selection_policy(settings.selection),
        rewards=reward_policy(settings.rewards, scores, settings.pool),
        end=end_policy(settings.end),
        personal=personal_policy(training.personal),
    )


def _training(section: TrainingSection) -> TrainingPolicy:
    return TrainingPolicy(
        _MODES[section.mode],
        section.epochs,
        section.batch,
        round(section.learning_rate * Q24),
        descent_policy(section.descent),
    )


def _aggregation(settings: TaskSettings, dimension: int) -> AggregationPolicy:
    return AggregationPolicy(
        strategy=STRATEGIES[settings.strategy],
        buffer=settings.buffer,
        learning_rate_q16=round(settings.learning_rate * Q16),
        momentum_q16=round(settings.momentum * Q16),
        average_q16=round(settings.average * Q16),
        staleness_q15=staleness_table(
            settings.staleness_exponent, settings.staleness_max
        ),
        leases=settings.leases,
        patience=settings.patience,
        norm_max=_norm_max(settings, dimension),
        patience_s=settings.patience_s,
        robust=ROBUST_NAMES[settings.robust],
    )


def _norm_max(settings: TaskSettings, dimension: int) -> int:
    if settings.norm_max:
        return max(1, round(settings.norm_max * Q24))
    privacy = privacy_policy(settings.privacy)
    if privacy.mechanism not in UNNOISED:
        # The noise of an update in examples grows with the pledge: the largest decides.
        most = _pledges(settings)[-1]
        training = _training(settings.training)
        codec = codec_number(settings.codec)
        radius = update_radius(privacy, training, dimension, most, codec)
        range_max = math.isqrt(dimension) << MAGNITUDE_BITS
        if _PEAK.get(privacy.mechanism, 0) * radius > range_max:
            detail = "noise leaves the wire's range; lower it or pledge_most"
            raise ConfigError(detail, key="privacy.clip")
        return radius
    # Without noise: the norm of a vector with every coordinate at the end of the
    # codec's range.
    return math.isqrt(dimension << 2 * MAGNITUDE_BITS) + 1


def _pledges(settings: TaskSettings) -> tuple[int, ...]:
    sizes = geometric_pledges(settings.pledge_least, settings.pledge_ratio)
    most = max(settings.pledge_least, settings.pledge_most)
    # A fleet of equals can pledge the largest size: it is always offered.
    return tuple(sorted({*(size for size in sizes if size <= most), most}))
