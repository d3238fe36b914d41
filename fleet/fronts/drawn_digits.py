"""Pictures of digits that look drawn by hand, made of glyphs.

Each glyph is bent, turned, sheared and stretched, its stroke made thicker or thinner;
then it is put into the frame as MNIST's digits are: 20 pixels long, its centre of mass
in the middle of 28x28.

Letters: `n` pictures, `s` pixels along a side of a glyph's own picture.

Source: Simard, Steinkraus, Platt 2003, Best Practices for Convolutional Neural Networks
(elastic distortions); LeCun et al. 1998, section III.A (MNIST's frame).
"""

import numpy as np
from numpy.typing import NDArray

from starling.fleet.fronts.picture_frame import SIDE

Pictures = NDArray[np.float32]
"""(n, s, s), 0 for the ground and 1 for ink."""
_KNOTS, _SPREAD = 6, 0.8
_TURN, _SHEAR, _TAPER = 0.15, 0.3, 0.12
_WIDER, _LONGER = 0.2, 0.1
_INK, _SPAN = 0.15, 20
_BLUR = (0.25, 0.9)
_PLUS = ((0, 1), (1, 0), (1, 1), (1, 2), (2, 1))
_SQUARE = tuple((i, j) for i in range(3) for j in range(3))
_STROKES = (
    (np.maximum, _SQUARE),
    (np.maximum, _PLUS),
    (np.minimum, _SQUARE),
    (np.minimum, _PLUS),
)
"""Thicker and thinner; a fifth choice leaves the stroke as it is."""


def drawn(
    glyphs: Pictures, rng: np.random.Generator, bend: float, *, strokes: bool = True
) -> Pictures:
    """Distorts glyphs and puts them into the frame.

    Args:
      glyphs: (n, s, s), each with some ink.
      rng: Draws the distortions.
      bend: Largest deviation of a point by bending, in 48ths of a side.
      strokes: Whether they are made thicker and thinner, too.

    Returns:
      (n, 28, 28) float32 in [0, 1].
    """
    bent = _warped(glyphs, rng, bend)
    shaped = _in_frame(_strokes(bent, rng) if strokes else bent)
    soft = _blurred(shaped, rng.uniform(*_BLUR, len(shaped)).astype(np.float32))
    peaks = np.maximum(soft.max((1, 2), keepdims=True), np.float32(0.3))
    found: Pictures = np.minimum(soft / peaks, np.float32(1))
    return found


def _warped(glyphs: Pictures, rng: np.random.Generator, bend: float) -> Pictures:
    count, side = glyphs.shape[:2]
    # In float32 throughout: passes over memory are what drawing costs.
    real = np.float32
    bumps = _bumps(side).astype(real)
    size = rng.uniform(0, bend * side / 48, (count, 1, 1)).astype(real)
    shifts = [
        size * (bumps @ rng.normal(size=(count, _KNOTS, _KNOTS)).astype(real) @ bumps.T)
        for _ in range(2)
    ]

    def drawn_once(deviation: float) -> NDArray[np.float32]:
        return rng.normal(0.0, deviation, (count, 1, 1)).astype(real)

    middle = (side - 1) / 2
    y, x = (np.mgrid[:side, :side] - middle).astype(real)
    cos, sin = np.cos(turn := drawn_once(_TURN)), np.sin(turn)
    taper = 1 + drawn_once(_TAPER) * (y / real(middle))
    across = np.exp(drawn_once(_WIDER)) * taper * (cos * x - sin * y)
    across += drawn_once(_SHEAR) * y
    down = np.exp(drawn_once(_LONGER)) * (sin * x + cos * y)
    half = real(middle)
    return sampled(glyphs, down + shifts[0] + half, across + shifts[1] + half)


def _bumps(side: int) -> NDArray[np.float64]:
    """(s, 6): smooth weights of a few knots along a side; each row sums to 1."""
    knots = np.linspace(0, side - 1, _KNOTS)
    apart = (np.arange(side)[:, None] - knots) / (_SPREAD * side / _KNOTS)
    weights = np.exp(-(apart**2) / 2)
    normalised: NDArray[np.float64] = weights / weights.sum(1, keepdims=True)
    return normalised


