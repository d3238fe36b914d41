"""Features without any data: strokes by direction and place.

Eight derivatives of a Gaussian of deviation 1, a Relu, the mean over fields of 6x6 at
every third pixel: 8 x 9 x 9 = 648 features.

Source: Freeman and Adelson 1991, The Design and Use of Steerable Filters, section II;
Tramèr and Boneh 2021, arXiv:2011.11660 (features without data under privacy).
"""

import numpy as np
from numpy.typing import NDArray

from starling.fleet.onnx_layers import ModelLayers

DIRECTIONS, WIDTH = 8, 7
FEATURES = 648
_FIELD, _STRIDE = 6, 3


def orientation_filters() -> NDArray[np.float64]:
    """(8, 1, 7, 7): derivatives of a Gaussian along as many directions, mean 0."""
    reach = WIDTH // 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(float)
    bell = np.exp(-(x * x + y * y) / 2)
    angles = 2 * np.pi * np.arange(DIRECTIONS)[:, None, None] / DIRECTIONS
    filters = -(np.cos(angles) * x + np.sin(angles) * y) * bell
    # Even ground gives nothing, whatever its brightness.
    filters -= filters.mean((1, 2), keepdims=True)
    filters /= np.abs(filters).sum((1, 2), keepdims=True)
    return np.asarray(filters[:, None], np.float64)


def add_orientations(layers: ModelLayers, x: str) -> str:
    """Adds the layers; (n, 1, 28, 28) becomes (n, 648)."""
    reach = WIDTH // 2
    filters = layers.weight("front.filters", orientation_filters())
    strokes = layers.node(
        "Conv", [x, filters], kernel_shape=[WIDTH, WIDTH], pads=[reach] * 4
    )
    one_sided = layers.node("Relu", [strokes])
    fields = layers.node(
        "AveragePool",
        [one_sided],
        kernel_shape=[_FIELD, _FIELD],
        strides=[_STRIDE, _STRIDE],
        pads=[1] * 4,
    )
    return layers.node("Flatten", [fields], axis=1)


def add_unit_length(layers: ModelLayers, features: str, name: str) -> str:
    """Divides each row by its length, so that clipping treats all records alike."""
    tiny = layers.weight(f"front.{name}", np.array([1e-6]))
    length = layers.node("ReduceL2", [features], axes=[1], keepdims=1)
    return layers.node("Div", [features, layers.node("Add", [length, tiny])])
