"""Influence and agreement on worked numbers, and how noise and wrong labels score."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import nnls

from starling.coordinator.aggregation.contribution_scores import (
    STRATA_VALUES_MAX,
    RootGradients,
    cone_lengths,
    gradients_of,
    others_of,
    scores_of,
    strata_of,
)
from starling.coordinator.aggregation.strategy import WeightedUpdate
from starling.protocol.learning.reward_policy import contribution
from starling.protocol.learning.score_policy import ScorePolicy, ScoreRule
from starling.protocol.learning.task import MICRO, Q15, Q24, PrivacyPolicy, TaskSpec
from starling.protocol.learning.vector_codecs import to_grid
from starling.protocol.privacy.mechanisms import RECORD_GAUSSIAN
from starling.protocol.wire.message_bodies import PPM
from tests.unit.coordinator.fixtures.small_task import SPEC

Numbers = NDArray[np.int64]
Reals = NDArray[np.float64]
PLEDGE = 4
THETA = np.zeros(2, "<f4").tobytes()
NOISED = replace(
    SPEC, privacy=PrivacyPolicy(RECORD_GAUSSIAN, 2 * Q24, MICRO, MICRO, 10**6, 1)
)
ACCURACY = replace(SPEC, scores=ScorePolicy(ScoreRule.ACCURACY))
RAYS = np.array([[1.0, 0.0], [0.0, 2.0]])


class WorkedRoot:
    """Two classes of as many examples, whose gradients stand upright on each other."""

    def gradients(self, theta: bytes) -> RootGradients:
        assert theta == THETA
        return RootGradients(RAYS, np.array([1.0, 2.0]) / 5**0.5)

    def accuracy(self, theta: bytes) -> float:
        return 0.5 - float(np.frombuffer(theta, "<f4")[0])


def update(*mean: float) -> WeightedUpdate:
    return WeightedUpdate(to_grid(PLEDGE * np.array(mean)), Q15, PLEDGE)


@pytest.mark.parametrize(
    ("mean", "influence", "agreement"),
    [
        # The contrast is along (1, 2).
        pytest.param((1.0, 2.0), 1_000_000, 1_000_000, id="along it"),
        pytest.param((-1.0, -2.0), -1_000_000, 0, id="against it"),
        pytest.param((3.0, 0.0), 447_214, 1_000_000, id="of one class alone"),
        pytest.param((1.0, -1.0), -316_228, 707_107, id="half of it against"),
        pytest.param((0.0, 0.0), 0, 0, id="nothing"),
    ],
)
def test_scores_without_noise_are_cosines(
    mean: tuple[float, float], influence: int, agreement: int
) -> None:
    (found,) = scores_of(SPEC, THETA, [update(*mean)], WorkedRoot())
    assert (found.influence, found.agreement) == (influence, agreement)


def test_scores_with_noise_are_shares_of_the_clip_less_what_points_the_other_way() -> (
    None
):
    found = scores_of(NOISED, THETA, [update(1.0, -1.0), update(2.0, 0)], WorkedRoot())
    assert [each.agreement for each in found] == [0, 1_000_000]
    assert found[1].influence == 447_214


def test_length_without_noise_counts_by_that_of_the_others() -> None:
    along = [(1.0, 2.0), (0.5, 1.0), (1.0, 2.0), (4.0, 8.0)]
    found = scores_of(SPEC, THETA, [update(*mean) for mean in along], WorkedRoot())
    assert [each.influence for each in found] == [PPM, PPM // 2, PPM, PPM]
    assert [each.agreement for each in found] == [PPM] * 4


@given(
    st.lists(
        st.tuples(st.floats(-2.0, 2.0), st.floats(-2.0, 2.0)), min_size=3, max_size=8
    ),
    st.integers(2, 64),
    st.sampled_from([SPEC, NOISED]),
)
def test_larger_pledge_for_the_same_sum_contributes_no_more(
    means: list[tuple[float, float]], times: int, spec: TaskSpec
) -> None:
    honest = [update(*mean) for mean in means]
    (own, *others) = honest
    boasted = WeightedUpdate(own.vector, Q15, times * PLEDGE)
    before, *_ = scores_of(spec, THETA, honest, WorkedRoot())
    after, *_ = scores_of(spec, THETA, [boasted, *others], WorkedRoot())
    # Scores end at one example's worth each: only beyond it there is room for more.
    if before.influence < PPM:
        rounding = times * PLEDGE
        assert contribution(after.influence, times * PLEDGE, Q15) <= (
            contribution(before.influence, PLEDGE, Q15) + rounding
        )


def test_accuracy_is_what_the_one_update_changes() -> None:
    found = scores_of(
        ACCURACY, THETA, [update(0.25, 0), update(-0.25, 9)], WorkedRoot()
    )
    assert [each.influence for each in found] == [250_000, -250_000]


def test_cone_lengths_are_those_of_non_negative_least_squares() -> None:
    rng = np.random.default_rng(1)
    rows, rays = rng.normal(size=(20, 30)), rng.normal(size=(6, 30)) + 0.4
    by_scipy = []
    for row in rows:
        weights, _ = nnls(rays.T, row)
        by_scipy.append(np.linalg.norm(rays.T @ weights))
    np.testing.assert_allclose(cone_lengths(rows, rays), by_scipy, atol=1e-6)


def test_cone_of_nothing_holds_nothing() -> None:
    assert cone_lengths(np.ones((2, 3)), np.zeros((2, 3))).tolist() == [0.0, 0.0]


def test_strata_are_classes_ranges_of_numbers_or_one_where_the_model_is_large() -> None:
    assert strata_of(np.array([7, 3, 7, 9]), 10).tolist() == [1, 0, 1, 2]
    numbers = strata_of(np.arange(16.0)[:, None], 10)
    assert np.bincount(numbers).tolist() == [2] * 8
    assert set(strata_of(np.arange(4), STRATA_VALUES_MAX)) == {0}


def test_contrast_is_the_way_from_others_answers_to_the_right_ones() -> None:
    strata = np.array([0, 0, 1, 2, 2])
    slopes = np.array([[3.0, 0.0], [3.0, 0.0], [0.0, 5.0], [4.0, 4.0], [0.0, 4.0]])

    def gradient_sum(rows: Numbers, whose: Numbers) -> Reals:
        # What is right is left out: targets of others are worth nothing.
        right = np.where((rows == whose)[:, None], slopes[rows], 0.0)
        return np.asarray(right.sum(axis=0), np.float64)

    found = gradients_of(strata, gradient_sum)

    assert found.means.tolist() == [[3.0, 0.0], [0.0, 5.0], [2.0, 4.0]]
    ways = np.array([[1.0, 0.0], [0.0, 1.0], np.array([2.0, 4.0]) / 20**0.5])
    contrast = np.array([2, 1, 2]) @ ways
    np.testing.assert_allclose(found.contrast, contrast / np.linalg.norm(contrast))


def test_contrast_takes_nothing_off_where_there_is_one_stratum() -> None:
    found = gradients_of(
        np.zeros(3, np.int64), lambda rows, whose: np.array([0.0, 3.0])
    )

    assert found.contrast.tolist() == [0.0, 1.0]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30))
def test_others_are_of_all_other_strata_in_turn(labels: list[int]) -> None:
    strata = strata_of(np.array(labels), 10)
    others = len(set(labels)) - 1
    found = [others_of(strata, turn) for turn in range(max(1, others))]

    if not others:
        assert found[0].tolist() == list(range(len(labels)))
        return
    assert all((strata[each] != strata).all() for each in found)
    for first in np.unique(strata, return_index=True)[1]:
        assert len({int(strata[each[first]]) for each in found}) == others
