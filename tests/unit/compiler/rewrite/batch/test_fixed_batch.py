"""Models that were exported for one number of examples compile for any."""

from collections.abc import Callable, Mapping

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from starling.compiler import CompileError, compile_model
from starling.compiler.bundle.gradient_check import TOLERANCE, check_bundle
from starling.protocol.model.training_bundle import INFER
from tests.unit.compiler.small_models import build, node, weight

RNG = np.random.default_rng(0)
Tensors = dict[str, NDArray[np.generic]]
Nodes = list[onnx.NodeProto]


def _fixed(
    batch: int, nodes: Nodes, tensors: Tensors, row: tuple[int, ...]
) -> onnx.ModelProto:
    proto = build(nodes, tensors, row, (3,), opset=18)
    for info in (*proto.graph.input, *proto.graph.output):
        info.type.tensor_type.shape.dim[0].dim_value = batch
    return proto


def _ints(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def _flattened(batch: int, *target: int) -> onnx.ModelProto:
    tensors: Tensors = {
        "k": weight(RNG, 2, 1, 2, 2),
        "s": _ints(*target),
        "w": weight(RNG, 18, 3),
    }
    nodes = [
        node("Conv", ["x", "k"], ["h"]),
        node("Reshape", ["h", "s"], ["f"]),
        node("MatMul", ["f", "w"], ["out"]),
    ]
    return _fixed(batch, nodes, tensors, (1, 4, 4))


def _heads(batch: int, *, time_first: bool) -> onnx.ModelProto:
    """Two heads of attention over five steps, folded as PyTorch folds them."""
    tensors: Tensors = {
        "w": weight(RNG, 8, 8),
        "v": weight(RNG, 8, 3),
        "axis": _ints(1),
    }
    if time_first:
        tensors |= {"apart": _ints(5, 2 * batch, 4), "rows": _ints(5 * batch, 8)}
        tensors["joined"] = _ints(5, batch, 8)
        nodes = [
            node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
            node("MatMul", ["t", "w"], ["h"]),
            node("Reshape", ["h", "apart"], ["q"]),
            node("Transpose", ["q"], ["a"], perm=[1, 0, 2]),
            node("Transpose", ["q"], ["b"], perm=[1, 2, 0]),
            node("MatMul", ["a", "b"], ["s"]),
            node("Softmax", ["s"], ["p"], axis=-1),
            node("MatMul", ["p", "a"], ["o"]),
            node("Transpose", ["o"], ["back"], perm=[1, 0, 2]),
            node("Reshape", ["back", "rows"], ["r"]),
            node("MatMul", ["r", "w"], ["z"]),
            node("Reshape", ["z", "joined"], ["j"]),
            node("Transpose", ["j"], ["m"], perm=[1, 0, 2]),
        ]
    else:
        tensors |= {"apart": _ints(batch, 5, 2, 4), "joined": _ints(batch, 5, 8)}
        nodes = [
            node("MatMul", ["x", "w"], ["h"]),
            node("Reshape", ["h", "apart"], ["q"]),
            node("Transpose", ["q"], ["a"], perm=[0, 2, 1, 3]),
            node("Transpose", ["q"], ["b"], perm=[0, 2, 3, 1]),
            node("MatMul", ["a", "b"], ["s"]),
            node("Softmax", ["s"], ["p"], axis=-1),
            node("MatMul", ["p", "a"], ["o"]),
            node("Transpose", ["o"], ["back"], perm=[0, 2, 1, 3]),
            node("Reshape", ["back", "joined"], ["m"]),
        ]
    last = [
        node("ReduceMean", ["m", "axis"], ["mean"], keepdims=0),
        node("MatMul", ["mean", "v"], ["out"]),
    ]
    return _fixed(batch, [*nodes, *last], tensors, (5, 8))


def _token(batch: int, *, folded: bool = False) -> onnx.ModelProto:
    """A learned token in front of the others, expanded to the batch."""
    token = weight(RNG, 1, 1, 4)
    tensors: Tensors = {"w": weight(RNG, 4, 3), "axis": _ints(1)}
    if folded:
        tensors["e"] = token.repeat(batch, 0)
    else:
        tensors |= {"token": token, "all": _ints(batch, 1, 4)}
    nodes = [] if folded else [node("Expand", ["token", "all"], ["e"])]
    nodes += [
        node("Concat", ["e", "x"], ["c"], axis=1),
        node("Tanh", ["c"], ["t"]),
        node("ReduceMean", ["t", "axis"], ["m"], keepdims=0),
        node("MatMul", ["m", "w"], ["out"]),
    ]
    return _fixed(batch, nodes, tensors, (5, 4))


def _state(batch: int) -> onnx.ModelProto:
    """A recurrent layer with a first state of zeros."""
    tensors: Tensors = {
        "w": weight(RNG, 1, 12, 3),
        "r": weight(RNG, 1, 12, 4),
        "b": weight(RNG, 1, 24),
        "h0": np.zeros((1, batch, 4), np.float32),
        "zero": _ints(0),
        "v": weight(RNG, 4, 3),
    }
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        node("GRU", ["t", "w", "r", "b", "", "h0"], ["a", "last"], hidden_size=4),
        node("Squeeze", ["last", "zero"], ["z"]),
        node("MatMul", ["z", "v"], ["out"]),
    ]
    return _fixed(batch, nodes, tensors, (6, 3))


