"""A scatter that no bundle could hold is refused before its memory is taken."""

import tracemalloc

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from starling.compiler import CompileError, compile_model
from tests.unit.compiler.small_models import build, node, weight

_MEMORY_BYTES_MAX = 64 << 20
"""Of a refusal; what was asked for here is more than twice that."""


def _scattered(size: int, times: int, reduction: str = "add") -> onnx.ModelProto:
    """Puts `times` values into the first of `size` places, and takes two of them."""
    rng = np.random.default_rng(0)
    tensors: dict[str, NDArray[np.generic]] = {
        "w": weight(rng, 4, 1),
        "m": weight(rng, 4, times),
        "wide": np.array([size, 1], np.int64),
        "first": np.zeros((times, 1), np.int64),
        "zero": np.array([0], np.int64),
        "two": np.array([2], np.int64),
    }
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Transpose", ["h"], ["t"], perm=[1, 0]),
        node("Expand", ["t", "wide"], ["old"]),
        node("MatMul", ["x", "m"], ["v"]),
        node("Transpose", ["v"], ["new"], perm=[1, 0]),
        node("ScatterND", ["old", "first", "new"], ["s"], reduction=reduction),
        node("Slice", ["s", "zero", "two", "zero"], ["part"]),
        node("Transpose", ["part"], ["out"], perm=[1, 0]),
    ]
    return build(nodes, tensors, (4,), (2,), 18)


@pytest.mark.parametrize(
    ("size", "times", "reduction", "words"),
    [
        (1 << 14, 1 << 10, "add", "adds to one place more than 64 times"),
        (1 << 18, 64, "add", "looks at 16,777,216 places"),
        (1 << 24, 1, "none", "looks at 16,777,216 places"),
    ],
)
def test_scatter_of_more_places_than_a_bundle_holds_is_refused_before_they_are_made(
    size: int, times: int, reduction: str, words: str
) -> None:
    model = _scattered(size, times, reduction)

    tracemalloc.start()
    try:
        with pytest.raises(CompileError, match=words):
            compile_model(model, loss="mse")
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert taken < _MEMORY_BYTES_MAX


def test_scatter_that_adds_to_one_place_as_often_as_is_allowed_compiles() -> None:
    assert compile_model(_scattered(8, 64), loss="mse").manifest.output.shape == (2,)
