"""Writes a DS-CNN with its own ears: `python -m examples.keywords.model FILE.onnx`.

The front turns 4,000 samples into 24 mel bands of 30 frames, in ONNX's own operators,
so that a board feeds WAV files as they are; it stays as it is. Behind it are a
convolution, two pairs of a depthwise and a pointwise one, their mean and a linear
layer.

Source: Zhang, Suda, Lai, Chandra, arXiv:1711.07128, section 3 (DS-CNN); the mel scale
of O'Shaughnessy 1987.
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from examples.keywords.data import RATE_HZ, WORDS
from examples.onnx_text import drawn, save

FRAME, STEP, BANDS, WIDTH = 256, 128, 24, 16
SHAPES = {
    "first": (WIDTH, 1, 5, 5),
    "deep1": (WIDTH, 1, 3, 3),
    "point1": (WIDTH, WIDTH, 1, 1),
    "deep2": (WIDTH, 1, 3, 3),
    "point2": (WIDTH, WIDTH, 1, 1),
    "head": (WIDTH, len(WORDS)),
}
GRAPH = """
keywords (float[n, 1, 4000] x) => (float[n, 4] scores) {
    waves = Conv <kernel_shape = [256], strides = [128]> (x, front_waves)
    squares = Mul (waves, waves)
    bands = Conv <kernel_shape = [1]> (squares, front_mel)
    least = Constant <value = float {0.000001}> ()
    some = Add (bands, least)
    logs = Log (some)
    wide_axis = Constant <value = int64[1] {1}> ()
    picture = Unsqueeze (logs, wide_axis)
    shift = Constant <value = float {8.5}> ()
    moved = Add (picture, shift)
    scale = Constant <value = float {0.4}> ()
    heard = Mul (moved, scale)
    a = Conv <kernel_shape = [5, 5], strides = [2, 2], pads = [2, 2, 2, 2]>
        (heard, first_weight, first_bias)
    b = Relu (a)
    c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], group = 16>
        (b, deep1_weight, deep1_bias)
    d = Relu (c)
    e = Conv <kernel_shape = [1, 1]> (d, point1_weight, point1_bias)
    f = Relu (e)
    g = Conv <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], group = 16>
        (f, deep2_weight, deep2_bias)
    h = Relu (g)
    i = Conv <kernel_shape = [1, 1]> (h, point2_weight, point2_bias)
    j = Relu (i)
    mean = GlobalAveragePool (j)
    flat = Flatten <axis = 1> (mean)
    scores = Gemm (flat, head_weight, head_bias)
}
"""


def front() -> dict[str, NDArray[np.float32]]:
    """Waves of a windowed Fourier transform, and the mel bands of their powers."""
    time = np.arange(FRAME)
    bins = np.arange(1, FRAME // 2)
    angles = 2 * np.pi * bins[:, None] * time / FRAME
    window = np.hanning(FRAME) / np.hanning(FRAME).sum() * 2
    waves = np.concatenate([np.cos(angles), np.sin(angles)]) * window
    mel = 2595 * np.log10(1 + bins * RATE_HZ / FRAME / 700)
    places = np.linspace(mel[0], mel[-1], BANDS + 2)
    rising = (mel - places[:-2, None]) / (places[1:-1] - places[:-2])[:, None]
    falling = (places[2:, None] - mel) / (places[2:] - places[1:-1])[:, None]
    bands = np.clip(np.minimum(rising, falling), 0, None)
    return {
        "front_waves": waves[:, None].astype(np.float32),
        "front_mel": np.tile(bands, 2)[:, :, None].astype(np.float32),
    }


def main() -> int:
    """Writes the model."""
    save(Path(sys.argv[1]), GRAPH, {**front(), **drawn(SHAPES, last="head")})
    return 0


if __name__ == "__main__":
    sys.exit(main())