def _sliced(batch: int) -> onnx.ModelProto:
    """A slice of steps that names the batch's end, too."""
    tensors: Tensors = {
        "start": _ints(0, 1),
        "stop": _ints(batch, 5),
        "axes": _ints(0, 1),
        "one": _ints(1),
        "w": weight(RNG, 4, 3),
    }
    nodes = [
        node("Slice", ["x", "start", "stop", "axes"], ["s"]),
        node("Tanh", ["s"], ["t"]),
        node("MatMul", ["t", "w"], ["h"]),
        node("ReduceMean", ["h", "one"], ["out"], keepdims=0),
    ]
    return _fixed(batch, nodes, tensors, (6, 4))


def _thirds(batch: int) -> onnx.ModelProto:
    """Queries, keys and values of one projection, cut at thirds of its width."""
    tensors: Tensors = {
        "w": weight(RNG, 4, 12),
        "place": _ints(2),
        "more": _ints(2),
        "three": _ints(3),
        "two": _ints(2),
        "none": _ints(0),
        "rows": _ints(batch, -1),
        "v": weight(RNG, 20, 3),
    }
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Shape", ["h"], ["sizes"]),
        node("Gather", ["sizes", "place"], ["width"], axis=0),
        node("Add", ["width", "more"], ["up"]),
        node("Div", ["up", "three"], ["third"]),
        node("Mul", ["third", "two"], ["thirds"]),
        node("Mul", ["third", "three"], ["end"]),
        node("Slice", ["h", "none", "third", "place"], ["q"]),
        node("Slice", ["h", "third", "thirds", "place"], ["k"]),
        node("Slice", ["h", "thirds", "end", "place"], ["u"]),
        node("Transpose", ["k"], ["t"], perm=[0, 2, 1]),
        node("MatMul", ["q", "t"], ["s"]),
        node("Softmax", ["s"], ["p"], axis=-1),
        node("MatMul", ["p", "u"], ["o"]),
        node("Reshape", ["o", "rows"], ["f"]),
        node("MatMul", ["f", "v"], ["out"]),
    ]
    return _fixed(batch, nodes, tensors, (5, 4))


def _normalised(batch: int) -> onnx.ModelProto:
    """Rows over their lengths, which are repeated to the shape of the sample batch."""
    tensors: Tensors = {
        "k": weight(RNG, 4, 4),
        "axis": _ints(1),
        "least": np.array(1e-12, np.float32),
        "shape": _ints(batch, 4),
        "w": weight(RNG, 4, 3),
    }
    nodes = [
        node("MatMul", ["x", "k"], ["h"]),
        node("ReduceL2", ["h", "axis"], ["l"], keepdims=1),
        node("Clip", ["l", "least"], ["c"]),
        node("Expand", ["c", "shape"], ["e"]),
        node("Div", ["h", "e"], ["u"]),
        node("MatMul", ["u", "w"], ["out"]),
    ]
    return _fixed(batch, nodes, tensors, (4,))


