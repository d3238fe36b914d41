"""Models whose weights are looked for, and what was found in a bundle."""

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from starling.compiler import Bundle
from starling.compiler.bundle.gradient_check import TOLERANCE, check_bundle
from tests.unit.compiler.small_models import build, node, weight

RNG = np.random.default_rng(0)


Tensors = Mapping[str, NDArray[np.generic]]


def trained_names(bundle: Bundle) -> list[str]:
    return [item.name for item in bundle.manifest.parameters if item.trainable]


def is_sound(bundle: Bundle) -> bool:
    return check_bundle(bundle, np.random.default_rng(1)).worst <= TOLERANCE


def scaled_input(**more: NDArray[np.generic]) -> onnx.ModelProto:
    """A linear layer behind the input's mean and spread."""
    weights: dict[str, NDArray[np.generic]] = {
        "mean": weight(RNG, 4),
        "std": 1 + RNG.random(4, np.float32),
        "w": weight(RNG, 4, 3),
        **more,
    }
    nodes = [
        node("Sub", ["x", "mean"], ["c"]),
        node("Div", ["c", "std"], ["s"]),
        node("MatMul", ["s", "w"], ["h"]),
        node("Add", ["h", "b"] if more else ["h", "h"], ["out"]),
    ]
    return build(nodes, weights, (4,), (3,))
