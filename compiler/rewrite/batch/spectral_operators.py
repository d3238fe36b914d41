"""Fourier transforms and local normalisation, written as products with constants.

A transform of a fixed length is linear: a row of values, real or complex, times a
matrix of cosines and sines. So it has the gradient of a matrix product.

Source: the operators DFT, STFT and LRN of ONNX; Oppenheim and Schafer, Discrete-Time
Signal Processing, chapter 8.
"""

import math
from dataclasses import replace
from string import ascii_lowercase

import numpy as np
from numpy.typing import NDArray

from starling.compiler.errors import CompileError
from starling.compiler.ir.network import Array, NetworkNode
from starling.compiler.rewrite.batch.batch_layout import BatchLayout
from starling.compiler.rewrite.batch.batch_rewriter import RewrittenGraph, refuse

LENGTH_MAX = 1 << 11
"""Of a transform: its matrix is part of the graph."""
Matrix = NDArray[np.float32]


def transforms(kept: RewrittenGraph, node: NetworkNode) -> bool:
    """Takes over a DFT, STFT or LRN; says whether the node was one.

    Raises:
      CompileError: If it works along the batch, or has computed sizes.
    """
    steps = {"DFT": _dft, "LRN": _normalised, "STFT": _stft}
    step = steps.get(node.kind)
    if step is None:
        return False
    layout, extent = kept.layouts.get(node.inputs[0]), kept.output(node)
    if layout is None or layout.batch != 0 or extent.batch != 0:
        raise refuse(node)
    value = step(kept, node, layout)
    made = replace(node, kind="Reshape", inputs=(value,), attributes={})
    kept.keep(made, BatchLayout(extent.sizes, 0, layout.before))
    return True


