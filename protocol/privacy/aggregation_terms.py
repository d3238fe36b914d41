"""Demands of each strategy of aggregation on its task, and the noise in its updates.

Source: the papers that the modules of `coordinator.aggregation` cite.
"""

from starling.protocol.errors import ConfigError
from starling.protocol.learning.codec_terms import CODEC_TERMS
from starling.protocol.learning.task import (
    MICRO,
    Q16,
    AggregationPolicy,
    PrivacyPolicy,
    Strategy,
    TrainingMode,
    TrainingPolicy,
)
from starling.protocol.privacy.mechanisms import RECORD_GAUSSIAN, UNNOISED

ADAPTIVE = (Strategy.FEDADAM, Strategy.FEDYOGI, Strategy.FEDADAGRAD)
"""That have a second moment."""
CACHE_WORDS_MAX = 1 << 22
"""Of CA2FL's cache, 32 MiB: it travels with every version and is kept with each."""
_ADDING = (Strategy.FEDBUFF, Strategy.PROJECTED, Strategy.CA2FL)
"""That add what boards bring, each as often as the momentum repeats it."""
_RATE = "learning_rate"


def noise_micro(privacy: PrivacyPolicy, codec: int) -> int:
    """Deviation of the noise in a decoded update, in any direction, in 10^-6 clips.

    0 without noise, and where it depends on more than the task (`record-gaussian` alone
    noises the sum of an update once). What rounding adds to the noise is in it.
    """
    if privacy.mechanism != RECORD_GAUSSIAN:
        return 0
    return privacy.sigma_micro * CODEC_TERMS[codec].spread_milli // 1000


def update_variance(privacy: PrivacyPolicy, codec: int) -> int:
    """The square of `noise_micro`, in units of 2^-48."""
    return (noise_micro(privacy, codec) * privacy.clip_q24) ** 2 // MICRO**2


def boards_cached(dimension: int) -> int:
    """The number of boards whose last updates CA2FL remembers."""
    return CACHE_WORDS_MAX // (3 + dimension)


def check_strategy(
    policy: AggregationPolicy,
    training: TrainingPolicy,
    privacy: PrivacyPolicy,
    dimension: int,
) -> None:
    """Refuses a strategy that does not go with the rest of a task; exact on integers.

    Raises:
      ConfigError: Naming the field of `task.toml` and what to write there.
    """
    name = Strategy(policy.strategy).name.lower()
    if policy.strategy in (Strategy.FEDASYNC, Strategy.FEDAVG):
        _check_models(policy, training, name)
    if policy.strategy == Strategy.CA2FL:
        _check_cache(policy, privacy, dimension)
    known = (*UNNOISED, RECORD_GAUSSIAN)
    if policy.strategy in ADAPTIVE and privacy.mechanism not in known:
        detail = f"{name} knows the noise of record-gaussian and none alone"
        raise ConfigError(detail, key="privacy.mechanism")
    if policy.strategy == Strategy.PROJECTED and policy.learning_rate_q16 == 0:
        raise ConfigError(f"{name} needs one above 0", key=_RATE)
    local = training.mode == TrainingMode.LOCAL and privacy.mechanism in UNNOISED
    if policy.strategy in _ADDING and local and policy.staleness_max:
        _check_whole_optima(policy)


def _check_whole_optima(policy: AggregationPolicy) -> None:
    """Of boards that bring whole local optima, which must not be added twice.

    With momentum m an update goes rate / (1 - m) of its way. Weighted by staleness, a
    step and a half is stable at every delay (Levin and May 1976, see `fedbuff`).
    """
    rest_q16 = Q16 - policy.momentum_q16
    if 2 * policy.learning_rate_q16 <= 3 * rest_q16:
        return
    steps = policy.learning_rate_q16 / rest_q16
    raise ConfigError(
        f"boards that train locally without noise bring whole optima, and learning_rate"
        f" / (1 - momentum) goes {steps:.3g} times their way: at most 1.5, such as 1"
        " with momentum 0",
        key="momentum" if policy.momentum_q16 else _RATE,
    )


def _check_models(
    policy: AggregationPolicy, training: TrainingPolicy, name: str
) -> None:
    """Of strategies that mix or average whole models."""
    local = training.mode == TrainingMode.LOCAL
    if policy.momentum_q16:
        raise ConfigError(f"{name} has none: set it to 0", key="momentum")
    if policy.strategy == Strategy.FEDASYNC:
        if not local:
            detail = f'{name} mixes models that boards trained: set it to "local"'
            raise ConfigError(detail, key="training.mode")
        if policy.learning_rate_q16 > Q16:
            raise ConfigError(f"alpha of {name} is at most 1", key=_RATE)
        return
    if policy.staleness_max:
        detail = f"{name} is synchronous: set it to 0, or take fedbuff"
        raise ConfigError(detail, key="staleness_max")
    if local and policy.learning_rate_q16 != Q16:
        raise ConfigError(f"{name} takes whole models: set it to 1", key=_RATE)


def _check_cache(
    policy: AggregationPolicy, privacy: PrivacyPolicy, dimension: int
) -> None:
    if privacy.mechanism not in UNNOISED:
        detail = "ca2fl doubles the variance of noise: take fedbuff, or none"
        raise ConfigError(detail, key="privacy.mechanism")
    boards = boards_cached(dimension)
    if boards < policy.buffer:
        detail = (
            f"ca2fl remembers {boards} boards of {dimension} parameters, fewer than"
            " make a version: lower it, or take fedbuff"
        )
        raise ConfigError(detail, key="buffer")
