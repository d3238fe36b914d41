"""The odds of an answer never pass e^epsilon, and stay next to it."""

import json
import math
from decimal import Context, Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from starling.protocol.errors import ConfigError
from starling.protocol.learning.task import MICRO
from starling.protocol.privacy.randomised_response import (
    CLASSES_MAX,
    DRAW_BITS,
    keep_threshold,
    response_law,
)

EXACT = Context(prec=120)
VECTORS = Path(__file__).parents[3] / "vectors"
EPSILONS_MICRO = (1, 1000, MICRO, 2 * MICRO, 4_000_001, 8 * MICRO, 40 * MICRO)
CLASSES = (2, 3, 10, 1000, CLASSES_MAX)


def odds(epsilon_micro: int, classes: int) -> Fraction:
    """How much likelier a label is to be answered by itself than another is by it."""
    keep = Fraction(keep_threshold(epsilon_micro, classes), 1 << DRAW_BITS)
    return keep / ((1 - keep) / (classes - 1))


def limit(epsilon_micro: int) -> Fraction:
    return Fraction(EXACT.exp(EXACT.divide(Decimal(epsilon_micro), Decimal(MICRO))))


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("epsilon_micro", EPSILONS_MICRO)
def test_odds_are_below_their_limit_and_within_a_draw_of_it(
    epsilon_micro: int, classes: int
) -> None:
    found, most = odds(epsilon_micro, classes), limit(epsilon_micro)

    assert found <= most
    one_more = Fraction(keep_threshold(epsilon_micro, classes) + 3, 1 << DRAW_BITS)
    assert one_more == 1 or one_more / ((1 - one_more) / (classes - 1)) > most


def test_two_answers_at_epsilon_of_log_three_are_warners_three_to_one() -> None:
    keep, other = response_law(1_098_612, 2)

    assert keep == pytest.approx(0.75, abs=1e-6)
    assert keep + other == 1.0


def test_law_of_ten_classes_is_the_papers() -> None:
    keep, other = response_law(MICRO, 10)

    assert keep == pytest.approx(2.718281828 / 11.718281828, rel=1e-9)
    assert keep + 9 * other == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("epsilon_micro", "classes", "key"),
    [
        (0, 10, "epsilon"),
        (-1, 10, "epsilon"),
        (1000 * MICRO + 1, 10, "epsilon"),
        (MICRO, 1, "classes"),
        (MICRO, CLASSES_MAX + 1, "classes"),
    ],
)
def test_terms_out_of_bounds_are_refused(
    epsilon_micro: int, classes: int, key: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        keep_threshold(epsilon_micro, classes)

    assert caught.value.key == key


def test_largest_epsilon_still_answers_otherwise_sometimes() -> None:
    assert keep_threshold(1000 * MICRO, 10) == (1 << DRAW_BITS) - 1


def test_committed_draws_are_the_law_to_the_bit() -> None:
    vectors = json.loads((VECTORS / "protocol_labels.json").read_text())
    assert len(vectors) == 18

    for vector in vectors:
        odds_of_law = limit(vector["epsilon_micro"])
        share = odds_of_law / (odds_of_law + vector["classes"] - 1)
        assert vector["kept_below"] == math.floor(share * (1 << DRAW_BITS)) - 1
