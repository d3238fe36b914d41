"""Runs a compiled graph in float64, independently of the runtime that boards use.

ONNX's reference evaluator runs whatever the compiler writes, but goes through images
and tables value by value; the operators here do the same with whole arrays.

Source: onnx/defs of operator set 18.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from starling.protocol.errors import OperationError

Values = NDArray[np.float64]
Sizes = Sequence[int] | None


class Reference:
    """A graph whose numbers are float64."""

    def __init__(self, graph: bytes) -> None:
        """Takes a graph as the compiler wrote it."""
        self._evaluator = ReferenceEvaluator(_doubled(graph), new_ops=_OPERATORS)

    def run(
        self, output: str, inputs: Mapping[str, NDArray[np.generic]]
    ) -> NDArray[np.float64]:
        """One output; float32 inputs are widened.

        Raises:
          OperationError: If an operator of ONNX's own cannot compute its node.
        """
        wide = {
            name: array.astype(np.float64) if array.dtype == np.float32 else array
            for name, array in inputs.items()
        }
        try:
            results = self._evaluator.run([output], wide)
        # ONNX's own operators raise whatever NumPy does to them.
        except (LookupError, RuntimeError, TypeError, ValueError) as error:
            line = " ".join(str(error).split())[:200]
            raise OperationError(
                f"the check cannot compute the model in float64: {line}; compile it "
                "without --check, and compare its gradient where the model comes from"
            ) from error
        assert isinstance(results, list)
        return np.asarray(results[0], np.float64)


class Erf(OpRun):
    """The error function in its input's precision; ONNX's own rounds to float32."""

    op_domain = ""

    def _run(self, x: Values) -> tuple[Values]:
        values = [math.erf(value) for value in x.reshape(-1).tolist()]
        return (np.array(values, x.dtype).reshape(x.shape),)


class GlobalMaxPool(OpRun):
    """The largest value of each image; ONNX's own loses an axis of sequences."""

    op_domain = ""

    def _run(self, x: Values) -> tuple[Values]:
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


class LogSoftmax(OpRun):
    """Of scores of any size; ONNX's own takes the logarithm of what became 0."""

    op_domain = ""

    def _run(self, x: Values, axis: int | None = None) -> tuple[Values]:
        along = -1 if axis is None else axis
        # Powers of scores beyond 709 are infinite in float64.
        lead = x - x.max(axis=along, keepdims=True)
        return (lead - np.log(np.exp(lead).sum(axis=along, keepdims=True)),)


class ScatterElements(OpRun):
    """Adds updates up at their places, or puts them there."""

    op_domain = ""

    def _run(
        self,
        data: Values,
        indices: NDArray[np.int64],
        updates: Values,
        axis: int | None = None,
        reduction: str | None = None,
    ) -> tuple[Values]:
        found = data.astype(updates.dtype)
        axis = (axis or 0) % data.ndim
        places: list[NDArray[np.int64]] = list(np.indices(indices.shape, sparse=True))
        places[axis] = indices % data.shape[axis]
        if reduction == "add":
            # Plain indexed addition would count equal places once.
            np.add.at(found, tuple(places), updates)
        else:
            found[tuple(places)] = updates
        return (found,)


