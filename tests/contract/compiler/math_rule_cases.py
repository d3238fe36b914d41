"""Small models around functions of single values: activations, powers, choices."""

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from starling.compiler.ir.graph_writer import Attribute
from tests.unit.compiler.small_models import OPSET, build, node, weight

Model = tuple[onnx.ModelProto, str]


def _activation(
    kind: str, *bounds: float, opset: int = OPSET, **attributes: Attribute
) -> Model:
    rng = np.random.default_rng(1)
    weights = {"w": weight(rng, 5, 4), "b": np.full(5, 0.1, np.float32)}
    names = [f"bound{index}" for index in range(len(bounds))]
    weights |= {n: np.array(v, np.float32) for n, v in zip(names, bounds, strict=True)}
    nodes = [
        node("Gemm", ["x", "w", "b"], ["h"], transB=1),
        node(kind, ["h", *names], ["out"], "", **attributes),
    ]
    return build(nodes, weights, (4,), (5,), opset), "mse"


def _positive(kind: str, *others: str, **constants: float) -> Model:
    """A function of 1 + h^2, and of h or constants where it takes more."""
    rng = np.random.default_rng(2)
    weights = {"w": weight(rng, 4, 5), "one": np.array(1, np.float32)}
    weights |= {name: np.array(v, np.float32) for name, v in constants.items()}
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Mul", ["h", "h"], ["s"]),
        node("Add", ["s", "one"], ["p"]),
        node(kind, ["p", *others, *constants], ["out"]),
    ]
    return build(nodes, weights, (4,), (5,)), "mse"


def _bounded(kind: str, shift: float = 0.0, **attributes: Attribute) -> Model:
    """A function of a sigmoid, by which its argument is kept in bounds."""
    rng = np.random.default_rng(16)
    weights = {"w": weight(rng, 4, 5), "shift": np.array(shift, np.float32)}
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Sigmoid", ["h"], ["s"]),
        node("Add", ["s", "shift"], ["b"]),
        node(kind, ["b"], ["out"], "", **attributes),
    ]
    return build(nodes, weights, (4,), (5,)), "mse"


def _reduced(
    kind: str, out: tuple[int, ...], opset: int = OPSET, **attributes: Attribute
) -> Model:
    """A reduction or norm of positive values, one of which is exactly 0."""
    rng = np.random.default_rng(17)
    mask = np.ones((3, 4), np.float32)
    mask[1, 2] = float(kind != "ReduceProd")
    weights = {"w": weight(rng, 4, 4), "mask": mask}
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Exp", ["h"], ["e"]),
        node("Mul", ["e", "mask"], ["m"]),
        node(kind, ["m"], ["out"], "", **attributes),
    ]
    return build(nodes, weights, (3, 4), out, opset), "mse"


def _remainder() -> Model:
    """Of real numbers by a trained one, and of places by a constant."""
    rng = np.random.default_rng(18)
    weights: Mapping[str, NDArray[np.generic]] = {
        "w": weight(rng, 4, 5),
        "y": np.full(5, 0.7, np.float32),
        "two": np.array(2, np.int64),
    }
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Mod", ["h", "y"], ["m"], fmod=1),
        node("ArgMax", ["h"], ["i"], axis=1, keepdims=1),
        node("Mod", ["i", "two"], ["odd"]),
        node("Cast", ["odd"], ["f"], to=1),
        node("ArgMin", ["h"], ["j"], axis=1, keepdims=1),
        node("Cast", ["j"], ["g"], to=1),
        node("Hardmax", ["h"], ["k"], axis=1),
        node("Mean", ["m", "f", "k", "g"], ["out"]),
    ]
    return build(nodes, weights, (4,), (5,)), "mse"


