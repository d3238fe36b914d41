"""Small models around functions of single values: activations, powers, choices."""

from collections.abc import Callable, Mapping

import numpy as np
import onnx

from starling.compiler.ir.graph_builder import Attribute
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


FUNCTION_CASES: Mapping[str, Callable[[], Model]] = {
    "abs": lambda: _activation("Abs"),
    "clip": lambda: _activation("Clip", -0.5, 0.5),
    "clip below": lambda: _activation("Clip", 0.0),
    "elu": lambda: _activation("Elu", alpha=0.7),
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
    "sine": lambda: _activation("Sin"),
    "softsign": lambda: _activation("Softsign"),
    "learned slope": _learned_slope,
    "choice": _chosen,
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
}
