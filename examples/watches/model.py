"""Writes the watches' model: `python -m examples.watches.model FILE.onnx`.

Two convolutions over 128 samples of six axes, a pooling, and a linear layer for five
activities: 6,317 parameters. A window's activity is that of its end, so that places in
time are kept until the last layer.
"""

import sys
from pathlib import Path

from examples.onnx_text import drawn, save

SHAPES = {"conv1": (24, 6, 9), "conv2": (32, 24, 5), "head": (224, 5)}
GRAPH = """
watches (float[n, 6, 128] x) => (float[n, 5] scores) {
    a = Conv <kernel_shape = [9], strides = [2]> (x, conv1_weight, conv1_bias)
    b = Relu (a)
    c = Conv <kernel_shape = [5], strides = [2]> (b, conv2_weight, conv2_bias)
    d = Relu (c)
    e = MaxPool <kernel_shape = [4], strides = [4]> (d)
    flat = Flatten <axis = 1> (e)
    scores = Gemm (flat, head_weight, head_bias)
}
"""


def main() -> int:
    """Writes the model."""
    save(Path(sys.argv[1]), GRAPH, drawn(SHAPES, last="head"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
