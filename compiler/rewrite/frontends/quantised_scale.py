"""Scales and zero points by which whole numbers of few bits stand for real ones.

Source: the operators QuantizeLinear and DequantizeLinear of ONNX, version 10 to 21.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from starling.compiler.rewrite.frontends.node_writer import Numbers, Writer, refused

Array = NDArray[np.generic]
SMALL: Mapping[int, tuple[int, int]] = {
    TensorProto.INT8: (-128, 127),
    TensorProto.UINT8: (0, 255),
    TensorProto.INT16: (-(1 << 15), (1 << 15) - 1),
    TensorProto.UINT16: (0, (1 << 16) - 1),
    TensorProto.INT4: (-8, 7),
    TensorProto.UINT4: (0, 15),
}
"""Types of quantised values, with their least and largest."""


@dataclass
class QuantisedModel:
    """A quantised model in the making.

    Attributes:
      writer: Of what stands in for its nodes.
      arrays: Its constants by name.
      kinds: Element types of its values.
      ranks: Numbers of axes, as far as they are known.
      known: Weights written so far, by what they are made of.
      renamed: Values that are the same as others.
    """

    writer: Writer
    arrays: Mapping[str, Array]
    kinds: Mapping[str, int]
    ranks: Mapping[str, int]
    known: dict[tuple[object, ...], str] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class QuantisedScale:
    """Quantisation of real numbers as integers: (q - zero) scale.

    Attributes:
      factor: Of shape () or (k,), positive.
      zero: Of the same shape or ().
      range: Least and largest q.
      axis: Along which the k factors lie.
    """

    factor: NDArray[np.float32]
    zero: NDArray[np.float32]
    range: tuple[int, int]
    axis: int = 1

    def beside(self, rank: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Factor and zero in shapes that broadcast against a value of so many axes."""
        return _beside(self.factor, self.axis, rank), _beside(
            self.zero, self.axis, rank
        )


def scale_at(
    model: QuantisedModel,
    node: onnx.NodeProto,
    at: int,
    numbers: Numbers,
    kind: int = 0,
    *,
    bounded: bool = True,
) -> QuantisedScale:
    """The scale and zero point at two inputs of a node.

    Nothing is rounded on the way back: then the type needs no bounds.

    Raises:
      CompileError: If they are computed, or in blocks.
    """
    names = [node.input[k] if k < len(node.input) else "" for k in (at, at + 1)]
    if names[0] not in model.arrays:
        raise refused(node, "has computed scales")
    if names[1] and names[1] not in model.arrays:
        raise refused(node, "has computed zero points")
    # The zero point's type is the quantised type in ONNX; without one uint8 is the
    # default.
    kind = model.kinds.get(names[1], 0) or kind or numbers.get("output_dtype", 0)
    factor = model.arrays[names[0]].astype(np.float32)
    zero = np.zeros((), np.float32)
    if names[1]:
        zero = model.arrays[names[1]].astype(np.float32)
    # A factor of 0 is divided by, and a negative one turns the bounds round.
    if not (np.isfinite(factor).all() and (factor > 0).all()):
        raise refused(node, "has a scale that is not positive")
    limits = SMALL.get(kind or TensorProto.UINT8)
    if limits is None:
        if bounded:
            raise refused(
                node,
                f"rounds values to {TensorProto.DataType.Name(kind)}, of which no "
                "slope is known; quantise to INT8, or export the model before that",
            )
        limits = (0, 0)
    axis = int(numbers.get("axis", 1))
    if numbers.get("block_size", 0):
        sides = [_unblocked(model, node, part, numbers) for part in (factor, zero)]
        return QuantisedScale(sides[0], sides[1], limits, axis)
    factor = factor.reshape(()) if factor.size == 1 else factor
    zero = zero.reshape(()) if zero.size == 1 else zero
    return QuantisedScale(factor, zero, limits, axis)


def _unblocked(
    model: QuantisedModel,
    node: onnx.NodeProto,
    part: NDArray[np.float32],
    numbers: Numbers,
) -> NDArray[np.float32]:
    """Scales of blocks along an axis, one for each value of a constant."""
    if node.input[0] not in model.arrays:
        raise refused(node, "has scales for blocks of values that are computed")
    shape = model.arrays[node.input[0]].shape
    axis = int(numbers.get("axis", 1)) % len(shape)
    if part.ndim == 0:
        return part
    # The last block may be short, so what goes beyond the axis is cut off.
    wide = np.repeat(part, int(numbers["block_size"]), axis=axis)
    return np.take(wide, np.arange(shape[axis]), axis=axis)


def real_values(array: Array, scale: QuantisedScale) -> NDArray[np.float32]:
    """The numbers that a constant stands for, in its own shape."""
    factor, zero = scale.beside(array.ndim)
    real: NDArray[np.float32] = (array.astype(np.float32) - zero) * factor
    return real.astype(np.float32)


def product_axes(kind: str) -> tuple[int, int]:
    """Axis of each factor of a product along which its scales or zero points lie.

    A convolution's belong to the channels of x, and to those of the result, first in
    its weight; a matrix product's to the rows of the first matrix and the columns of
    the second.
    """
    return (1, 0) if kind == "Conv" else (-2, -1)


def _beside(part: NDArray[np.float32], axis: int, rank: int) -> NDArray[np.float32]:
    """Numbers of channels in a shape that broadcasts; blocks have theirs already."""
    if part.ndim == 0 or 1 < part.ndim == rank:
        return part
    return part.reshape(-1, *[1] * (rank - 1 - axis % rank))