def _triangles() -> Model:
    """Both triangles of a square of each example, under one of weights."""
    rng = np.random.default_rng(19)
    weights: Mapping[str, NDArray[np.generic]] = {
        "w": weight(rng, 4, 4),
        "t": weight(rng, 4, 4),
        "one": np.array(1, np.int64),
        "shift": np.array([[True], [False], [False], [True]]),
    }
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Trilu", ["h", "one"], ["u"]),
        node("Trilu", ["h"], ["l"], upper=0),
        node("Trilu", ["t"], ["v"]),
        node("Greater", ["u", "l"], ["c"]),
        node("Xor", ["c", "shift"], ["d"]),
        node("Where", ["d", "u", "l"], ["m"]),
        node("MatMul", ["m", "v"], ["out"]),
    ]
    return build(nodes, weights, (4, 4), (4, 4)), "mse"


def _learned_slope() -> Model:
    rng = np.random.default_rng(13)
    weights = {"w": weight(rng, 4, 5), "a": weight(rng, 5)}
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("PRelu", ["h", "a"], ["out"])]
    return build(nodes, weights, (4,), (5,)), "huber"


def _chosen() -> Model:
    """Comparisons choose between values, and steps add what has no slope."""
    rng = np.random.default_rng(14)
    weights = {"w": weight(rng, 4, 5), "b": weight(rng, 5)}
    steps = ("Floor", "Ceil", "Round", "Sign")
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Add", ["h", "b"], ["k"]),
        *[node(kind, ["h"], [kind]) for kind in steps],
        node("Add", ["Floor", "Ceil"], ["s0"]),
        node("Add", ["Round", "Sign"], ["s1"]),
        node("Add", ["s0", "s1"], ["s"]),
        node("Greater", ["h", "s"], ["c0"]),
        node("GreaterOrEqual", ["h", "k"], ["c1"]),
        node("Less", ["h", "k"], ["c2"]),
        node("LessOrEqual", ["s", "h"], ["c3"]),
        node("Equal", ["c0", "c1"], ["c4"]),
        node("IsNaN", ["h"], ["c5"]),
        node("IsInf", ["h"], ["c6"]),
        node("Not", ["c5"], ["c7"]),
        node("And", ["c7", "c4"], ["c8"]),
        node("Or", ["c8", "c6"], ["c9"]),
        node("And", ["c9", "c2"], ["c10"]),
        node("Or", ["c10", "c3"], ["c"]),
        node("Where", ["c", "h", "b"], ["w0"]),
        node("Cast", ["w0"], ["w1"], to=1),
        node("Add", ["w1", "s"], ["out"]),
    ]
    return build(nodes, weights, (4,), (5,)), "mse"


def _distances(*root: float) -> Model:
    """Distances of an example's rows from each other, of each from itself, too."""
    rng = np.random.default_rng(18)
    weights: dict[str, NDArray[np.generic]] = {
        "w": weight(rng, 4, 5),
        "one": np.array([1], np.int64),
        "two": np.array([2], np.int64),
        "last": np.array([3], np.int64),
        "root": np.array(root, np.float32).reshape(()) if root else np.array(0),
    }
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Unsqueeze", ["h", "one"], ["a"]),
        node("Unsqueeze", ["h", "two"], ["b"]),
        node("Sub", ["a", "b"], ["d"]),
        node("Mul", ["d", "d"], ["s"]),
        node("ReduceSum", ["s", "last"], ["q"], keepdims=0),
        node("Pow" if root else "Sqrt", ["q", *["root" for _ in root]], ["out"]),
    ]
    return build(nodes, weights, (3, 4), (3, 3)), "mse"


def _power_of_zero() -> Model:
    """Rectified values to the power of positive ones that are trained, too."""
    rng = np.random.default_rng(19)
    weights = {"w": weight(rng, 4, 5), "v": weight(rng, 4, 5)}
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Relu", ["h"], ["r"]),
        node("MatMul", ["x", "v"], ["k"]),
        node("Softplus", ["k"], ["p"]),
        node("Pow", ["r", "p"], ["out"]),
    ]
    return build(nodes, weights, (4,), (5,)), "mse"


