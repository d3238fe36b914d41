"""Weights that are a part of another: a slice of its rows, or a block inside it.

An exporter that computes `weight[:3]`, or joins three projections into one, writes what
comes out as a tensor of its own, which is trained apart from what it was made of.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from starling.compiler.ir.network import Array
from starling.compiler.parameters.constant_tensors import alike

_SIZE_MIN = 4
"""Fewer equal values may be chance."""
_HITS_MAX = 64
"""Places that are looked at for each pair: the value is a filler where it has more."""


def parts(tensors: Mapping[str, Array]) -> Iterable[tuple[str, str]]:
    """Pairs of a weight and a larger one that holds all of its values in one block.

    A block may lie turned round in a matrix, or in a row as the values are stored.

    Args:
      tensors: Name to value of each weight.
    """
    probes = {name: probe for name, value in tensors.items() for probe in _probe(value)}
    wanted = np.unique(np.array([*probes.values()], np.float32))
    if not wanted.size:
        return
    # Of most models nothing is found, and then nothing is to be done for each pair.
    having: dict[float, list[int]] = {}
    listed = list(probes.items())
    for number, (_, probe) in enumerate(listed):
        having.setdefault(float(probe), []).append(number)
    for name, model in tensors.items():
        flat = model.reshape(-1)
        nearest = np.minimum(np.searchsorted(wanted, flat), len(wanted) - 1)
        hits = np.flatnonzero(wanted[nearest] == flat)
        values = flat[hits]
        numbers = {n for found in np.unique(values) for n in having[float(found)]}
        for part, probe in (listed[number] for number in sorted(numbers)):
            value = tensors[part]
            places = hits[values == probe]
            smaller = value.size < model.size and 0 < places.size <= _HITS_MAX
            if smaller and _holds(model, value, np.float32(probe), places):
                yield part, name


def _probe(value: Array) -> Iterable[np.float32]:
    """One value of a tensor that others hold only if they were made of it."""
    if value.dtype != np.float32 or value.size < _SIZE_MIN or alike(value):
        return
    flat: NDArray[np.float32] = value.reshape(-1).astype(np.float32)
    telling = np.flatnonzero(np.isfinite(flat) & (np.round(flat) != flat))
    yield from flat[telling[:1]]


def _holds(
    model: Array, value: Array, probe: np.float32, places: NDArray[np.intp]
) -> bool:
    turned = [value, value.T] if value.ndim == 2 else [value]
    rows = value.reshape(-1)
    start = int(np.flatnonzero(rows == probe)[0])
    if any(_at(model.reshape(-1), rows, (int(k) - start,)) for k in places):
        return True
    if model.ndim != value.ndim:
        return False
    spots = [np.unravel_index(int(place), model.shape) for place in places]
    for block in turned:
        inside = np.argwhere(block == probe)[0]
        for spot in spots:
            begin = [int(a) - int(b) for a, b in zip(spot, inside, strict=True)]
            if _at(model, block, begin):
                return True
    return False


def _at(model: Array, block: Array, begin: Iterable[int]) -> bool:
    """True if a block stands in a tensor from a place on."""
    starts = tuple(begin)
    if min(starts) < 0:
        return False
    spans = zip(starts, block.shape, strict=True)
    window = model[tuple([slice(at, at + size) for at, size in spans])]
    return window.shape == block.shape and bool((window == block).all())
