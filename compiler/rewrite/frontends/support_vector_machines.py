"""Support vector machines, written in standard operators.

A linear one is a linear layer, and that is trained. Of another kernel the support
vectors stay as they are: what they give is a row of features, and the layer behind it
is trained.

Letters: v support vectors, f features, c classes.

Source: the operators SVMClassifier and SVMRegressor of ai.onnx.ml; Chang and Lin,
LIBSVM, section 4 (pairs of classes).
"""

import numpy as np
import onnx
from numpy.typing import NDArray

from starling.compiler.rewrite.frontends.node_writer import (
    Numbers,
    Writer,
    called,
    refused,
)

Table = NDArray[np.float32]


def regressor(writer: Writer, node: onnx.NodeProto, numbers: Numbers) -> None:
    """SVMRegressor: one score."""
    # A one-class machine gives a sign, whose slope is 0 everywhere.
    if numbers.get("one_class", 0) or _transform(numbers) != b"NONE":
        raise refused(node, "gives no score that could be trained")
    count = int(numbers.get("n_supports", 0))
    coefficients = np.array(numbers["coefficients"], np.float32).reshape(1, -1)
    bias = np.array(numbers["rho"], np.float32)
    vectors = _vectors(numbers, count) if count else None
    _layer(writer, node, numbers, (coefficients, bias, vectors), node.output[0])


def classifier(writer: Writer, node: onnx.NodeProto, numbers: Numbers) -> None:
    """SVMClassifier: a score for each pair of classes, or for each class.

    Raises:
      CompileError: If it makes probabilities of its scores (Platt).
    """
    if numbers.get("prob_a") or _transform(numbers) != b"NONE":
        raise refused(node, "makes probabilities of scores; train it without them")
    name, counts = called(node), list(numbers.get("vectors_per_class", []))
    classes = len(numbers.get("classlabels_ints") or numbers["classlabels_strings"])
    bias = np.array(numbers["rho"], np.float32)
    if counts:
        vectors = _vectors(numbers, sum(counts))
        dual = np.array(numbers["coefficients"], np.float32).reshape(classes - 1, -1)
        table: Table = _pairs(dual, counts)
    else:
        vectors = None
        table = np.array(numbers["coefficients"], np.float32).reshape(len(bias), -1)
    if len(table) > 1:
        _layer(writer, node, numbers, (table, bias, vectors), node.output[1])
        return
    score = f"{name}/score"
    _layer(writer, node, numbers, (table, bias, vectors), score)
    # A loss over classes needs a score for each of the two.
    both = writer.constant(f"{name}/signs", np.array([[-1.0, 1.0]], np.float32))
    writer.node("Mul", [score, both], node.output[1])


def _pairs(dual: Table, counts: list[int]) -> Table:
    """(pairs, v): the factors of all support vectors for each pair of classes."""
    starts = np.cumsum([0, *counts])
    rows = []
    for first in range(len(counts)):
        for second in range(first + 1, len(counts)):
            row = np.zeros(dual.shape[1], np.float32)
            one = slice(starts[first], starts[first + 1])
            other = slice(starts[second], starts[second + 1])
            # LIBSVM keeps, for each vector, classes - 1 factors: one against each other
            # class, its own left out.
            row[one], row[other] = dual[second - 1, one], dual[first, other]
            rows.append(row)
    return np.stack(rows)


def _vectors(numbers: Numbers, count: int) -> Table:
    return np.array(numbers["support_vectors"], np.float32).reshape(count, -1)


def _transform(numbers: Numbers) -> bytes:
    return bytes(numbers.get("post_transform", b"NONE"))


def _layer(
    writer: Writer,
    node: onnx.NodeProto,
    numbers: Numbers,
    parts: tuple[Table, Table, Table | None],
    output: str,
) -> None:
    """Scores: a trained layer on x, or on what the kernel makes of x."""
    table, bias, vectors = parts
    name = called(node)
    kernel = bytes(numbers.get("kernel_type", b"LINEAR"))
    x = writer.cast(node.input[0], f"{name}/real")
    if vectors is not None and kernel == b"LINEAR":
        # The sum over support vectors is taken once, in double precision.
        table = (table.astype(np.float64) @ vectors).astype(np.float32)
    elif kernel != b"LINEAR":
        x = _kernel(writer, node, numbers, x, vectors)
    names = [
        x,
        writer.weight(f"{name}.weight", table),
        writer.weight(f"{name}.bias", bias),
    ]
    writer.node("Gemm", names, output, transB=1)


def _kernel(
    writer: Writer,
    node: onnx.NodeProto,
    numbers: Numbers,
    x: str,
    vectors: Table | None,
) -> str:
    """(n, v): the kernel of each example with each support vector."""
    kernel = bytes(numbers["kernel_type"])
    if vectors is None or kernel not in (b"POLY", b"RBF", b"SIGMOID"):
        raise refused(node, f"has an unknown kernel {kernel[:20]!r}")
    name = called(node)
    gamma, offset, degree = [float(n) for n in numbers["kernel_params"]]
    factor = writer.real(f"{name}/gamma", -gamma if kernel == b"RBF" else gamma)
    if kernel == b"RBF":
        middle, last = [writer.whole(f"{name}/axis{k}", [k]) for k in (1, 2)]
        rows = writer.constant(f"{name}/vectors", vectors)
        column = writer.node("Unsqueeze", [x, middle], f"{name}/column")
        apart = writer.node("Sub", [column, rows], f"{name}/apart")
        squares = writer.node(
            "ReduceSumSquare", [apart, last], f"{name}/squares", keepdims=0
        )
        power = writer.node("Mul", [squares, factor], f"{name}/power")
        return writer.node("Exp", [power], f"{name}/kernel")
    turned = writer.constant(f"{name}/vectors", np.ascontiguousarray(vectors.T))
    products = writer.node("MatMul", [x, turned], f"{name}/products")
    scaled = writer.node("Mul", [products, factor], f"{name}/scaled")
    moved = writer.node(
        "Add", [scaled, writer.real(f"{name}/offset", offset)], f"{name}/moved"
    )
    if kernel == b"SIGMOID":
        return writer.node("Tanh", [moved], f"{name}/kernel")
    exponent = writer.real(f"{name}/degree", degree)
    return writer.node("Pow", [moved, exponent], f"{name}/kernel")
