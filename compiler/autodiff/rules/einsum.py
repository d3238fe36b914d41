"""Einsum of one or two tensors: the way back is an Einsum with the letters exchanged.

Source: the operator Einsum of ONNX; letters stand for axes, as in NumPy.
"""

from starling.compiler.autodiff.tape import Tape, copy
from starling.compiler.errors import CompileError
from starling.compiler.ir.graph_builder import BuilderTensor
from starling.compiler.ir.network import NetworkNode


def forward(tape: Tape, node: NetworkNode) -> None:
    """Writes the operator.

    Raises:
      CompileError: If letters repeat within a tensor, stand for several axes or are
        summed over in one tensor alone, or if it would mix examples.
    """
    terms, result = _letters(node)
    for number, term in enumerate(terms):
        others = {*result, *[c for k, t in enumerate(terms) if k != number for c in t]}
        if len({*term}) != len(term) or not {*term} <= others or "." in term:
            raise CompileError(
                f"{node.label}: {_equation(node)!r} has no gradient here; write it "
                "with matmul, transpose and sum",
                (node.name,),
            )
    batched = [
        term
        for term, x in zip(terms, tape.inputs(node), strict=True)
        if x and x.batched
    ]
    if not result or any(term[:1] != result[:1] for term in batched):
        raise CompileError(f"{node.label}: mixes the examples of a batch", (node.name,))
    copy(tape, node)


def backward(tape: Tape, node: NetworkNode) -> None:
    """For each tensor the Einsum of the cotangent and the other one."""
    terms, result = _letters(node)
    cotangent = tape.cotangent(node)
    for position, term in enumerate(terms):
        if not tape.needs(node, position):
            continue
        target = tape.input(node, position)
        others = [
            (t, tape.input(node, k)) for k, t in enumerate(terms) if k != position
        ]
        wanted = term if target.batched else f"{result[0]}{term}"
        parts: list[tuple[str, BuilderTensor]] = [(result, cotangent), *others]
        equation = f"{','.join([text for text, _ in parts])}->{wanted}"
        shape = (None, *target.row)
        tensors = [tensor for _, tensor in parts]
        share = tape.build.op("Einsum", tensors, shape, equation=equation)
        tape.give(node, position, share)


def _equation(node: NetworkNode) -> str:
    text: bytes = node.attributes["equation"]
    return text.decode(errors="replace")


def _letters(node: NetworkNode) -> tuple[list[str], str]:
    """The letters of each tensor, and of the result."""
    left, arrow, right = _equation(node).replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow or len(terms) != len(node.inputs) or len(terms) > 2:
        raise CompileError(
            f"{node.label}: needs one or two tensors and a result that is spelt out",
            (node.name,),
        )
    return terms, right
