"""The section of `task.toml` on how credits are shared."""

import math
from dataclasses import dataclass

from starling.protocol.errors import ConfigError
from starling.protocol.learning.reward_policy import (
    DEFAULT_PARTICIPATIONS,
    DEFAULT_TAKING_PART_MICRO,
    EQUAL_REWARDS,
    MILLION,
    NOISE_DEVIATIONS,
    PARTICIPATIONS_MAX,
    USE_PRICE_MAX,
    RewardPolicy,
    RewardRule,
)
from starling.protocol.learning.score_policy import ScorePolicy, ScoreRule
from starling.protocol.learning.task import TaskSpec
from starling.protocol.privacy.aggregation_terms import noise_micro
from starling.protocol.schema.toml_settings import setting

AUTO = "auto"
REWARD_RULES = {rule.name.lower(): rule for rule in RewardRule}
"""Rules by the names that operators use."""


@dataclass(frozen=True)
class RewardsSection:
    """Rewards of the boards that make versions."""

    rule: str = setting(
        AUTO,
        "How a version's credits are shared among its updates: equally, or by what "
        "they contributed; auto is by contribution where they are scored by "
        "projection.",
        choices=(AUTO, *REWARD_RULES),
    )
    participations: int = setting(
        DEFAULT_PARTICIPATIONS,
        "Scored updates of a board before its first payment by contribution; the next "
        "come after every half as many.",
        least=1,
        most=PARTICIPATIONS_MAX,
    )
    taking_part: float = setting(
        DEFAULT_TAKING_PART_MICRO / MILLION,
        "Share of a version's credits that its boards get for taking part, by their "
        "deposits; by contribution as the rest where there are none.",
        least=0.0,
        most=1.0,
    )
    use_price: int = setting(
        0,
        "Credits that an operator pays the contributors for each use of the model, "
        "see fund --from-use; by contribution only.",
        least=0,
        most=USE_PRICE_MAX,
    )


def reward_policy(
    section: RewardsSection, scores: ScorePolicy, pool: int
) -> RewardPolicy:
    """The section in the integers of the chain.

    Args:
      section: As the operator wrote it.
      scores: Of the task.
      pool: Credits of each version.

    Raises:
      ConfigError: If contribution counts where nothing measures it.
    """
    measured = scores.rule == ScoreRule.PROJECTION
    rule = REWARD_RULES.get(section.rule)
    if rule is None:
        pays = pool or section.use_price
        # Nothing is paid: what is not paid need not be measured.
        rule = RewardRule.CONTRIBUTION if measured and pays else RewardRule.EQUAL
    if rule is RewardRule.CONTRIBUTION and not measured:
        detail = 'contribution is a score: set scores.rule to "projection"'
        raise ConfigError(detail, key="rewards.rule")
    if rule is RewardRule.EQUAL:
        if section.use_price:
            detail = "uses are paid by contribution, and the rule here is equal"
            raise ConfigError(detail, key="rewards.use_price")
        return EQUAL_REWARDS
    taking_part_micro = round(section.taking_part * MILLION)
    return RewardPolicy(
        rule, section.participations, taking_part_micro, section.use_price
    )


def rewards_text(spec: TaskSpec) -> str:
    """Rule by which a task shares its credits, in one line for people."""
    policy = spec.rewards
    if policy.rule == RewardRule.CONTRIBUTION:
        share = policy.taking_part_micro / MILLION
        return (
            f"by contribution, after {policy.participations} scored updates of a board "
            f"and every {max(1, policy.participations // 2)} more; {share:.0%} for "
            f"taking part, by deposits{_noise_text(spec)}"
        )
    if spec.scores.rule == ScoreRule.PROJECTION:
        return "equally among a version's updates"
    return (
        "equally among a version's updates: no scores by projection say what each "
        "contributed"
    )


def _noise_text(spec: TaskSpec) -> str:
    """Contribution that noise hides of each update before the first payday."""
    sigma = noise_micro(spec.privacy, spec.codec) / MILLION
    if not sigma:
        return ""
    hidden = NOISE_DEVIATIONS * sigma / math.sqrt(spec.rewards.participations)
    return f"; noise hides {hidden:.1f} examples' worth of each update, at first"
