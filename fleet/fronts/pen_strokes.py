"""Pictures of digits, drawn with a pen along skeletons; no data are looked at.

A skeleton says how a digit is written: strokes through a few points. Each picture
moves the points a little, bends, stretches, tapers, turns and shears the whole, and
follows it with a pen of its own width. Then it is put into the frame as MNIST's digits
are: 20 pixels long, its centre of mass in the middle of 28x28.

Letters: `n` pictures, `k` points of a curve, `p` places along all curves of a skeleton.

Source: Catmull and Rom 1974, A Class of Local Interpolating Splines; LeCun et al. 1998,
section III.A (MNIST's frame).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from starling.fleet.fronts.drawn_digits import Pictures
from starling.fleet.fronts.picture_frame import CLASSES, SIDE

_PLACES, _PLACES_MIN = 72, 6
"""Along all curves of a skeleton, about; and along one, at least."""
_MOVED, _MOVED_SPREAD = 0.045, 0.4
_BEND, _WIDER, _SHEAR, _TURN, _TAPER = 0.06, 0.22, 0.28, 0.13, 0.1
_NARROW = 0.75
"""Width of most digits by their length."""
_PEN = (0.6, 1.9)
_EDGE = (0.35, 0.9)
_SPAN: Final = 20.3
_AT_ONCE = 200

Reals = NDArray[np.float64]


@dataclass(frozen=True)
class Skeleton:
    """One way to write a digit.

    Attributes:
      digit: Which.
      strokes: Each of smooth curves that meet at corners: (k, 2) points x, y of a box
        of side 1, y down, the first of a curve the last of the one before.
    """

    digit: int
    strokes: tuple[tuple[Reals, ...], ...]


def parse_skeletons(text: str) -> tuple[Skeleton, ...]:
    """Reads lines `DIGIT: STROKE / STROKE`.

    Args:
      text: A stroke is points `x,y` in hundredths; at `|` it turns a corner. Lines that
        begin with `#` and empty ones are left.
    """
    found = []
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        digit, _, strokes = line.partition(":")
        made = tuple(_stroke(part) for part in strokes.split("/"))
        found.append(Skeleton(int(digit), made))
    return tuple(found)


def _stroke(text: str) -> tuple[Reals, ...]:
    curves: list[Reals] = []
    for part in text.split("|"):
        points = np.array([point.split(",") for point in part.split()], float) / 100
        curves.append(np.concatenate([curves[-1][-1:], points]) if curves else points)
    return tuple(curves)


def penned(
    skeletons: Sequence[Skeleton], count: int, rng: np.random.Generator
) -> tuple[Pictures, NDArray[np.int64]]:
    """Draws pictures, as many of each digit, and of each of its skeletons.

    Args:
      skeletons: Of all ten digits.
      count: n; what its tenth leaves over of a digit's skeletons is not drawn.
      rng: Draws the shapes.

    Returns:
      (n, 28, 28) float32 in [0, 1], and (n,) digits, in one random order.
    """
    ways = np.bincount([each.digit for each in skeletons], minlength=CLASSES)
    pictures, digits = [], []
    for each in skeletons:
        share = count // CLASSES // int(ways[each.digit])
        for start in range(0, share, _AT_ONCE):
            size = min(_AT_ONCE, share - start)
            pictures.append(_inked(*_framed(_shaped(each, size, rng), rng), rng))
            digits.append(np.full(size, each.digit))
    order = rng.permutation(sum(len(part) for part in digits))
    return np.concatenate(pictures)[order], np.concatenate(digits)[order]


def _shaped(skeleton: Skeleton, count: int, rng: np.random.Generator) -> Reals:
    """(n, p, 2): places along a skeleton whose points are moved, bent, turned."""
    whole = sum(_length(curve) for stroke in skeleton.strokes for curve in stroke)
    size = _MOVED * np.exp(rng.normal(0, _MOVED_SPREAD, (count, 1, 1)))
    parts = []
    for stroke in skeleton.strokes:
        apart = size * rng.normal(size=(count, 1, 2)) * (len(skeleton.strokes) > 1)
        corner = None
        for curve in stroke:
            moved = curve + size * rng.normal(size=(count, *curve.shape)) + apart
            if corner is not None:
                moved[:, 0] = corner
            corner = moved[:, -1]
            places = int(_PLACES * _length(curve) / whole)
            parts.append(_spline(moved, max(_PLACES_MIN, places)))
    x, y = np.moveaxis(np.concatenate(parts, 1) - 0.5, 2, 0)

    def drawn_once(deviation: float) -> Reals:
        return rng.normal(0, deviation, (count, 1))

    for _ in range(2):
        bent = drawn_once(_BEND) * x * x + drawn_once(_BEND) * 2 * x * y
        x, y = y, x + bent + drawn_once(_BEND) * y * y
    x = _NARROW * np.exp(drawn_once(_WIDER)) * (1 + drawn_once(_TAPER) * 2 * y) * x
    cos, sin = np.cos(turn := drawn_once(_TURN)), np.sin(turn)
    x, y = cos * x - sin * y, sin * x + cos * y
    return np.stack([x + drawn_once(_SHEAR) * y, y], 2)


def _length(curve: Reals) -> float:
    return float(np.hypot(*np.diff(curve, axis=0).T).sum())


def _spline(points: Reals, places: int) -> Reals:
    """(n, k, 2) to (n, places, 2): a smooth curve through all points."""
    first, last = 2 * points[:, :1] - points[:, 1:2], 2 * points[:, -1:]
    padded = np.concatenate([first, points, last - points[:, -2:-1]], 1)
    along = np.linspace(0, points.shape[1] - 1 - 1e-9, places)
    at = along.astype(int)
    t = (along - at)[:, None]
    before, start, end, after = [padded[:, at + step] for step in range(4)]
    square = 2 * before - 5 * start + 4 * end - after
    cube = 3 * (start - end) + after - before
    found: Reals = start + t / 2 * (end - before + t * (square + t * cube))
    return found


def _framed(path: Reals, rng: np.random.Generator) -> tuple[Reals, Reals]:
    """The path in pixels from the frame's middle, and each pen's half width (n,)."""
    pen = rng.uniform(*_PEN, len(path))
    longest = np.ptp(path, 1).max(1)
    path = path * ((_SPAN - 2 * pen) / longest)[:, None, None]
    return path - path.mean(1, keepdims=True), pen


def _inked(path: Reals, pen: Reals, rng: np.random.Generator) -> Pictures:
    """(n, 28, 28): ink where a place is nearer than the pen's half width."""
    pixels = np.arange(SIDE) - (SIDE - 1) / 2
    across, down = [
        ((pixels[:, None] - path[:, None, :, axis]) ** 2).astype(np.float32)
        for axis in (0, 1)
    ]
    near = np.full((len(path), SIDE, SIDE), np.inf, np.float32)
    for at in range(path.shape[1]):
        np.minimum(near, down[:, :, None, at] + across[:, None, :, at], out=near)
    edge = rng.uniform(*_EDGE, (len(path), 1, 1))
    ink = np.clip((pen[:, None, None] - np.sqrt(near)) / edge / 2 + 0.5, 0, 1)
    return _centred(ink.astype(np.float32))


def _centred(pictures: Pictures) -> Pictures:
    """Moves the centre of mass to the middle, by whole pixels."""
    pixels = np.arange(SIDE) - (SIDE - 1) / 2
    mass = pictures.sum((1, 2))
    x, y = [
        np.round((pictures.sum(axis) * pixels).sum(1) / mass).astype(int)
        for axis in (1, 2)
    ]
    rows, columns = [(np.arange(SIDE) + by[:, None]) % SIDE for by in (y, x)]
    found: Pictures = pictures[
        np.arange(len(pictures))[:, None, None], rows[:, :, None], columns[:, None]
    ]
    return found
