"""Writes an autoencoder: `python -m examples.vibration.model FILE.onnx`.

64 bands of a spectrum go through 32 and 12 numbers and back: 5,004 parameters. What
twelve numbers cannot carry is what only single spectra have, such as a fault.
"""

import sys
from pathlib import Path

from examples.onnx_text import drawn, save

SHAPES = {"down": (64, 32), "code": (32, 12), "up": (12, 32), "head": (32, 64)}
GRAPH = """
autoencoder (float[n, 64] x) => (float[n, 64] rebuilt) {
    a = Gemm (x, down_weight, down_bias)
    b = Tanh (a)
    c = Gemm (b, code_weight, code_bias)
    d = Tanh (c)
    e = Gemm (d, up_weight, up_bias)
    f = Tanh (e)
    rebuilt = Gemm (f, head_weight, head_bias)
}
"""


def main() -> int:
    """Writes the model."""
    save(Path(sys.argv[1]), GRAPH, drawn(SHAPES, last="head"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
