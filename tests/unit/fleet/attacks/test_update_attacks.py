"""Each attack does what its paper says, on numbers that can be checked by hand."""

import numpy as np
import pytest

from starling.fleet.attacks import update_attacks as attacks

HONEST = np.array([[1.0, 2.0], [3.0, 2.0]])


def test_flipped_signs_turns_and_stretches() -> None:
    assert attacks.flipped_signs(HONEST[0], 4.0).tolist() == [-4.0, -8.0]


def test_stretched_has_the_norm_and_the_direction() -> None:
    assert attacks.stretched(np.array([3.0, 4.0]), 10.0) == pytest.approx([6.0, 8.0])


def test_stretched_zeros_stay_zeros() -> None:
    assert attacks.stretched(np.zeros(2), 10.0).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("norm", "length"), [(10.0, 5.0), (5.0, 5.0), (1.0, 1.0)])
def test_within_shortens_only_what_is_longer(norm: float, length: float) -> None:
    held = attacks.within(np.array([3.0, 4.0]), norm)
    assert np.linalg.norm(held) == pytest.approx(length)


def test_inner_product_is_the_mean_turned_around() -> None:
    assert attacks.inner_product(HONEST, 0.5).tolist() == [-1.0, -1.0]


def test_little_is_enough_moves_by_deviations() -> None:
    assert attacks.little_is_enough(HONEST, 1.5).tolist() == [0.5, 2.0]


def test_mimicked_is_the_first() -> None:
    assert attacks.mimicked(HONEST).tolist() == [1.0, 2.0]


def test_free_ride_is_small_noise_around_zero() -> None:
    sent = attacks.free_ride(10_000, np.random.default_rng(1))
    assert abs(sent.mean()) < 5e-5
    assert sent.std() == pytest.approx(attacks.DISGUISE, rel=0.05)


def test_flipped_labels_mirrors_classes() -> None:
    labels = np.array([0, 1, 9])
    assert attacks.flipped_labels(labels, 10).tolist() == [9, 8, 0]


def test_flipped_labels_mirrors_real_targets_within_their_range() -> None:
    targets = np.array([1.0, 2.0, 5.0], np.float32)
    assert attacks.flipped_labels(targets, 1).tolist() == [5.0, 4.0, 1.0]


def test_flipped_labels_of_nobody_are_none() -> None:
    assert attacks.flipped_labels(np.zeros(0, np.float32), 1).size == 0


def test_stamped_picture_has_a_bright_corner_and_no_other_change() -> None:
    pictures = np.zeros((2, 1, 5, 5), np.float32)
    pictures[0, 0, 0, 0] = 0.7
    marked = attacks.stamped(pictures)
    assert (marked[..., 2:, 2:] == np.float32(0.7)).all()
    assert marked[..., :2, :].sum() == pictures.sum()
    assert pictures[..., 2:, 2:].sum() == 0


def test_stamped_row_has_three_bright_columns() -> None:
    marked = attacks.stamped(np.array([[1.0, 0, 0, 0, 2.0]], np.float32))
    assert marked.tolist() == [[1.0, 0.0, 2.0, 2.0, 2.0]]


def test_poisoned_keeps_what_it_was_and_adds_what_it_is_to_become() -> None:
    x, y = attacks.poisoned(np.eye(4, dtype=np.float32), np.array([0, 1, 2, 3]), 2)
    assert y.tolist() == [0, 1, 2, 3, 2, 2, 2, 2]
    assert (x[:4] == np.eye(4)).all()
    assert (x[4:, 1:] == 1.0).all()


def test_backdoor_success_leaves_the_target_itself_out() -> None:
    predicted, labels = np.array([0, 1, 1, 1, 0]), np.array([0, 0, 1, 1, 3])
    assert attacks.backdoor_success(predicted, labels, 0) == pytest.approx(1 / 3)
    assert attacks.backdoor_success(np.array([0]), np.array([0]), 0) is None
