"""How credits are shared: by contribution where scores measure it, else equally."""

from dataclasses import replace

import pytest

from starling.coordinator.task_file.reward_settings import (
    RewardsSection,
    reward_policy,
    rewards_text,
)
from starling.protocol.errors import ConfigError
from starling.protocol.learning.reward_policy import (
    EQUAL_REWARDS,
    RewardPolicy,
    RewardRule,
)
from starling.protocol.learning.score_policy import NO_SCORES, ScorePolicy, ScoreRule
from starling.protocol.learning.task import PrivacyPolicy
from starling.protocol.privacy.mechanisms import RECORD_GAUSSIAN
from tests.unit.coordinator.fixtures.small_task import SPEC

MEASURED = ScorePolicy(ScoreRule.PROJECTION)
BY_ACCURACY = ScorePolicy(ScoreRule.ACCURACY)
BY_CONTRIBUTION = RewardPolicy(RewardRule.CONTRIBUTION)


@pytest.mark.parametrize(
    ("section", "scores", "pool", "expected"),
    [
        pytest.param(RewardsSection(), MEASURED, 5, BY_CONTRIBUTION, id="scored"),
        pytest.param(RewardsSection(), NO_SCORES, 5, EQUAL_REWARDS, id="no scores"),
        pytest.param(RewardsSection(), BY_ACCURACY, 5, EQUAL_REWARDS, id="accuracy"),
        pytest.param(RewardsSection(), MEASURED, 0, EQUAL_REWARDS, id="pays nothing"),
        pytest.param(
            RewardsSection("equal"), MEASURED, 5, EQUAL_REWARDS, id="equal as asked"
        ),
        pytest.param(
            RewardsSection("auto", 3, 0.5, 7),
            MEASURED,
            0,
            RewardPolicy(RewardRule.CONTRIBUTION, 3, 500_000, 7),
            id="paid for use alone",
        ),
    ],
)
def test_rule_follows_from_the_scores(
    section: RewardsSection, scores: ScorePolicy, pool: int, expected: RewardPolicy
) -> None:
    assert reward_policy(section, scores, pool) == expected


@pytest.mark.parametrize(
    ("section", "scores", "key"),
    [
        pytest.param(
            RewardsSection("contribution"), NO_SCORES, "rewards.rule", id="no scores"
        ),
        pytest.param(
            RewardsSection("contribution"), BY_ACCURACY, "rewards.rule", id="accuracy"
        ),
        pytest.param(
            RewardsSection(use_price=2), NO_SCORES, "rewards.use_price", id="use"
        ),
    ],
)
def test_contribution_that_nothing_measures_is_refused(
    section: RewardsSection, scores: ScorePolicy, key: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        reward_policy(section, scores, 5)
    assert refused.value.key == key


def test_text_says_why_rewards_are_equal_and_what_noise_hides() -> None:
    by_contribution = replace(SPEC, rewards=BY_CONTRIBUTION)
    assert "20% for taking part" in rewards_text(by_contribution)
    assert "noise" not in rewards_text(by_contribution)
    assert "no scores by projection" in rewards_text(replace(SPEC, scores=NO_SCORES))
    assert "no scores" not in rewards_text(SPEC)
    private = PrivacyPolicy(RECORD_GAUSSIAN, 1, 5_000_000, 1, 1, 15)
    # Two of 5 sqrt(10), over ten updates.
    text = rewards_text(replace(by_contribution, privacy=private))
    assert "noise hides 3.2 examples' worth of each update" in text
