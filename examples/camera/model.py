"""Writes the cameras' model: `python -m examples.camera.model FILE.onnx`.

Two convolutions with poolings, `front`, and a linear layer for five classes, `head`:
9,842 parameters, of which 2,005 are the head's.
"""

import sys
from pathlib import Path

from examples.onnx_text import drawn, save

SHAPES = {"front1": (12, 1, 5, 5), "front2": (25, 12, 5, 5), "head": (400, 5)}
GRAPH = """
camera (float[n, 1, 28, 28] x) => (float[n, 5] scores) {
    a = Conv <kernel_shape = [5, 5]> (x, front1_weight, front1_bias)
    b = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (a)
    c = Tanh (b)
    d = Conv <kernel_shape = [5, 5]> (c, front2_weight, front2_bias)
    e = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (d)
    f = Tanh (e)
    flat = Flatten <axis = 1> (f)
    scores = Gemm (flat, head_weight, head_bias)
}
"""


def main() -> int:
    """Writes the model."""
    save(Path(sys.argv[1]), GRAPH, drawn(SHAPES, last="head"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
