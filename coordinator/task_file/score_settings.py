"""The sections of `task.toml` on scores of updates and on selection of boards."""

from dataclasses import dataclass

from starling.protocol.errors import ConfigError
from starling.protocol.ids import DIGEST_BYTES, Digest
from starling.protocol.learning.score_policy import (
    DEFAULT_QUARANTINE_S,
    NO_SCORES,
    QUARANTINE_S_MAX,
    ROOTS_MAX,
    SCORE_RULES,
    ScorePolicy,
    ScoreRule,
)
from starling.protocol.learning.selection_policy import WEIGHT_MAX, SelectionPolicy
from starling.protocol.schema.toml_settings import setting


@dataclass(frozen=True)
class ScoresSection:
    """Scores of updates by coordinators, and the quarantine that follows."""

    rule: str = setting(
        "none",
        "How coordinators score updates on their root sets: by the projection on its "
        "gradients, or by accuracy, without noise only.",
        choices=tuple(SCORE_RULES),
    )
    roots: str = setting(
        "",
        "Digests of the root sets that count, in hexadecimal, spaces between them; "
        "publish --root FILE adds a file's.",
    )
    quarantine_s: int = setting(
        DEFAULT_QUARANTINE_S,
        "Seconds by the chain's clock for which a board gets no lease once its updates "
        "scored badly, twice as long each further time; 0 for never.",
        least=0,
        most=QUARANTINE_S_MAX,
    )


@dataclass(frozen=True)
class SelectionSection:
    """Weights of the boards that wait for a lease; all 0 for equal chances."""

    resources: int = setting(
        0, "w1, of a board's resources, as it says.", least=0, most=WEIGHT_MAX
    )
    timeliness: int = setting(
        0, "w2, of the leases that it used, as it says.", least=0, most=WEIGHT_MAX
    )
    budget: int = setting(
        0, "w3, of the releases that it has left, as it says.", least=0, most=WEIGHT_MAX
    )
    own_word: int = setting(0, "w4, of these three together.", least=0, most=WEIGHT_MAX)
    reputation: int = setting(
        0, "w5, of its reputation on the chain.", least=0, most=WEIGHT_MAX
    )


def score_policy(section: ScoresSection, *, noised: bool) -> ScorePolicy:
    """The section in the integers of the chain.

    Args:
      section: As the operator wrote it.
      noised: Whether the task has noise.

    Raises:
      ConfigError: If the rule needs a root set, or no noise, or a digest is none.
    """
    rule = SCORE_RULES[section.rule]
    if rule is ScoreRule.NONE:
        return NO_SCORES
    if rule is ScoreRule.ACCURACY and noised:
        detail = "one noised update has no accuracy: take projection"
        raise ConfigError(detail, key="scores.rule")
    # A set, then sorted: the same files give the same task, in whatever order they are
    # named.
    roots = {_digest(word) for word in section.roots.split()}
    if not 1 <= len(roots) <= ROOTS_MAX:
        detail = (
            f"{len(roots)} root sets; name 1 to {ROOTS_MAX}, or publish with --root"
        )
        raise ConfigError(detail, key="scores.roots")
    return ScorePolicy(rule, tuple(sorted(roots)), section.quarantine_s)


def selection_policy(section: SelectionSection) -> SelectionPolicy:
    """The section in the integers of the chain.

    Raises:
      ConfigError: If boards' own word counts without any of its three weights.
    """
    own = (section.resources, section.timeliness, section.budget)
    if section.own_word and not any(own):
        detail = "of nothing: give resources, timeliness or budget a weight"
        raise ConfigError(detail, key="selection.own_word")
    return SelectionPolicy(*own, section.own_word, section.reputation)


def _digest(word: str) -> Digest:
    try:
        found = bytes.fromhex(word)
    except ValueError:
        found = b""
    if len(found) != DIGEST_BYTES:
        detail = f"{word[:80]!r} is not {2 * DIGEST_BYTES} hexadecimal digits"
        raise ConfigError(detail, key="scores.roots")
    return Digest(found)
