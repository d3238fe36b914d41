"""Pictures of other sizes in the frame of 28x28 that fronts look at.

Letters: `n` pictures, `s` pixels along a side.
"""

import numpy as np
from numpy.typing import NDArray

SIDE, CLASSES = 28, 10
DIGITS_SHAPE, DIGITS_SIDE = (64,), 8
"""One digit of `digits` as its data set has it, and as a picture."""
_DIGIT_SPAN = 20
"""Pixels of the frame that a digit fills, as in MNIST; `digits` fill theirs."""
_FAINT, _EDGE = np.float32(0.15), np.float32(0.7)
"""Ground below the first; from there so much to ink."""


def resampling(side: int, span: int = SIDE, frame: int = SIDE) -> NDArray[np.float32]:
    """The linear map along one axis, from `side` pixels to the middle of a frame.

    Args:
      side: s.
      span: Pixels of the frame that they fill.
      frame: f, pixels of the frame.

    Returns:
      (f, s) float32, each row of sum 1 inside the span and 0 outside: `R P R^T` is the
      picture P (s, s) in the frame, between whose pixels lines are drawn.
    """
    first = (frame - span) / 2
    places = (np.arange(frame) + 0.5 - first) * side / span - 0.5
    inside = (places > -1) & (places < side)
    weights = np.maximum(0.0, 1.0 - np.abs(places[:, None] - np.arange(side)))
    return (weights * inside[:, None]).astype(np.float32)


def digit_rows() -> NDArray[np.float32]:
    """R of `framed_digits`, (28, 8)."""
    return resampling(DIGITS_SIDE, _DIGIT_SPAN)


def framed_digits(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The digits of `digits`, (n, 64) in [0, 1], as (n, 28, 28) float32."""
    return _framed(x, digit_rows())


def digit_glyphs(x: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """The digits of `digits` with strokes as sharp as a glyph's.

    Args:
      x: (n, 64) in [0, 1].
      side: s.

    Returns:
      (n, s, s) float32 in [0, 1], three quarters of which a digit fills.
    """
    soft = _framed(x, resampling(DIGITS_SIDE, 3 * side // 4, side))
    sharp: NDArray[np.float32] = np.clip((soft - _FAINT) / _EDGE, 0, 1)
    return sharp


def _framed(x: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    pictures = x.reshape(-1, DIGITS_SIDE, DIGITS_SIDE)
    return (rows @ pictures @ rows.T).astype(np.float32)
