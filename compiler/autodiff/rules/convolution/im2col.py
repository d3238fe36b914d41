"""im2col: the values under each window of a convolution, laid out for matrix products.

Copying single values out of an image is slow, so it is done in two steps. A convolution
with one-hot kernels (one kernel for each distinct place under a window) copies the
image once for each place, which is cheap for windows of ordinary size. Then whole
blocks are gathered: one for each value of a window and, where a pooling follows,
for each window of the pool, so that windows pooled together stand side by side and a
pooling is a maximum over one axis.

Letters: C channels, g groups, K values under one window of one group, B distinct
places, F windows in one pool (1 without pooling), P pools (windows without pooling),
L = F P windows.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from starling.compiler.autodiff.rules.convolution.sliding_window import SlidingWindow
from starling.compiler.ir.graph_builder import BuilderTensor, GraphBuilder
from starling.compiler.ir.graph_writer import Shape

ONE_HOT_CELLS_MAX = 64
"""Largest extent of one-hot kernels: beyond it their products (cells per value copied,
about 30 a nanosecond on a core) cost more than gathering single values (2 ns each)."""
ROW_INDICES_MAX = 2048
"""Most indices, 8 bytes each in the graph, for which channels may be rows."""


@dataclass(frozen=True)
class PatchPlaces:
    """Positions of a convolution's windows; one entry per spatial axis.

    Attributes:
      offsets: Distinct distances of a value from the start of its pool, ascending.
      order: (K F,): for each value and window of a pool, its place among the B.
      step: From one pool to the next.
      count: Pools.
    """

    offsets: tuple[tuple[int, ...], ...]
    order: tuple[int, ...]
    step: tuple[int, ...]
    count: tuple[int, ...]


def places(shape: SlidingWindow, pool: tuple[int, ...]) -> PatchPlaces:
    """Lays out the windows of a convolution that a pooling of tiles follows.

    Args:
      shape: Of the convolution.
      pool: Size of the tiles; all ones without pooling.
    """
    offsets, along = [], []
    for axis, tile in enumerate(pool):
        grid = [
            [
                shape.stride[axis] * part + shape.dilation[axis] * value
                for part in range(tile)
            ]
            for value in range(shape.kernel[axis])
        ]
        distinct = sorted({entry for row in grid for entry in row})
        offsets.append(tuple(distinct))
        along.append([[distinct.index(entry) for entry in row] for row in grid])
    sizes = [len(entry) for entry in offsets]
    order = [
        int(
            np.ravel_multi_index(
                [table[v][p] for table, v, p in zip(along, value, part, strict=True)],
                sizes,
            )
        )
        for value in itertools.product(*[range(size) for size in shape.kernel])
        for part in itertools.product(*[range(tile) for tile in pool])
    ]
    step = tuple([s * tile for s, tile in zip(shape.stride, pool, strict=True)])
    count = tuple([o // tile for o, tile in zip(shape.output, pool, strict=True)])
    return PatchPlaces(tuple(offsets), tuple(order), step, count)


def patches(
    build: GraphBuilder,
    x: BuilderTensor,
    shape: SlidingWindow,
    pool: tuple[int, ...],
    groups: int,
) -> BuilderTensor:
    """Copies what each window sees.

    Args:
      build: Writes the graph.
      x: (n, C, ...) images.
      shape: Of the convolution.
      pool: Size of the tiles that are pooled; all ones without pooling.
      groups: g.

    Returns:
      (n, g, K, L), the windows of a pool F apart by P; (n, K, L) for one group.
    """
    layout = places(shape, pool)
    channels = x.row[0]
    area = math.prod(layout.count)
    distinct = math.prod([len(entry) for entry in layout.offsets])
    values = channels * math.prod(shape.kernel)
    windows = len(layout.order) * channels // values * area
    result: Shape = (None, groups, values // groups, windows)
    if groups == 1:
        result = (None, values, windows)
    if distinct == area == 1 or (distinct == 1 and x.row[1:] == layout.count):
        # The windows see the image just as it lies.
        blocks = build.reshape(x, (None, channels, distinct, area))
    elif _cells(layout) > ONE_HOT_CELLS_MAX:
        blocks = _gathered(build, x, shape, layout)
    elif _in_rows(layout, channels):
        return build.reshape(_rows(build, x, shape, layout), result)
    else:
        blocks = _convolved(build, x, shape, layout)
    if layout.order != tuple(range(distinct)):
        indices = build.constant(np.array(layout.order, np.int64))
        copied = (None, channels, len(layout.order), area)
        blocks = build.op("Gather", (blocks, indices), copied, axis=2)
    return build.reshape(blocks, result)


def _dilation(offsets: tuple[int, ...]) -> int:
    return math.gcd(*offsets) or 1


def _cells(layout: PatchPlaces) -> int:
    """Extent of the one-hot kernels, over all axes."""
    return math.prod([max(o) // _dilation(o) + 1 for o in layout.offsets])


def _in_rows(layout: PatchPlaces, channels: int) -> bool:
    """True if `_rows` is to be used: one axis, and blocks are gathered anyway."""
    order = len(layout.order)
    gathers = layout.order != tuple(range(len(layout.offsets[0])))
    return len(layout.count) == 1 and gathers and channels * order <= ROW_INDICES_MAX


def _rows(
    build: GraphBuilder, x: BuilderTensor, shape: SlidingWindow, layout: PatchPlaces
) -> BuilderTensor:
    """(n, C K F, P): all channels are rows of one image, so that one product does."""
    channels, area = x.row[0], layout.count[0]
    kernels, gaps = _one_hot(layout)
    distinct, extent = kernels.shape[0], kernels.shape[2]
    copies = build.op(
        "Conv",
        (
            build.reshape(x, (None, 1, *x.row)),
            build.constant(kernels.reshape(distinct, 1, 1, extent)),
        ),
        (None, distinct, channels, area),
        kernel_shape=[1, extent],
        strides=[1, *layout.step],
        dilations=[1, *gaps],
        pads=[0, *shape.before, 0, *_after(shape, layout)],
    )
    blocks = build.reshape(copies, (None, distinct * channels, area))
    order = np.array(layout.order, np.int64)[None, :] * channels
    indices = (order + np.arange(channels)[:, None]).reshape(-1)
    return build.op(
        "Gather",
        (blocks, build.constant(indices)),
        (None, indices.size, area),
        axis=1,
    )


def _convolved(
    build: GraphBuilder, x: BuilderTensor, shape: SlidingWindow, layout: PatchPlaces
) -> BuilderTensor:
    """(n, C, B, P), each channel being an image of its own."""
    kernels, gaps = _one_hot(layout)
    channels, size = x.row[0], x.row[1:]
    if channels > 1:
        x = build.op("Reshape", (x, build.integers(-1, 1, *size)), (None, 1, *size))
    copies = build.op(
        "Conv",
        (x, build.constant(kernels)),
        (None, len(kernels), *layout.count),
        kernel_shape=list(kernels.shape[2:]),
        strides=list(layout.step),
        dilations=gaps,
        pads=[*shape.before, *_after(shape, layout)],
    )
    return build.reshape(
        copies, (None, channels, len(kernels), math.prod(layout.count))
    )


def _one_hot(layout: PatchPlaces) -> tuple[NDArray[np.float32], list[int]]:
    """(B, 1, ...) kernels, each of which copies one place, and their dilation."""
    gaps = [_dilation(entry) for entry in layout.offsets]
    extents = [
        max(entry) // gap + 1 for entry, gap in zip(layout.offsets, gaps, strict=True)
    ]
    distinct = math.prod([len(entry) for entry in layout.offsets])
    kernels = np.zeros((distinct, 1, *extents), np.float32)
    for number, place in enumerate(itertools.product(*layout.offsets)):
        cell = tuple([entry // gap for entry, gap in zip(place, gaps, strict=True)])
        kernels[(number, 0, *cell)] = 1.0
    return kernels, gaps


def _gathered(
    build: GraphBuilder, x: BuilderTensor, shape: SlidingWindow, layout: PatchPlaces
) -> BuilderTensor:
    """(n, C, B, P) by copying single values."""
    after = _after(shape, layout)
    sizes = [
        before + size + behind
        for before, size, behind in zip(shape.before, shape.size, after, strict=True)
    ]
    if any((*shape.before, *after)):
        pads = build.integers(0, 0, *shape.before, 0, 0, *after)
        x = build.op("Pad", (x, pads), (None, x.row[0], *sizes))
    places_along = [
        np.array(offsets)[:, None] + np.arange(count)[None, :] * step
        for offsets, count, step in zip(
            layout.offsets, layout.count, layout.step, strict=True
        )
    ]
    flat = np.zeros((1, 1), np.int64)
    for extent, along in zip(sizes, places_along, strict=True):
        grown = flat[:, None, :, None] * extent + along[None, :, None, :]
        flat = grown.reshape(flat.shape[0] * along.shape[0], -1)
    channels = x.row[0]
    values = build.op(
        "Gather",
        (
            build.reshape(x, (None, channels, math.prod(sizes))),
            build.constant(flat.reshape(-1)),
        ),
        (None, channels, flat.size),
        axis=2,
    )
    return build.reshape(values, (None, channels, *flat.shape))


def _after(shape: SlidingWindow, layout: PatchPlaces) -> list[int]:
    """Padding behind that lets the last pool see all it needs."""
    return [
        max((count - 1) * step + max(offsets) + 1 - size - before, 0)
        for count, step, offsets, size, before in zip(
            layout.count,
            layout.step,
            layout.offsets,
            shape.size,
            shape.before,
            strict=True,
        )
    ]
