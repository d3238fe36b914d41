import math
from dataclasses import replace

import pytest

from starling.protocol.errors import ConfigError
from starling.protocol.learning.codec_terms import codec_number
from starling.protocol.learning.task import (
    Q15,
    Q16,
    Q24,
    AggregationPolicy,
    PrivacyPolicy,
    Strategy,
    TrainingMode,
    TrainingPolicy,
)
from starling.protocol.privacy.aggregation_terms import (
    CACHE_WORDS_MAX,
    check_strategy,
    update_variance,
)
from starling.protocol.privacy.mechanisms import RECORD_DPSGD, RECORD_GAUSSIAN

OPEN = PrivacyPolicy(0, 0, 0, 0, 0, 1)
NOISED = PrivacyPolicy(RECORD_GAUSSIAN, Q24 // 2, 4_000_000, 1, 1, 1)
LOCAL = TrainingPolicy(TrainingMode.LOCAL, 1, 20, Q24)
GRADIENT = replace(LOCAL, mode=TrainingMode.GRADIENT)
LATE = AggregationPolicy(Strategy.FEDBUFF, 2, Q16, 0, 0, (Q15, 1), 2, 1, 1)
IN_STEP = replace(LATE, staleness_q15=(Q15,))


def test_variance_is_that_of_the_sum_of_one_update() -> None:
    assert update_variance(NOISED, 1) == (2 * Q24) ** 2
    assert update_variance(OPEN, 1) == 0


def test_variance_has_what_one_bit_of_each_parameter_adds() -> None:
    # pi / 2 times the variance: the mean squared error of DRIVE is pi / 2 - 1.
    added = update_variance(NOISED, codec_number("rotated1"))

    assert added / update_variance(NOISED, 1) == pytest.approx(math.pi / 2, rel=2e-3)


@pytest.mark.parametrize(
    ("policy", "training", "privacy", "key"),
    [
        (replace(LATE, strategy=Strategy.FEDAVG), LOCAL, OPEN, "staleness_max"),
        (
            replace(IN_STEP, strategy=Strategy.FEDAVG, momentum_q16=1),
            LOCAL,
            OPEN,
            "momentum",
        ),
        (
            replace(IN_STEP, strategy=Strategy.FEDAVG, learning_rate_q16=Q16 - 1),
            LOCAL,
            OPEN,
            "learning_rate",
        ),
        (
            replace(LATE, strategy=Strategy.FEDASYNC, momentum_q16=1),
            LOCAL,
            OPEN,
            "momentum",
        ),
        (replace(LATE, strategy=Strategy.FEDASYNC), GRADIENT, OPEN, "training.mode"),
        (
            replace(LATE, strategy=Strategy.FEDASYNC, learning_rate_q16=Q16 + 1),
            LOCAL,
            OPEN,
            "learning_rate",
        ),
        (
            replace(LATE, strategy=Strategy.PROJECTED, learning_rate_q16=0),
            LOCAL,
            OPEN,
            "learning_rate",
        ),
        (
            replace(LATE, strategy=Strategy.CA2FL),
            GRADIENT,
            NOISED,
            "privacy.mechanism",
        ),
        (
            replace(LATE, strategy=Strategy.FEDADAM),
            LOCAL,
            replace(NOISED, mechanism=RECORD_DPSGD),
            "privacy.mechanism",
        ),
    ],
)
def test_strategy_that_does_not_fit_names_what_to_change(
    policy: AggregationPolicy,
    training: TrainingPolicy,
    privacy: PrivacyPolicy,
    key: str,
) -> None:
    with pytest.raises(ConfigError) as caught:
        check_strategy(policy, training, privacy, 100)

    assert caught.value.key == key
    assert Strategy(policy.strategy).name.lower() in caught.value.detail


@pytest.mark.parametrize("strategy", ["FEDBUFF", "PROJECTED", "CA2FL"])
@pytest.mark.parametrize(
    ("rate", "momentum", "key"),
    [(1.0, 0.5, "momentum"), (0.16, 0.9, "momentum"), (1.6, 0.0, "learning_rate")],
)
def test_whole_local_optima_that_would_be_added_twice_are_refused(
    strategy: str, rate: float, momentum: float, key: str
) -> None:
    policy = replace(
        LATE,
        strategy=Strategy[strategy],
        learning_rate_q16=round(rate * Q16),
        momentum_q16=round(momentum * Q16),
    )

    with pytest.raises(ConfigError, match="whole optima") as caught:
        check_strategy(policy, LOCAL, OPEN, 100)
    assert caught.value.key == key

    check_strategy(policy, GRADIENT, OPEN, 100)
    check_strategy(replace(policy, staleness_q15=(Q15,)), LOCAL, OPEN, 100)


def test_strategy_whose_cache_holds_no_buffer_is_refused() -> None:
    policy = replace(LATE, strategy=Strategy.CA2FL)
    most = CACHE_WORDS_MAX // 2 - 3
    check_strategy(policy, LOCAL, OPEN, most)

    with pytest.raises(ConfigError, match="remembers 1 boards") as caught:
        check_strategy(policy, LOCAL, OPEN, most + 1)
    assert caught.value.key == "buffer"


@pytest.mark.parametrize(
    ("policy", "training", "privacy"),
    [
        (LATE, LOCAL, OPEN),
        (LATE, GRADIENT, NOISED),
        (
            replace(LATE, learning_rate_q16=Q16 // 2, momentum_q16=Q16 // 2),
            LOCAL,
            OPEN,
        ),
        (replace(LATE, learning_rate_q16=3 * Q16 // 2), LOCAL, OPEN),
        (
            replace(LATE, strategy=Strategy.PROJECTED, momentum_q16=9),
            GRADIENT,
            NOISED,
        ),
        (replace(LATE, strategy=Strategy.FEDASYNC), LOCAL, OPEN),
        (replace(IN_STEP, strategy=Strategy.FEDAVG), LOCAL, OPEN),
        (
            replace(IN_STEP, strategy=Strategy.FEDAVG, learning_rate_q16=9),
            GRADIENT,
            NOISED,
        ),
        (replace(LATE, strategy=Strategy.CA2FL), GRADIENT, OPEN),
        (replace(LATE, strategy=Strategy.FEDYOGI), GRADIENT, NOISED),
        (replace(LATE, strategy=Strategy.FEDADAGRAD), LOCAL, OPEN),
    ],
)
def test_strategy_that_fits_is_taken(
    policy: AggregationPolicy, training: TrainingPolicy, privacy: PrivacyPolicy
) -> None:
    check_strategy(policy, training, privacy, 100)
