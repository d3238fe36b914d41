"""Steps of scikit-learn on columns, written in standard operators.

They pick columns, scale them, fill in what is missing and turn categories into rows of
zeros and ones. None of their numbers is trained. Categories are whole numbers: text
does not reach a board.

Source: the operators of the domain ai.onnx.ml, version 1 to 5.
"""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from starling.compiler.rewrite.frontends.node_writer import (
    Numbers,
    Writer,
    called,
    contents,
    refused,
)

_Table = NDArray[np.int64] | NDArray[np.float32]
_TEXT = (
    "works on text, which boards do not read; turn categories into whole numbers "
    "before the model (OrdinalEncoder) and export it again"
)


def feature_extractor(writer: Writer, node: onnx.NodeProto, _numbers: Numbers) -> None:
    """ArrayFeatureExtractor: columns by their places."""
    name = called(node)
    flat = writer.whole(f"{name}/flat", [-1])
    places = writer.node("Reshape", [node.input[1], flat], f"{name}/places")
    writer.node("Gather", [node.input[0], places], node.output[0], axis=-1)


def feature_vectorizer(writer: Writer, node: onnx.NodeProto, _numbers: Numbers) -> None:
    """FeatureVectorizer: columns side by side, as real numbers."""
    name = called(node)
    parts = [
        writer.cast(item, f"{name}/part{place}")
        for place, item in enumerate(node.input)
    ]
    writer.node("Concat", parts, node.output[0], axis=1)


def scaler(writer: Writer, node: onnx.NodeProto, numbers: Numbers) -> None:
    """Scaler: (x - offset) scale, column by column."""
    name = called(node)
    offset = writer.constant(
        f"{name}/offset", np.array(numbers.get("offset", [0.0]), np.float32)
    )
    scale = writer.constant(
        f"{name}/scale", np.array(numbers.get("scale", [1.0]), np.float32)
    )
    x = writer.cast(node.input[0], f"{name}/real")
    centred = writer.node("Sub", [x, offset], f"{name}/centred")
    writer.node("Mul", [centred, scale], node.output[0])


def imputer(writer: Writer, node: onnx.NodeProto, numbers: Numbers) -> None:
    """Imputer: values in the place of those that are missing."""
    name, x = called(node), node.input[0]
    if "imputed_value_floats" in numbers:
        missing = float(numbers.get("replaced_value_float", 0.0))
        values: NDArray[np.generic] = np.array(
            numbers["imputed_value_floats"], np.float32
        )
        x = writer.cast(x, f"{name}/real")
    else:
        missing = int(numbers.get("replaced_value_int64", 0))
        values = np.array(numbers["imputed_value_int64s"], np.int64)
        x = writer.cast(x, f"{name}/whole", TensorProto.INT64)
    filled = writer.constant(f"{name}/values", values)
    # NaN equals nothing, itself included.
    if np.isnan(missing):
        gone = writer.node("IsNaN", [x], f"{name}/gone")
    else:
        mark = writer.constant(f"{name}/mark", np.array(missing, values.dtype))
        gone = writer.node("Equal", [x, mark], f"{name}/gone")
    writer.node("Where", [gone, filled, x], node.output[0])


def binarizer(writer: Writer, node: onnx.NodeProto, numbers: Numbers) -> None:
    """Binarizer: 1 above a threshold, else 0."""
    name = called(node)
    bound = writer.real(f"{name}/threshold", float(numbers.get("threshold", 0.0)))
    x = writer.cast(node.input[0], f"{name}/real")
    above = writer.node("Greater", [x, bound], f"{name}/above")
    writer.node("Cast", [above], node.output[0], to=TensorProto.FLOAT)


