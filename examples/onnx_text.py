"""Small models written as ONNX's own text, with weights that are drawn.

`onnx.parser` reads the graph; what the text calls `NAME_weight` and `NAME_bias` gets
its values here. Letters: `n` examples of a batch, left free.

Source: the textual syntax of ONNX, onnx/docs/Syntax.md; He, Zhang, Ren, Sun,
arXiv:1502.01852, equation 10, for the weights.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper, parser

_HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'


def drawn(
    shapes: Mapping[str, tuple[int, ...]], seed: int = 1, last: str = ""
) -> dict[str, NDArray[np.float32]]:
    """Weights and biases of layers.

    Args:
      shapes: By the layer's name: (outputs, inputs, ...) of a convolution, or (inputs,
        outputs) of a `Gemm`.
      seed: Of the weights.
      last: The last layer, whose weights are zero: nothing is gained by chance.

    Returns:
      `NAME_weight` as He et al. have it, and `NAME_bias`, zeros, of each; float32.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, NDArray[np.float32]] = {}
    for name, shape in shapes.items():
        convolves = len(shape) > 2
        inputs = math.prod(shape[1:]) if convolves else shape[0]
        outputs = shape[0] if convolves else shape[1]
        spread = 0.0 if name == last else math.sqrt(2.0 / inputs)
        found[f"{name}_weight"] = rng.normal(0, spread, shape).astype(np.float32)
        found[f"{name}_bias"] = np.zeros(outputs, np.float32)
    return found


def save(path: Path, text: str, weights: Mapping[str, NDArray[np.float32]]) -> None:
    """Writes a checked model.

    Args:
      path: The .onnx file.
      text: The graph, in which the names of `weights` are free.
      weights: By name.

    Raises:
      onnx.parser.ParseError: If the text is not ONNX.
      onnx.checker.ValidationError: If the model is not valid.
    """
    model = parser.parse_model(_HEAD + text)
    model.graph.initializer.extend(
        numpy_helper.from_array(values, name) for name, values in weights.items()
    )
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