class Conv(OpRun):
    """Convolution as one product of patches and kernels."""

    op_domain = ""

    def _run(
        self,
        x: Values,
        kernel: Values,
        bias: Values | None = None,
        auto_pad: str | None = None,
        dilations: Sizes = None,
        group: int | None = None,
        kernel_shape: Sizes = None,
        pads: Sizes = None,
        strides: Sizes = None,
    ) -> tuple[Values]:
        del kernel_shape
        sides, groups = kernel.shape[2:], group or 1
        steps, apart = _steps(strides, sides), _steps(dilations, sides)
        around = _pads(auto_pad, pads, x.shape[2:], sides, steps, apart)
        patches = _patches(_padded(x, around, 0.0), sides, steps, apart)
        rank, places = len(sides), patches.shape[2 : 2 + len(sides)]
        # Kernels' axes before places: rows that are copied stay long.
        order = [0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank)]
        shape = (len(x), groups, -1, math.prod(places))
        columns = patches.transpose(order).reshape(shape)
        found = kernel.reshape(groups, len(kernel) // groups, -1) @ columns
        found = found.reshape(len(x), len(kernel), *places)
        if bias is not None:
            found = found + bias.reshape(-1, *[1] * rank)
        return (found,)


class ConvTranspose(OpRun):
    """Transposed convolution, a kernel's values one after the other.

    ONNX's own takes kernels of groups for those of output channels.
    """

    op_domain = ""

    def _run(
        self,
        x: Values,
        kernel: Values,
        bias: Values | None = None,
        auto_pad: str | None = None,
        dilations: Sizes = None,
        group: int | None = None,
        kernel_shape: Sizes = None,
        output_padding: Sizes = None,
        output_shape: Sizes = None,
        pads: Sizes = None,
        strides: Sizes = None,
    ) -> tuple[Values]:
        del kernel_shape
        # The compiler writes padding as numbers.
        assert auto_pad in (None, "NOTSET")
        assert not output_shape
        sides, places, groups = kernel.shape[2:], x.shape[2:], group or 1
        rank = len(sides)
        steps, apart = _steps(strides, sides), _steps(dilations, sides)
        more = output_padding or (0,) * rank
        rows = x.reshape(len(x), groups, -1, math.prod(places))
        turned = kernel.reshape(groups, len(kernel) // groups, -1).swapaxes(1, 2)
        parts = (turned @ rows).reshape(len(x), -1, *sides, *places)
        sizes = [
            (place - 1) * step + gap * (side - 1) + 1 + extra
            for place, step, gap, side, extra in zip(
                places, steps, apart, sides, more, strict=True
            )
        ]
        found = np.zeros((*parts.shape[:2], *sizes), parts.dtype)
        for spot in np.ndindex(*sides):
            reached = [
                slice(at * gap, at * gap + (place - 1) * step + 1, step)
                for at, gap, place, step in zip(spot, apart, places, steps, strict=True)
            ]
            found[(slice(None), slice(None), *reached)] += parts[
                (slice(None), slice(None), *spot)
            ]
        around = _pads(None, pads, (), sides, steps, apart)
        kept = [
            slice(less, size - rest)
            for (less, rest), size in zip(around, sizes, strict=True)
        ]
        found = found[(slice(None), slice(None), *kept)]
        return (found if bias is None else found + bias.reshape(-1, *[1] * rank),)


class MaxPool(OpRun):
    """The largest value under each window, and where in the whole tensor it is."""

    op_domain = ""

    def _run(
        self,
        x: Values,
        auto_pad: str | None = None,
        ceil_mode: int | None = None,
        dilations: Sizes = None,
        kernel_shape: Sizes = None,
        pads: Sizes = None,
        storage_order: int | None = None,
        strides: Sizes = None,
    ) -> tuple[NDArray[Any], ...]:
        del storage_order
        assert kernel_shape is not None
        sides = tuple(kernel_shape)
        steps, apart = _steps(strides, sides), _steps(dilations, sides)
        around = _pads(auto_pad, pads, x.shape[2:], sides, steps, apart)
        if ceil_mode:
            around = _rounded_up(around, x.shape[2:], sides, steps, apart)
        windows = _patches(_padded(x, around, -np.inf), sides, steps, apart)
        flat = windows.reshape(*windows.shape[: -len(sides)], -1)
        largest = flat.max(axis=-1)
        if len(self.onnx_node.output) < 2:
            return (largest,)
        first = np.unravel_index(flat.argmax(axis=-1), sides)
        places = list(np.indices(largest.shape, sparse=True))
        for axis, inside in enumerate(first):
            begin = places[axis + 2] * steps[axis] - around[axis][0]
            places[axis + 2] = begin + inside * apart[axis]
        return (largest, np.ravel_multi_index(places, x.shape))


_OPERATORS: list[Any] = [
    Conv,
    ConvTranspose,
    Erf,
    GlobalMaxPool,
    LogSoftmax,
    MaxPool,
    ScatterElements,
]
Pads = list[tuple[int, int]]


def _steps(given: Sizes, sides: Sequence[int]) -> tuple[int, ...]:
    return tuple(given) if given else (1,) * len(sides)


def _pads(
    auto: str | None,
    given: Sizes,
    image: Sequence[int],
    sides: Sequence[int],
    steps: Sequence[int],
    apart: Sequence[int],
) -> Pads:
    """Before and behind each axis of an image."""
    rank = len(sides)
    if auto not in ("SAME_LOWER", "SAME_UPPER"):
        pads = list(given) if given else [0] * 2 * rank
        return list(zip(pads[:rank], pads[rank:], strict=True))
    found = []
    for size, side, step, gap in zip(image, sides, steps, apart, strict=True):
        reach = (-(-size // step) - 1) * step + gap * (side - 1) + 1
        total = max(reach - size, 0)
        less, more = total // 2, total - total // 2
        found.append((less, more) if auto == "SAME_UPPER" else (more, less))
    return found


def _rounded_up(
    around: Pads,
    image: Sequence[int],
    sides: Sequence[int],
    steps: Sequence[int],
    apart: Sequence[int],
) -> Pads:
    """More behind each axis, so that a last window that begins inside it counts."""
    found = []
    for pad, size, side, step, gap in zip(
        around, image, sides, steps, apart, strict=True
    ):
        reach = gap * (side - 1) + 1
        windows = -(-(size + sum(pad) - reach) // step) + 1
        # A window that would begin in the padding behind does not count.
        windows -= (windows - 1) * step >= size + pad[0]
        more = max((windows - 1) * step + reach - size - pad[0], 0)
        found.append((pad[0], more))
    return found


def _padded(x: Values, around: Pads, value: float) -> Values:
    return np.pad(x, [(0, 0), (0, 0), *around], constant_values=value)


def _patches(
    x: Values, sides: Sequence[int], steps: Sequence[int], apart: Sequence[int]
) -> Values:
    """(n, channels, places..., sides...): a view of what lies under each window."""
    reach = [gap * (side - 1) + 1 for side, gap in zip(sides, apart, strict=True)]
    axes = tuple(range(2, x.ndim))
    windows = sliding_window_view(x, reach, axis=axes)
    places = [slice(None, None, step) for step in steps]
    inside = [slice(None, None, gap) for gap in apart]
    chosen: Values = windows[(slice(None), slice(None), *places, *inside)]
    return chosen


def _doubled(graph: bytes) -> onnx.ModelProto:
    """The same graph with float64 constants, casts and fillings."""
    model = onnx.ModelProto()
    model.ParseFromString(graph)
    for tensor in model.graph.initializer:
        _widen(tensor)
    for node in model.graph.node:
        if node.op_type == "ConstantOfShape" and not node.attribute:
            zero = numpy_helper.from_array(np.zeros(1, np.float64))
            node.attribute.append(onnx.helper.make_attribute("value", zero))
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
            if attribute.HasField("t"):
                _widen(attribute.t)
    for info in (*model.graph.input, *model.graph.output):
        if info.type.tensor_type.elem_type == TensorProto.FLOAT:
            info.type.tensor_type.elem_type = TensorProto.DOUBLE
    return model


def _widen(tensor: TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT:
        array = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