def normalizer(writer: Writer, node: onnx.NodeProto, numbers: Numbers) -> None:
    """Normalizer: each row over its norm; a row of zeros stays one.

    What comes from a softmax adds up to one already.
    """
    how, name = numbers.get("norm", b"MAX"), called(node)
    before = [item for item in writer.nodes if node.input[0] in item.output]
    if how == b"L1" and before and before[0].op_type == "Softmax":
        # A loss is found at a softmax that is the last node; a division behind it would
        # hide it.
        before[0].output[0] = node.output[0]
        return
    x = writer.cast(node.input[0], f"{name}/real")
    axis = writer.whole(f"{name}/axis", [-1])
    kind = {b"L1": "ReduceSum", b"L2": "ReduceL2"}.get(how, "ReduceMax")
    # The largest value, not the largest size: so the operator is defined.
    sizes = writer.node("Abs", [x], f"{name}/sizes") if how == b"L1" else x
    norm = writer.node(kind, [sizes, axis], f"{name}/norm", keepdims=1)
    none = writer.node(
        "Equal", [norm, writer.real(f"{name}/zero", 0.0)], f"{name}/none"
    )
    one = writer.real(f"{name}/one", 1.0)
    divisor = writer.node("Where", [none, one, norm], f"{name}/divisor")
    writer.node("Div", [x, divisor], node.output[0])


def one_hot_encoder(writer: Writer, node: onnx.NodeProto, numbers: Numbers) -> None:
    """OneHotEncoder: a 1 at the place of the category; zeros for an unknown one."""
    if numbers.get("cats_strings"):
        raise refused(node, _TEXT)
    name = called(node)
    known = writer.whole(f"{name}/categories", list(numbers["cats_int64s"]))
    last = writer.whole(f"{name}/last", [-1])
    x = writer.cast(node.input[0], f"{name}/whole", TensorProto.INT64)
    column = writer.node("Unsqueeze", [x, last], f"{name}/column")
    same = writer.node("Equal", [column, known], f"{name}/same")
    writer.node("Cast", [same], node.output[0], to=TensorProto.FLOAT)


def label_encoder(writer: Writer, node: onnx.NodeProto, numbers: Numbers) -> None:
    """LabelEncoder: numbers in the place of others, a default for an unknown one."""
    keys, values = _table(numbers, "keys"), _table(numbers, "values")
    if keys is None or values is None:
        raise refused(node, _TEXT)
    name, whole = called(node), values.dtype.kind == "i"
    kind = TensorProto.INT64 if keys.dtype.kind == "i" else TensorProto.FLOAT
    x = writer.cast(node.input[0], f"{name}/key", kind)
    last = writer.whole(f"{name}/last", [-1])
    column = writer.node("Unsqueeze", [x, last], f"{name}/column")
    known = writer.constant(f"{name}/keys", keys)
    same = writer.node("Equal", [column, known], f"{name}/same")
    found = writer.node("Cast", [same], f"{name}/found", to=TensorProto.FLOAT)
    default = _default(numbers, whole=whole)
    # The default, plus what a known value has above it.
    above = writer.constant(f"{name}/values", (values - default).astype(np.float32))
    each = writer.node("Mul", [found, above], f"{name}/each")
    more = writer.node("ReduceSum", [each, last], f"{name}/more", keepdims=0)
    least = writer.real(f"{name}/default", float(default))
    if whole:
        total = writer.node("Add", [more, least], f"{name}/real")
        writer.node("Cast", [total], node.output[0], to=TensorProto.INT64)
    else:
        writer.node("Add", [more, least], node.output[0])


def text(_writer: Writer, node: onnx.NodeProto, _numbers: Numbers) -> None:
    """Operators on text.

    Raises:
      CompileError: Always.
    """
    raise refused(node, _TEXT)


def _table(numbers: Numbers, side: str) -> _Table | None:
    """Keys or values of a LabelEncoder; None if they are text."""
    if f"{side}_int64s" in numbers:
        return np.array(numbers[f"{side}_int64s"], np.int64)
    if f"{side}_floats" in numbers:
        return np.array(numbers[f"{side}_floats"], np.float32)
    tensor = numbers.get(f"{side}_tensor")
    if tensor is None or tensor.data_type == TensorProto.STRING:
        return None
    array = contents(tensor)
    if array.dtype.kind in "iu":
        return array.astype(np.int64)
    return array.astype(np.float32)


def _default(numbers: Numbers, *, whole: bool) -> float:
    tensor = numbers.get("default_tensor")
    if tensor is not None:
        return float(contents(tensor).reshape(-1)[0])
    if whole:
        return int(numbers.get("default_int64", -1))
    return float(numbers.get("default_float", -0.0))
