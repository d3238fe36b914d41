"""Quantised models in real numbers: int8 weights, fake quantisation, integer operators.

Weights of few bits become the real numbers that they stand for, and are trained as
such. Values between nodes keep their steps: what was rounded to 256 values still is,
as real numbers that are whole. Rounding is written as `h + (round(h) - h)`, whose slope
is 1 within the range and 0 beyond (`straight_through`), so that quantisation-aware
training goes on where the model's own framework left it.

Source: the operators QuantizeLinear, DequantizeLinear, QLinearConv, QLinearMatMul,
ConvInteger and MatMulInteger of ONNX, and those of ONNX Runtime's domain that its own
quantiser writes; Jacob et al., arXiv:1712.05877.
"""

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from starling.compiler.errors import CompileError
from starling.compiler.rewrite.frontends.node_writer import (
    Numbers,
    Writer,
    called,
    contents,
    default_opset,
    evaluated,
    refused,
    typed,
    well_formed,
)
from starling.compiler.rewrite.frontends.quantised_scale import (
    SMALL,
    Array,
    QuantisedModel,
    QuantisedScale,
    product_axes,
    real_values,
    scale_at,
)

_SUFFIX = "_quantized"
"""How ONNX Runtime's quantiser calls a weight that it rounded."""
_MOVERS = frozenset(
    {"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
)
_FOREIGN = frozenset({"channels_last", "opset"})
"""Attributes that the operators of ONNX do not have."""
_DOMAINS = ("", "ai.onnx", "com.microsoft")
_PROBABILITIES = frozenset({"LogSoftmax", "Sigmoid", "Softmax"})


def dequantised(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same model in real numbers.

    Args:
      proto: Of checked form, which is not changed.

    Raises:
      CompileError: If a scale is computed, or steps are of another kind.
    """
    graph = proto.graph
    if not any(_quantised(node) for node in graph.node):
        return proto
    found = onnx.ModelProto()
    found.CopyFrom(proto)
    # Rounded to 1/256 a probability may be 0, which has no logarithm.
    _leave_probabilities(found.graph)
    kinds, ranks = _known_values(proto)
    arrays = {item.name: contents(item) for item in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            arrays[node.output[0]] = contents(node.attribute[0].t)
    arrays |= _moved(proto, arrays)
    model = QuantisedModel(
        Writer(found.graph, kinds, default_opset(proto)), arrays, kinds, ranks
    )
    for node in found.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        # Equal weights are written once, so that a weight that is read twice is trained
        # as one.
        for position, name in enumerate(copy.input):
            copy.input[position] = model.renamed.get(name, name)
        if _quantised(node):
            numbers = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            with well_formed(node):
                _STEPS[node.op_type](model, copy, numbers)
        else:
            model.writer.nodes.append(copy)
    del found.graph.node[:], found.graph.value_info[:]
    found.graph.node.extend(model.writer.nodes)
    _make_real(found.graph)
    return found


def _moved(proto: onnx.ModelProto, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Constants that are cast, turned round or reshaped before anything reads them."""
    found: dict[str, Array] = {}
    known = dict(arrays)
    for node in proto.graph.node:
        if node.op_type in _MOVERS and known.keys() >= {*node.input}:
            with well_formed(node):
                operands = [
                    numpy_helper.from_array(known[name], name)
                    for name in dict.fromkeys(node.input)
                ]
                value = evaluated([node], proto.opset_import, operands)
            found[node.output[0]] = known[node.output[0]] = value
    return found


def _leave_probabilities(graph: onnx.GraphProto) -> None:
    """Takes probabilities before they are rounded for output: a loss starts there."""
    made = {name: node for node in graph.node for name in node.output}
    for output in graph.output:
        last = made.get(output.name)
        if last is None or last.op_type != "DequantizeLinear":
            continue
        rounded = made.get(last.input[0])
        if rounded is None or rounded.op_type != "QuantizeLinear":
            continue
        source = made.get(rounded.input[0])
        if source is not None and source.op_type in _PROBABILITIES:
            kept = helper.make_node("Identity", [rounded.input[0]], [output.name])
            last.CopyFrom(kept)


def _quantised(node: onnx.NodeProto) -> bool:
    return node.domain in _DOMAINS and node.op_type in _STEPS


def _known_values(proto: onnx.ModelProto) -> tuple[dict[str, int], dict[str, int]]:
    graph = typed(proto).graph
    kinds = {item.name: item.data_type for item in graph.initializer}
    ranks = {item.name: len(item.dims) for item in graph.initializer}
    for info in (*graph.input, *graph.value_info, *graph.output):
        kinds[info.name] = info.type.tensor_type.elem_type
        if info.type.tensor_type.HasField("shape"):
            ranks[info.name] = len(info.type.tensor_type.shape.dim)
    return kinds, ranks


def _make_real(graph: onnx.GraphProto) -> None:
    """Writes what is left of few bits as real numbers, inputs and outputs too."""
    tensors = list(graph.initializer)
    tensors += [a.t for node in graph.node for a in node.attribute if a.HasField("t")]
    for tensor in tensors:
        if tensor.data_type in SMALL:
            array = contents(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    for info in (*graph.input, *graph.output):
        if info.type.tensor_type.elem_type in SMALL:
            info.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i in SMALL:
                attribute.i = TensorProto.FLOAT


def _weight(
    model: QuantisedModel, name: str, output: str, scale: QuantisedScale
) -> str:
    """A weight of few bits as a tensor of real numbers, the same for equal scales."""
    parts = scale.beside(model.arrays[name].ndim)
    key = (name, *[(part.shape, part.tobytes()) for part in parts])
    if key not in model.known:
        real = real_values(model.arrays[name], scale)
        plain = name.removesuffix(_SUFFIX)
        called_so = plain if plain != name and plain not in model.arrays else output
        model.known[key] = model.writer.weight(called_so, real)
    model.renamed[output] = model.known[key]
    return model.known[key]


def _real(
    model: QuantisedModel,
    node: onnx.NodeProto,
    name: str,
    output: str,
    scale: QuantisedScale,
) -> str:
    """The real numbers that quantised values stand for."""
    if name in model.arrays:
        return _weight(model, name, output, scale)
    factor, zero = _numbers(model, node, name, output, scale)
    moved = model.writer.node("Sub", [name, zero], f"{output}/moved")
    return model.writer.node("Mul", [moved, factor], output)


def _steps(
    model: QuantisedModel,
    node: onnx.NodeProto,
    name: str,
    output: str,
    scale: QuantisedScale,
) -> str:
    """Real numbers, rounded to what few bits can say, as whole numbers."""
    writer = model.writer
    factor, zero = _numbers(model, node, name, output, scale)
    share = writer.node("Div", [name, factor], f"{output}/share")
    step = writer.node("Round", [share], f"{output}/step")
    # h + (round(h) - h) is round(h) in value; `straight_through` takes the difference
    # for a constant, so that the slope is 1.
    rest = writer.node("Sub", [step, share], f"{output}/rest")
    whole = writer.node("Add", [share, rest], f"{output}/whole")
    # Clipped after the zero point is added, as ONNX saturates: the bounds are those of
    # q.
    moved = writer.node("Add", [whole, zero], f"{output}/moved")
    bounds = [
        writer.real(f"{output}/{side}", float(bound))
        for side, bound in zip(("least", "largest"), scale.range, strict=True)
    ]
    return writer.node("Clip", [moved, *bounds], output)


def _numbers(
    model: QuantisedModel,
    node: onnx.NodeProto,
    name: str,
    output: str,
    scale: QuantisedScale,
) -> tuple[str, str]:
    """Scale and zero point as constants that lie beside a value."""
    rank = model.ranks.get(name, 0)
    if not rank and scale.factor.ndim + scale.zero.ndim:
        raise refused(node, "has a scale for each channel of a value of unknown shape")
    parts = scale.beside(rank)
    names = (f"{output}/scale", f"{output}/zero")
    return (
        model.writer.constant(names[0], parts[0]),
        model.writer.constant(names[1], parts[1]),
    )


def _quantize(model: QuantisedModel, node: onnx.NodeProto, numbers: Numbers) -> None:
    _steps(
        model, node, node.input[0], node.output[0], scale_at(model, node, 1, numbers)
    )


def _dequantize(model: QuantisedModel, node: onnx.NodeProto, numbers: Numbers) -> None:
    kind = model.kinds.get(node.input[0], 0)
    # The values of a bias have 32 bits; nothing is rounded to them here.
    kind = TensorProto.UINT8 if kind == TensorProto.INT32 else kind
    zero = node.input[2] if len(node.input) > 2 else ""
    if model.kinds.get(zero, 0) == TensorProto.INT32:
        if model.arrays.get(zero, np.ones(1)).any():
            raise refused(node, "has a zero point of 32 bits")
        del node.input[2:]
    scale = scale_at(model, node, 1, numbers, kind, bounded=False)
    _real(model, node, node.input[0], node.output[0], scale)


def _linear(
    kind: str, at: int
) -> Callable[[QuantisedModel, onnx.NodeProto, Numbers], None]:
    """Of a product of two tensors: x, its scale and zero, w, its scale and zero, ...

    Args:
      kind: The operator on real numbers.
      at: Where the scale of the result stands.
    """

    def step(model: QuantisedModel, node: onnx.NodeProto, numbers: Numbers) -> None:
        output = node.output[0]
        rows, channels = product_axes(kind)
        x = scale_at(model, node, 1, {"axis": rows})
        channels = 0 if numbers.get("transB") else channels
        w = scale_at(model, node, 4, {"axis": channels})
        inputs = [
            _real(model, node, node.input[0], f"{output}/x", x),
            _real(model, node, node.input[3], f"{output}.weight", w),
        ]
        bias = _bias_at(kind, node)
        if bias:
            if bias not in model.arrays:
                raise refused(node, "has a computed bias")
            # A bias of 32 bits has the product's scale and no zero point (Jacob et al.,
            # section 2.4).
            factor = (x.factor * w.factor).astype(np.float32)
            real = model.arrays[bias].astype(np.float32) * factor
            plain = bias.removesuffix(_SUFFIX)
            plain = f"{output}.bias" if plain in model.arrays else plain
            inputs.append(model.writer.weight(plain, real))
        made = model.writer.node(kind, inputs, f"{output}/real", **numbers)
        _quantised_result(model, node, made, at)

    return step


def _bias_at(kind: str, node: onnx.NodeProto) -> str:
    at = {"Conv": 8, "Gemm": 6}.get(kind, len(node.input))
    return str(node.input[at]) if at < len(node.input) else ""


def _quantised_result(
    model: QuantisedModel, node: onnx.NodeProto, name: str, at: int
) -> None:
    """Rounds a result to its scale, or names it where it has none."""
    if at < len(node.input) and node.input[at]:
        _steps(model, node, name, node.output[0], scale_at(model, node, at, {}))
    else:
        model.writer.node("Identity", [name], node.output[0])


def _several(
    kind: str, count: int
) -> Callable[[QuantisedModel, onnx.NodeProto, Numbers], None]:
    """Of operators on `count` tensors with a scale each, then that of the result."""

    def step(model: QuantisedModel, node: onnx.NodeProto, numbers: Numbers) -> None:
        output, inputs = node.output[0], []
        for index in range(count):
            scale = scale_at(model, node, 3 * index + 1, {})
            name = f"{output}/x{index}"
            inputs.append(_real(model, node, node.input[3 * index], name, scale))
        known = {k: v for k, v in numbers.items() if k not in _FOREIGN}
        if numbers.get("channels_last", 0):
            raise refused(node, "has its channels last")
        made = model.writer.node(kind, inputs, f"{output}/real", **known)
        _quantised_result(model, node, made, 3 * count)

    return step


def _concat(model: QuantisedModel, node: onnx.NodeProto, numbers: Numbers) -> None:
    """QLinearConcat: the scale of the result stands first."""
    output, inputs = node.output[0], []
    for index, at in enumerate(range(2, len(node.input), 3)):
        scale = scale_at(model, node, at + 1, {})
        name = f"{output}/x{index}"
        inputs.append(_real(model, node, node.input[at], name, scale))
    made = model.writer.node("Concat", inputs, f"{output}/real", **numbers)
    _steps(model, node, made, output, scale_at(model, node, 0, {}))


def _integer(kind: str) -> Callable[[QuantisedModel, onnx.NodeProto, Numbers], None]:
    """ConvInteger and MatMulInteger: a product of whole numbers above zero points."""

    def step(model: QuantisedModel, node: onnx.NodeProto, numbers: Numbers) -> None:
        output, inputs = node.output[0], []
        names = ("x", "weight")
        for index, axis in enumerate(product_axes(kind)):
            name, label, at = node.input[index], names[index], 2 + index
            zero = node.input[at] if at < len(node.input) else ""
            if zero and zero not in model.arrays:
                raise refused(
                    node, "has a zero point that is found in a whole batch at a time"
                )
            above = np.zeros((), np.float32)
            if zero:
                above = model.arrays[zero].astype(np.float32)
            above = above.reshape(()) if above.size == 1 else above
            one = QuantisedScale(np.ones((), np.float32), above, (0, 0), axis)
            inputs.append(_real(model, node, name, f"{output}.{label}", one))
        model.writer.node(kind, inputs, output, **numbers)

    return step


def _dynamic(_model: QuantisedModel, node: onnx.NodeProto, _numbers: Numbers) -> None:
    """DynamicQuantizeLinear.

    Raises:
      CompileError: Always: its scale is that of the whole batch.
    """
    raise CompileError(
        f"{called(node)} ({node.op_type}): mixes the examples of a batch, whose range "
        "it takes; quantise the model statically, or not",
        (node.name,),
    )


_Step = Callable[[QuantisedModel, onnx.NodeProto, Numbers], None]
_STEPS: Mapping[str, _Step] = {
    "ConvInteger": _integer("Conv"),
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": _dynamic,
    "MatMulInteger": _integer("MatMul"),
    "QGemm": _linear("Gemm", 7),
    "QLinearAdd": _several("Add", 2),
    "QLinearAveragePool": _several("AveragePool", 1),
    "QLinearConcat": _concat,
    "QLinearConv": _linear("Conv", 6),
    "QLinearGlobalAveragePool": _several("GlobalAveragePool", 1),
    "QLinearLeakyRelu": _several("LeakyRelu", 1),
    "QLinearMatMul": _linear("MatMul", 6),
    "QLinearMul": _several("Mul", 2),
    "QLinearSoftmax": _several("Softmax", 1),
    "QLinearSigmoid": _several("Sigmoid", 1),
    "QuantizeLinear": _quantize,
}
