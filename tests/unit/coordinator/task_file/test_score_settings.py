"""Sections of task.toml about scores and selection, in the integers of the chain."""

import pytest

from starling.coordinator.task_file.score_settings import (
    ScoresSection,
    SelectionSection,
    score_policy,
    selection_policy,
)
from starling.protocol.errors import ConfigError
from starling.protocol.ids import Digest, H
from starling.protocol.learning.score_policy import (
    NO_SCORES,
    ROOTS_MAX,
    ScorePolicy,
    ScoreRule,
)
from starling.protocol.learning.selection_policy import (
    EQUAL_CHANCES,
    SelectionPolicy,
)

ROOTS = sorted([H(b"one"), H(b"other")])


def test_scores_pin_sorted_roots_once() -> None:
    words = " ".join([ROOTS[1].hex(), ROOTS[0].hex().upper(), ROOTS[1].hex()])
    found = score_policy(ScoresSection("projection", words, 60), noised=True)
    assert found == ScorePolicy(ScoreRule.PROJECTION, tuple(ROOTS), 60)


def test_nothing_is_scored_or_weighed_by_default() -> None:
    assert score_policy(ScoresSection(), noised=True) is NO_SCORES
    assert selection_policy(SelectionSection()) == EQUAL_CHANCES


@pytest.mark.parametrize(
    ("section", "noised", "says"),
    [
        pytest.param(ScoresSection("projection"), False, "0 root sets", id="no root"),
        pytest.param(
            ScoresSection("projection", "abc"), False, "hexadecimal", id="no digest"
        ),
        pytest.param(
            ScoresSection("accuracy", ROOTS[0].hex()), True, "noised", id="noise"
        ),
        pytest.param(
            ScoresSection(
                "projection",
                " ".join(Digest(H(b"%d" % n)).hex() for n in range(ROOTS_MAX + 1)),
            ),
            False,
            f"{ROOTS_MAX + 1} root sets",
            id="too many",
        ),
    ],
)
def test_scores_that_cannot_be_are_refused(
    section: ScoresSection, noised: bool, says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as raised:
        score_policy(section, noised=noised)
    assert raised.value.key is not None
    assert raised.value.key.startswith("scores.")


def test_selection_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"selection\.own_word"):
        selection_policy(SelectionSection(own_word=1))
    found = selection_policy(SelectionSection(1, 2, 3, 4, 5))
    assert found == SelectionPolicy(1, 2, 3, 4, 5)