def sampled(
    pictures: Pictures, y: NDArray[np.floating], x: NDArray[np.floating]
) -> Pictures:
    """Values between pixels, by straight lines; places outside take the border's.

    Args:
      pictures: (n, s, s).
      y: (n, a, b) rows.
      x: (n, a, b) columns.

    Returns:
      (n, a, b) float32.
    """
    count, side = pictures.shape[:2]
    # Below the last pixel, so that its neighbour to the right and below exists.
    y, x = [np.clip(place, 0, side - 1.001).astype(np.float32) for place in (y, x)]
    row, column = np.floor(y), np.floor(x)
    below, right = y - row, x - column
    flat = pictures.reshape(count, -1)
    at = (row * side + column).astype(np.int32).reshape(count, -1)

    def beside(step: int) -> NDArray[np.float32]:
        return np.take_along_axis(flat, at + step, 1).reshape(y.shape)

    above = beside(0) * (1 - right) + beside(1) * right
    under = beside(side) * (1 - right) + beside(side + 1) * right
    found: Pictures = above * (1 - below) + under * below
    return found


def _strokes(pictures: Pictures, rng: np.random.Generator) -> Pictures:
    """Makes some strokes thicker and some thinner, by a pixel."""
    side = pictures.shape[1]
    choice = rng.integers(0, len(_STROKES) + 1, len(pictures))
    changed = pictures.copy()
    for number, (extreme, offsets) in enumerate(_STROKES):
        chosen = choice == number
        padded = np.pad(pictures[chosen], ((0, 0), (1, 1), (1, 1)))
        moved = [padded[:, i : i + side, j : j + side] for i, j in offsets]
        thinner = extreme.reduce(moved)
        # What a thinner stroke would leave nothing of stays as it is.
        left = thinner.max((1, 2), keepdims=True) > 2 * _INK
        changed[chosen] = np.where(left, thinner, pictures[chosen])
    return changed


def _in_frame(pictures: Pictures) -> Pictures:
    """Scales the ink's box to 20 pixels and its centre of mass to the middle."""
    side = pictures.shape[1]
    inked = pictures > _INK
    spans = []
    for axis in (2, 1):
        lines = np.asarray(inked.any(axis))
        first, last = lines.argmax(1), side - lines[:, ::-1].argmax(1)
        spans.append(last - first)
    step = (np.maximum(*spans) / _SPAN)[:, None, None]
    mass = pictures.sum((1, 2)) + 1e-6
    centres = [
        ((pictures.sum(axis) * np.arange(side)).sum(1) / mass)[:, None, None]
        for axis in (2, 1)
    ]
    places = np.arange(SIDE) - (SIDE - 1) / 2
    shape = (len(pictures), SIDE, SIDE)
    y = np.broadcast_to(centres[0] + step * places[:, None], shape)
    x = np.broadcast_to(centres[1] + step * places, shape)
    inside = (y >= 0) & (y <= side - 1) & (x >= 0) & (x <= side - 1)
    found: Pictures = sampled(pictures, y, x) * inside
    return found


def _blurred(pictures: Pictures, deviations: NDArray[np.float32]) -> Pictures:
    """Blurs each (28, 28) picture by a Gaussian of its own deviation, in pixels."""
    weights = np.exp(-((np.arange(-2, 3) / deviations[:, None]) ** 2) / 2)
    weights /= weights.sum(1, keepdims=True)
    for axis in (1, 2):
        width = [(0, 0), (0, 0), (0, 0)]
        width[axis] = (2, 2)
        padded = np.pad(pictures, width)
        parts = [
            weights[:, i, None, None] * padded.take(range(i, i + SIDE), axis)
            for i in range(5)
        ]
        pictures = np.sum(parts, axis=0, dtype=np.float32)
    return pictures
