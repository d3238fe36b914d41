"""Norms and sums of a weight that an exporter took in advance.

PyTorch's older exporter computes the norm of a weight (`normalize(w)`, a cosine
classifier) and keeps the division by it, so that the norm would stay what it was, or be
trained apart, while the weight moves. Its values say of which weight it is the norm.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from starling.compiler.ir.network import Array

_RELATIVE = 1e-5
"""How far a value may be off what an exporter computed in its own precision."""
_SIZE_MIN = 2
_PAIRS_MAX = 1 << 12
"""Of a tensor and a weight that are compared."""
_Reals = NDArray[np.float64]
_KINDS: Mapping[str, Callable[[_Reals, tuple[int, ...]], _Reals]] = {
    "ReduceL2": lambda value, axes: np.sqrt(np.square(value).sum(axes)),
    "ReduceL1": lambda value, axes: np.abs(value).sum(axes),
    "ReduceSum": lambda value, axes: value.sum(axes),
    "ReduceSumSquare": lambda value, axes: np.square(value).sum(axes),
}


def reductions(
    made: Mapping[str, Array], weights: Mapping[str, Array]
) -> Iterator[tuple[str, str, str, tuple[int, ...]]]:
    """Tensors that are norms or sums of weights: name, weight, operator and axes.

    Args:
      made: Name to value of tensors that the exporter may have computed.
      weights: Name to value of what they may have been computed from.
    """
    pairs = [
        (name, source)
        for name, value in made.items()
        for source, weight in weights.items()
        if _SIZE_MIN <= value.size < weight.size
        and weight.size % value.size == 0
        and source not in made
    ]
    found = set[str]()
    for name, source in pairs[:_PAIRS_MAX]:
        kind = None if name in found else _reduction(made[name], weights[source])
        if kind is not None:
            found.add(name)
            yield name, source, *kind


def _reduction(value: Array, weight: Array) -> tuple[str, tuple[int, ...]] | None:
    wanted, given = value.reshape(-1).astype(np.float64), weight.astype(np.float64)
    # Zeros are the norm of anything that is zero.
    if not (np.isfinite(wanted).all() and np.isfinite(given).all() and wanted.any()):
        return None
    for axes in _axes(weight.shape, value.size):
        for kind, function in _KINDS.items():
            if np.allclose(function(given, axes).reshape(-1), wanted, _RELATIVE, 0.0):
                return kind, axes
    return None


def _axes(shape: tuple[int, ...], size: int) -> Iterator[tuple[int, ...]]:
    """Sets of axes without which a tensor has a size."""
    for count in range(1, len(shape)):
        for axes in combinations(range(len(shape)), count):
            if math.prod(shape) == size * math.prod([shape[axis] for axis in axes]):
                yield axes