def _dft(kept: RewrittenGraph, node: NetworkNode, layout: BatchLayout) -> str:
    """Along one axis; the last one holds real or complex values."""
    rank = len(layout.sizes)
    axis = node.attributes.get("axis", 1 if len(node.inputs) < 3 else -2)
    given = _constant(kept, node, 2)
    axis = (int(given.reshape(-1)[0]) if given is not None else axis) % rank
    one_sided = bool(node.attributes.get("onesided", 0))
    inverse = bool(node.attributes.get("inverse", 0))
    parts, first = layout.sizes[-1], len(layout.parts[0])
    # A half of the spectrum, from which real values come.
    half = inverse and one_sided and parts == 2
    known = layout.sizes[axis]
    length = _whole(kept, node, 1, 2 * known - 2 if half else known)
    taken = length // 2 + 1 if half else length
    if axis in (0, rank - 1) or known < taken or parts > 2:
        raise CompileError(
            f"{node.label}: transforms no axis of its own; name an axis behind the "
            "batch, and none of real and imaginary parts",
            (node.name,),
        )
    matrix = _matrix(node, length, parts, one_sided=one_sided, inverse=inverse)
    matrix = _real_inverse(length) if half else matrix
    value = node.inputs[0]
    if known > taken:
        bounds = [kept.constant([number]) for number in (0, taken, axis + first)]
        shape = list(kept.shape(value))
        shape[axis + first] = taken
        value = kept.call("Slice", (value, *bounds), tuple(shape))
    shape = list(kept.shape(value))
    place, last = axis + first, len(shape) - 1
    order = [*[k for k in range(last) if k != place], place, last]
    moved = kept.transposed(value, order)
    rows = [shape[k] for k in order[:-2]]
    line = kept.reshaped(moved, (*rows, taken * parts))
    table = kept.array("transform", matrix)
    wide = matrix.shape[1]
    product = kept.call("MatMul", (line, table), (*rows, wide))
    ends = (length, 1) if half else (wide // 2, 2)
    pairs = kept.reshaped(product, (*rows, *ends))
    return kept.transposed(pairs, sorted(range(last + 1), key=order.__getitem__))


def _stft(kept: RewrittenGraph, node: NetworkNode, layout: BatchLayout) -> str:
    """Frames of a signal, each weighted and transformed."""
    sizes = layout.sizes
    parts = sizes[2] if len(sizes) == 3 else 1
    step, window = _whole(kept, node, 1, 0), _constant(kept, node, 2)
    length = _whole(kept, node, 3, 0 if window is None else len(window))
    weights = np.ones(length, np.float32)
    if window is not None:
        weights = window.reshape(-1).astype(np.float32)
    if step < 1 or parts != 1 or not 0 < length <= sizes[1] or len(weights) > length:
        raise CompileError(
            f"{node.label}: has no frames of a real signal; feed one that is as long "
            "as a frame at least",
            (node.name,),
        )
    one_sided = kept.output(node).sizes[-2] < length
    matrix = _matrix(node, length, 1, one_sided=one_sided, inverse=False)
    frames = 1 + (sizes[1] - length) // step
    starts = np.arange(frames)[:, None] * step
    places = kept.constant((starts + np.arange(length)).reshape(-1).tolist())
    signal = kept.reshaped(node.inputs[0], (None, *layout.parts[0], sizes[1]))
    front = kept.shape(signal)[:-1]
    taken = kept.call(
        "Gather", (signal, places), (*front, frames * length), axis=len(front)
    )
    rows = kept.reshaped(taken, (*front, frames, length))
    table = kept.array("transform", (weights[:, None] * matrix).astype(np.float32))
    return kept.call("MatMul", (rows, table), (*front, frames, matrix.shape[1]))


def _normalised(kept: RewrittenGraph, node: NetworkNode, layout: BatchLayout) -> str:
    """LRN: x / (bias + alpha / size * sum of squares of channels near by)^beta."""
    channels, size = layout.sizes[1], int(node.attributes["size"])
    name, shape = node.inputs[0], kept.shape(node.inputs[0])
    distance = np.arange(channels)[None] - np.arange(channels)[:, None]
    before, after = (size - 1) // 2, size - 1 - (size - 1) // 2
    near = ((distance >= -before) & (distance <= after)).astype(np.float32)
    table = kept.array("near", near.T * node.attributes.get("alpha", 1e-4) / size)
    letters = ascii_lowercase[: len(shape)]
    place = 1 + len(layout.parts[0])
    result = letters.replace(letters[place], "z")
    equation = f"{letters},{letters[place]}z->{result}".encode()
    squares = kept.call("Mul", (name, name), shape)
    summed = f"{node.outputs[0]}/sum"
    kept.made[summed] = shape
    attributes = {"equation": equation}
    kept.nodes.append(
        NetworkNode("Einsum", summed, (squares, table), (summed,), attributes)
    )
    bias = kept.array("bias", np.array(node.attributes.get("bias", 1.0), np.float32))
    power = kept.array(
        "power", np.array(-node.attributes.get("beta", 0.75), np.float32)
    )
    whole = kept.call("Add", (summed, bias), shape)
    factor = kept.call("Pow", (whole, power), shape)
    return kept.call("Mul", (name, factor), shape)


def _matrix(
    node: NetworkNode, length: int, parts: int, *, one_sided: bool, inverse: bool
) -> Matrix:
    """(length parts, outputs 2): what each value adds to real and imaginary sums."""
    if length > LENGTH_MAX or length < 1:
        raise CompileError(
            f"{node.label}: a transform of {length} values, {LENGTH_MAX} allowed; "
            "cut the signal into frames, or transform it before the model",
            (node.name,),
        )
    count = length // 2 + 1 if one_sided else length
    turns = np.outer(np.arange(length), np.arange(count)) % length
    sign = 1.0 if inverse else -1.0
    angles = sign * 2.0 * np.pi * turns / length
    scale = 1.0 / length if inverse else 1.0
    real = np.stack([np.cos(angles), np.sin(angles)], -1) * scale
    rows = [real]
    if parts == 2:
        rows.append(np.stack([-np.sin(angles), np.cos(angles)], -1) * scale)
    table = np.stack(rows, 1).reshape(length * parts, 2 * count)
    return table.astype(np.float32)


def _real_inverse(length: int) -> Matrix:
    """(places 2, length): what each place of half a spectrum adds to real values.

    All places but the first, and the last of an even length, stand for two.
    """
    count = length // 2 + 1
    turns = np.outer(np.arange(count), np.arange(length)) % length
    angles = 2.0 * np.pi * turns / length
    twice = np.full((count, 1), 2.0 / length)
    twice[0] = 1.0 / length
    if length % 2 == 0:
        twice[-1] = 1.0 / length
    table = np.stack([twice * np.cos(angles), -twice * np.sin(angles)], 1)
    return table.reshape(2 * count, length).astype(np.float32)


def _whole(kept: RewrittenGraph, node: NetworkNode, position: int, default: int) -> int:
    """A whole number among the inputs.

    Raises:
      CompileError: If it is computed.
    """
    if position >= len(node.inputs) or not node.inputs[position]:
        return default
    value = _constant(kept, node, position)
    if value is None or math.prod(value.shape) != 1:
        raise CompileError(
            f"{node.label}: its sizes are computed; export the model with constant "
            "sizes",
            (node.name,),
        )
    return int(value.reshape(-1)[0])


def _constant(kept: RewrittenGraph, node: NetworkNode, position: int) -> Array | None:
    if position >= len(node.inputs):
        return None
    return kept.constants.get(node.inputs[position])
