"""Many settings run a little, the best of them longer."""

import math

import pytest

from starling.fleet.successive_halving import (
    TuningCandidate,
    best_of,
    candidates,
    stages,
)
from starling.protocol.errors import ConfigError


def test_candidates_vary_the_clip_and_the_longest_step() -> None:
    found = candidates(0.3, 10.0, private=True)
    assert len(set(found)) == 15
    assert TuningCandidate(0.3, 10.0) in found
    steps = {round(each.clip * each.rate, 9) for each in found}
    assert steps == {0.75, 1.5, 3.0, 6.0, 12.0}


def test_candidates_stay_within_a_plan_s_bounds() -> None:
    found = candidates(0.1, 250.0, private=True)
    assert max(each.rate for each in found) <= 256.0
    assert TuningCandidate(0.1, 250.0) in found
    assert {each.clip for each in candidates(1.0, 0.1, private=False)} == {0.0}


@pytest.mark.parametrize(
    ("count", "versions", "expected"),
    [
        (15, 90, [(10, 5), (30, 1), (90, 1)]),
        (9, 90, [(30, 3), (90, 1)]),
        (1, 20, [(20, 1)]),
        (15, 12, [(4, 5), (4, 1), (12, 1)]),
    ],
)
def test_stages_end_with_one_candidate_and_all_versions(
    count: int, versions: int, expected: list[tuple[int, int]]
) -> None:
    found = [(each.versions, each.kept) for each in stages(count, versions)]
    assert found == expected


def test_too_few_versions_are_refused() -> None:
    with pytest.raises(ConfigError, match="--until-version"):
        stages(15, 3)


def test_best_have_the_lowest_losses_and_those_that_diverged_come_last() -> None:
    one, two, three = [TuningCandidate(1.0, rate) for rate in (1.0, 2.0, 3.0)]
    losses = {one: math.inf, two: 0.5, three: 0.2}
    assert best_of(losses, 2) == [three, two]
    assert best_of(losses, 3)[-1] == one