FUNCTION_CASES: Mapping[str, Callable[[], Model]] = {
    "abs": lambda: _activation("Abs"),
    "clip": lambda: _activation("Clip", -0.5, 0.5),
    "clip below": lambda: _activation("Clip", 0.0),
    "elu": lambda: _activation("Elu", alpha=0.7),
    "elu, turned up": lambda: _activation("Elu", alpha=-0.7),
    "celu, turned up": lambda: _activation("Celu", alpha=-0.7),
    "leaky relu": lambda: _activation("LeakyRelu", alpha=0.2),
    "log softmax": lambda: _activation("LogSoftmax"),
    "relu": lambda: _activation("Relu"),
    "sigmoid": lambda: _activation("Sigmoid"),
    "softmax": lambda: _activation("Softmax", axis=1),
    "softplus": lambda: _activation("Softplus"),
    "tanh": lambda: _activation("Tanh"),
    "cosine": lambda: _activation("Cos"),
    "erf": lambda: _activation("Erf"),
    "hard sigmoid": lambda: _activation("HardSigmoid", alpha=0.3, beta=0.4),
    "hard swish": lambda: _activation("HardSwish"),
    "mish": lambda: _activation("Mish", opset=18),
    "gelu": lambda: _activation("Gelu", opset=20),
    "gelu by tanh": lambda: _activation("Gelu", opset=20, approximate="tanh"),
    "selu": lambda: _activation("Selu"),
    "selu, turned up": lambda: _activation("Selu", alpha=-1.5, gamma=0.8),
    "selu, turned down": lambda: _activation("Selu", alpha=1.5, gamma=-0.8),
    "selu, turned round": lambda: _activation("Selu", alpha=-1.5, gamma=-0.8),
    "sine": lambda: _activation("Sin"),
    "softsign": lambda: _activation("Softsign"),
    "learned slope": _learned_slope,
    "choice": _chosen,
    "arc cosine": lambda: _bounded("Acos"),
    "arc sine": lambda: _bounded("Asin"),
    "arc tangent": lambda: _activation("Atan"),
    "area cosine": lambda: _bounded("Acosh", 1.1),
    "area sine": lambda: _activation("Asinh"),
    "area tangent": lambda: _bounded("Atanh"),
    "hyperbolic cosine": lambda: _activation("Cosh"),
    "hyperbolic sine": lambda: _activation("Sinh"),
    "tangent": lambda: _bounded("Tan"),
    "shrink": lambda: _activation("Shrink", bias=0.2, lambd=0.3),
    "shrink, bounds crossed": lambda: _activation("Shrink", bias=0.2, lambd=-0.3),
    "swish": lambda: _activation("Swish", opset=24, alpha=1.5),
    "thresholded": lambda: _activation("ThresholdedRelu", alpha=0.3),
    "sum of sizes": lambda: _reduced("ReduceL1", (3,), axes=[2], keepdims=0),
    "logarithm of a sum": lambda: _reduced("ReduceLogSum", (3, 1), axes=[-1]),
    "product": lambda: _reduced("ReduceProd", (3,), axes=[2], keepdims=0),
    "product of two axes": lambda: _reduced("ReduceProd", (1, 1), axes=[1, 2]),
    "length one": lambda: _reduced("LpNormalization", (3, 4), axis=-1),
    "sum of sizes one": lambda: _reduced("LpNormalization", (3, 4), axis=1, p=1),
    "remainder": _remainder,
    "triangles": _triangles,
    "binary": lambda: (_activation("Sigmoid")[0], "bce"),
    "binary logits": lambda: (_activation("Identity")[0], "bce"),
    "classes after softmax": lambda: (_activation("Softmax")[0], "cross-entropy"),
    "largest": lambda: _positive("Max", "h", limit=1.2),
    "smallest": lambda: _positive("Min", "h", limit=1.2),
    "power": lambda: _positive("Pow", exponent=2.5),
    "power of h": lambda: _positive("Pow", "h"),
    "reciprocal": lambda: _positive("Reciprocal"),
    "log": lambda: _positive("Log"),
    "sqrt": lambda: _positive("Sqrt"),
    "distances by roots": lambda: _distances(),
    "distances by powers": lambda: _distances(0.5),
    "power of zero": _power_of_zero,
}
