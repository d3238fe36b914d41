"""Writes the turbofans' model: `python -m examples.turbofans.model FILE.onnx`.

A convolution over the last 30 flights of 14 sensors, a hidden layer and one number, the
flights that are left: 6,305 parameters. The one convolution with a hidden layer is
small beside the network of Babu, Zhao and Li 2016, which began this line of work.
"""

import sys
from pathlib import Path

from examples.onnx_text import drawn, save

SHAPES = {"conv": (16, 14, 9), "hidden": (176, 24), "head": (24, 1)}
GRAPH = """
turbofans (float[n, 14, 30] x) => (float[n, 1] left) {
    wide = Conv <kernel_shape = [9], strides = [2]> (x, conv_weight, conv_bias)
    bent = Tanh (wide)
    flat = Flatten <axis = 1> (bent)
    mixed = Gemm (flat, hidden_weight, hidden_bias)
    hidden = Tanh (mixed)
    left = Gemm (hidden, head_weight, head_bias)
}
"""


def main() -> int:
    """Writes the model."""
    save(Path(sys.argv[1]), GRAPH, drawn(SHAPES, last="head"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
