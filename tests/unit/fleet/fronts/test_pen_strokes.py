"""Digits drawn with a pen: what is read of skeletons, and that they look written."""

import numpy as np
import pytest

from starling.fleet.fronts.drawn_digits import Pictures
from starling.fleet.fronts.front_catalog import FRONTS, PEN
from starling.fleet.fronts.pen_strokes import Skeleton, parse_skeletons, penned
from starling.fleet.fronts.picture_frame import framed_digits
from starling.fleet.runtime.dataset_catalog import public_digits
from starling.fleet.runtime.fronts.front_builder import SKELETONS, build_front
from starling.fleet.runtime.fronts.front_features import features_of
from starling.fleet.runtime.fronts.front_training import FrontNetwork

WAYS = parse_skeletons(SKELETONS.read_text())


def drawn_once(text: str, count: int = 40) -> Pictures:
    """Pictures of one skeleton, a tenth of `10 * count` since it is of one digit."""
    made, digits = penned(parse_skeletons(text), 10 * count, np.random.default_rng(1))
    assert made.shape == (count, 28, 28)
    assert set(digits) == {int(text[0])}
    return made


def test_every_digit_has_ways_to_be_written() -> None:
    assert {each.digit for each in WAYS} == set(range(10))
    for each in WAYS:
        points = np.concatenate([c for stroke in each.strokes for c in stroke])
        assert ((points >= 0) & (points <= 1)).all()
        assert all(len(c) > 1 for stroke in each.strokes for c in stroke)


def test_skeleton_s_curves_meet_at_corners() -> None:
    (found,) = parse_skeletons("# ways\n\n7: 0,10 90,0 | 40,100 / 30,50 80,50\n")
    assert isinstance(found, Skeleton)
    assert found.digit == 7
    (bar, stem), (cross,) = found.strokes
    assert bar == pytest.approx(np.array([[0, 0.1], [0.9, 0]]))
    assert stem == pytest.approx(np.array([[0.9, 0], [0.4, 1]]))
    assert cross == pytest.approx(np.array([[0.3, 0.5], [0.8, 0.5]]))


def test_pictures_lie_in_the_frame_as_mnist_s_do() -> None:
    pictures, digits = penned(WAYS, 1200, np.random.default_rng(1))
    assert pictures.dtype == np.float32
    assert (pictures.min(), pictures.max()) == pytest.approx((0.0, 1.0))
    mass = pictures.sum((1, 2))
    for axis in (1, 2):
        middle = (pictures.sum(axis) * np.arange(28)).sum(1) / mass
        assert np.abs(middle - 13.5).max() <= 0.51
    inked = pictures > 0.5
    longest = np.maximum(inked.any(1).sum(1), inked.any(2).sum(1))
    assert 18 <= longest.min() <= longest.max() <= 21
    # As many of each digit, but for what its ways leave over.
    assert np.bincount(digits).min() >= 100
    assert len(np.unique(pictures.reshape(len(pictures), -1), axis=0)) == len(pictures)


def test_same_seed_draws_the_same_and_another_does_not() -> None:
    first, second, other = [
        penned(WAYS, 200, np.random.default_rng(seed)) for seed in (1, 1, 2)
    ]
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])
    assert not np.array_equal(first[0], other[0])


def test_line_is_one_stroke_from_end_to_end() -> None:
    made = drawn_once("1: 50,0 50,50 50,100")
    # Ink in each of the rows between its ends, and in few of their pixels.
    rows = made[:, 6:22].max(2)
    assert rows.min() > 0.5
    assert (made > 0.5).sum((1, 2)).max() < 28 * 6


def test_strokes_apart_leave_paper_between_them() -> None:
    made = drawn_once("0: 0,0 0,50 0,100 / 100,0 100,50 100,100")
    assert np.median((made[:, 14] > 0.5).sum(1)) < 10
    assert (made[:, 10:18, 12:16].max((1, 2)) < 0.5).mean() > 0.8


def test_front_of_drawn_digits_reads_what_people_wrote() -> None:
    network = FrontNetwork((8, 16), 32, penned=4000, epochs=2)
    front = build_front(FRONTS[PEN], print, network=network)
    pictures, digits = penned(WAYS, 2000, np.random.default_rng(2))
    written = public_digits()
    seen, theirs = [
        features_of(front, x[:, None]) for x in (pictures, framed_digits(written.x))
    ]

    # Each is read as the digit whose drawn pictures it is most like on the mean.
    means = np.stack([seen[digits == digit].mean(0) for digit in range(10)])
    read = (theirs @ means.T).argmax(1)

    assert (read == written.y).mean() > 0.55
