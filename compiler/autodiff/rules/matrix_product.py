"""Matrix products."""

from starling.compiler.autodiff.gradient_factors import (
    GradientFactors,
    OuterProduct,
    Positions,
)
from starling.compiler.autodiff.tape import Tape, batched_output, copy, unbroadcast
from starling.compiler.errors import CompileError
from starling.compiler.ir.graph_builder import BuilderTensor
from starling.compiler.ir.network import NetworkNode


def gemm_forward(tape: Tape, node: NetworkNode) -> None:
    """Alpha A B + beta C with one row of A for each example.

    Raises:
      CompileError: If A is transposed or the batch stands elsewhere.
    """
    a, b = tape.input(node, 0), tape.input(node, 1)
    if not a.batched and not b.batched:
        copy(tape, node)
        return
    if not a.batched or b.batched or node.attributes.get("transA", 0):
        raise CompileError(
            f"{node.label}: the first factor must hold one row for each example and "
            "the second none",
            (node.name,),
        )
    if len(a.row) == 1:
        copy(tape, node)
        return
    # Examples and positions stood in one axis: a matrix product over the positions.
    build = tape.build
    turn = node.attributes.get("transB", 0)
    y = build.matmul(a, build.swap(b) if turn else b)
    if node.attributes.get("alpha", 1.0) != 1.0:
        y = build.mul(y, build.scalar(node.attributes["alpha"]))
    if len(node.inputs) > 2:
        c = tape.input(node, 2)
        if node.attributes.get("beta", 1.0) != 1.0:
            c = build.mul(c, build.scalar(node.attributes["beta"]))
        y = build.add(y, c)
    tape.put(node, y)


def gemm(tape: Tape, node: NetworkNode) -> None:
    """DA = alpha g B', dB = alpha A' g, dC = beta g, example by example."""
    build = tape.build
    cotangent = tape.cotangent(node)
    turned = bool(node.attributes.get("transB", 0))
    scaled = cotangent
    if node.attributes.get("alpha", 1.0) != 1.0:
        scaled = build.mul(cotangent, build.scalar(node.attributes["alpha"]))
    a, b = tape.input(node, 0), tape.input(node, 1)
    # Both factors are weights: their product has one row of cotangents for each
    # example.
    if not a.batched:
        _of_weights(tape, node, scaled)
    elif tape.needs(node, 0):
        tape.give(node, 0, build.matmul(scaled, b if turned else build.swap(b)))
    if a.batched and tape.needs(node, 1):
        sides = (scaled, a) if turned else (a, scaled)
        tape.credit(node, 1, _use(tape, *sides))
    if tape.needs(node, 2):
        if node.attributes.get("beta", 1.0) != 1.0:
            cotangent = build.mul(cotangent, build.scalar(node.attributes["beta"]))
        tape.give_broadcast(node, 2, cotangent)


def _of_weights(tape: Tape, node: NetworkNode, scaled: BuilderTensor) -> None:
    """The factors of a Gemm of weights alone, whose cotangent is (n, p, q)."""
    build = tape.build
    turned = [bool(node.attributes.get(key, 0)) for key in ("transA", "transB")]
    a, b = [
        build.swap(tape.input(node, k)) if turned[k] else tape.input(node, k)
        for k in (0, 1)
    ]
    factors = ((scaled, build.swap(b)), (build.swap(a), scaled))
    for position, pair in enumerate(factors):
        if tape.needs(node, position):
            share = build.matmul(*pair)
            share = build.swap(share) if turned[position] else share
            tape.give(node, position, share)


def matmul(tape: Tape, node: NetworkNode) -> None:
    """DA = g B', dB = A' g; either side may be the weight."""
    batched_output(tape, node)
    a, b = tape.input(node, 0), tape.input(node, 1)
    if min(len(a.shape), len(b.shape)) < 2:
        raise CompileError(
            f"{node.label}: a factor is a vector; let it have two axes", (node.name,)
        )
    # The common case keeps two factors of each example's gradient, and the product is
    # made only where its norm needs it.
    if a.batched and not b.batched and len(b.shape) == 2:
        _weight_right(tape, node)
        return
    if tape.needs(node, 0):
        _general_left(tape, node)
    if tape.needs(node, 1):
        _general_right(tape, node)


def _weight_right(tape: Tape, node: NetworkNode) -> None:
    """The layer `A W` on vectors or, with more axes between, on sequences of them."""
    build, cotangent = tape.build, tape.cotangent(node)
    a, b = tape.input(node, 0), tape.input(node, 1)
    if tape.needs(node, 0):
        tape.give(node, 0, build.matmul(cotangent, build.swap(b)))
    if tape.needs(node, 1):
        tape.credit(node, 1, _use(tape, a, cotangent))


def _use(tape: Tape, left: BuilderTensor, right: BuilderTensor) -> GradientFactors:
    """Of a matrix on a vector or, with more axes between, on each of a sequence."""
    if len(left.row) == 1:
        return OuterProduct(left, right)
    p, q = left.row[-1], right.row[-1]
    positions = left.row_size // p
    return Positions(
        tape.build.reshape(left, (None, positions, p)),
        tape.build.reshape(right, (None, positions, q)),
    )


def _general_left(tape: Tape, node: NetworkNode) -> None:
    build, cotangent = tape.build, tape.cotangent(node)
    a, b = tape.input(node, 0), tape.input(node, 1)
    product = build.matmul(cotangent, build.swap(b))
    tape.give(node, 0, unbroadcast(build, product, a))


def _general_right(tape: Tape, node: NetworkNode) -> None:
    build, cotangent = tape.build, tape.cotangent(node)
    a, b = tape.input(node, 0), tape.input(node, 1)
    product = build.matmul(build.swap(a), cotangent)
    tape.give(node, 1, unbroadcast(build, product, b))