def _enlarged(batch: int) -> onnx.ModelProto:
    """An image that is resized to the sample batch's sizes."""
    tensors: Tensors = {
        "k": weight(RNG, 2, 1, 1, 1),
        "sizes": _ints(batch, 2, 4, 4),
        "flat": _ints(batch, 32),
        "w": weight(RNG, 32, 3),
    }
    nodes = [
        node("Conv", ["x", "k"], ["h"]),
        node("Resize", ["h", "", "", "sizes"], ["r"], mode="linear"),
        node("Reshape", ["r", "flat"], ["f"]),
        node("MatMul", ["f", "w"], ["out"]),
    ]
    return _fixed(batch, nodes, tensors, (1, 2, 2))


def _queries(batch: int) -> onnx.ModelProto:
    """Learned queries, repeated for the sample batch, ask what an example holds."""
    query = weight(RNG, 1, 2, 4)
    tensors: Tensors = {
        "e": np.repeat(query, batch, 0),
        "k": weight(RNG, 4, 4),
        "flat": _ints(batch, 8),
        "w": weight(RNG, 8, 3),
    }
    nodes = [
        node("MatMul", ["e", "k"], ["q"]),
        node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        node("MatMul", ["q", "t"], ["s"]),
        node("Softmax", ["s"], ["p"], axis=-1),
        node("MatMul", ["p", "x"], ["o"]),
        node("Reshape", ["o", "flat"], ["f"]),
        node("MatMul", ["f", "w"], ["out"]),
    ]
    return _fixed(batch, nodes, tensors, (5, 4))


CASES: Mapping[str, Callable[[int], onnx.ModelProto]] = {
    "flattened": lambda batch: _flattened(batch, batch, 18),
    "flattened, features free": lambda batch: _flattened(batch, batch, -1),
    "flattened, batch free": lambda batch: _flattened(batch, -1, 18),
    "heads": lambda batch: _heads(batch, time_first=False),
    "heads, time first": lambda batch: _heads(batch, time_first=True),
    "token": _token,
    "token, repeated by the exporter": lambda batch: _token(batch, folded=True),
    "lengths of rows": _normalised,
    "sizes of an image": _enlarged,
    "learned queries": _queries,
    "slice": _sliced,
    "thirds of a width": _thirds,
    "first state": _state,
}


@pytest.mark.parametrize("batch", [1, 3, 61])
@pytest.mark.parametrize("case", CASES)
def test_model_for_one_batch_does_the_same_for_any(case: str, batch: int) -> None:
    proto = CASES[case](batch)
    bundle = compile_model(proto, loss="cross-entropy")
    row = bundle.manifest.input.shape
    x = RNG.standard_normal((2 * batch, *row)).astype(np.float32)
    original = onnxruntime.InferenceSession(proto.SerializeToString())
    parts = [original.run(None, {"x": part})[0] for part in (x[:batch], x[batch:])]

    session = onnxruntime.InferenceSession(bundle.standalone(INFER))
    found = session.run(None, {"theta": bundle.theta, "x": x})[0]

    np.testing.assert_allclose(found, np.concatenate(parts), rtol=1e-4, atol=1e-5)
    assert check_bundle(bundle, np.random.default_rng(0)).worst <= TOLERANCE


def test_repeated_token_is_trained_once() -> None:
    bundle = compile_model(_token(3, folded=True), loss="cross-entropy")

    assert {item.name: item.shape for item in bundle.manifest.parameters} == {
        "e": (1, 1, 4),
        "w": (4, 3),
    }


def test_batch_that_only_the_output_names_is_freed() -> None:
    proto = _token(3)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"

    bundle = compile_model(proto, loss="cross-entropy")

    assert bundle.notes == ("exported for a batch of 3; compiled for any number",)
    assert check_bundle(bundle, np.random.default_rng(0)).worst <= TOLERANCE


def test_batch_that_cannot_be_freed_is_told_first() -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Softmax", ["h"], ["out"], "across", axis=0),
    ]
    proto = _fixed(2, nodes, {"w": weight(RNG, 4, 3)}, (4,))

    with pytest.raises(CompileError, match=r"fixed batch of 2.*dynamic batch.*across"):
        compile_model(proto, loss="mse")
