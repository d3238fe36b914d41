"""Einsum: the way back to each tensor is an Einsum of the cotangent and the others.

A letter that stands twice in a tensor (a diagonal) becomes two letters and an identity
matrix between them. A letter that is summed in one tensor alone is spread by ones on
the way back.

Source: the operator Einsum of ONNX; letters stand for axes, as in NumPy.
"""

from dataclasses import dataclass
from string import ascii_letters

import numpy as np

from starling.compiler.autodiff.tape import Tape
from starling.compiler.errors import CompileError
from starling.compiler.ir.einsum_equation import spelt
from starling.compiler.ir.graph_builder import BuilderTensor
from starling.compiler.ir.network import NetworkNode


@dataclass(frozen=True)
class _Product:
    """An equation in which no letter stands twice in a tensor.

    Attributes:
      terms: Letters of each tensor, the model's first.
      tensors: Those of the model, then identity matrices.
      result: Letters of the result.
    """

    terms: tuple[str, ...]
    tensors: tuple[BuilderTensor, ...]
    result: str


def forward(tape: Tape, node: NetworkNode) -> None:
    """Writes the operator.

    Raises:
      CompileError: If it would mix examples, or does not fit its tensors.
    """
    product = _product(tape, node)
    batched = any(tensor.batched for tensor in product.tensors)
    for term, tensor in zip(product.terms, product.tensors, strict=True):
        letter = product.result[:1]
        if not batched:
            break
        # The batch has the first letter of the result, and stands first in every
        # batched tensor.
        if not letter or (tensor.batched and term[:1] != letter):
            raise _mixes(node)
        if letter in (term[1:] if tensor.batched else term):
            raise _mixes(node)
    equation = f"{','.join(product.terms)}->{product.result}"
    shape = tape.shape(node)
    tape.put(node, tape.build.op("Einsum", product.tensors, shape, equation=equation))


def backward(tape: Tape, node: NetworkNode) -> None:
    """For each tensor the Einsum of the cotangent and the other ones."""
    product, cotangent = _product(tape, node), tape.cotangent(node)
    for position, term in enumerate(product.terms[: len(node.inputs)]):
        if tape.needs(node, position):
            share = _share(tape, product, position, term, cotangent)
            tape.give(node, position, share)


def _share(
    tape: Tape, product: _Product, position: int, term: str, cotangent: BuilderTensor
) -> BuilderTensor:
    build, target = tape.build, product.tensors[position]
    batched = any(tensor.batched for tensor in product.tensors)
    # A product of weights alone has a cotangent for each example all the same.
    used = {*"".join(product.terms)}
    lead = "" if batched else next(c for c in ascii_letters if c not in used)
    parts = [(lead + product.result, cotangent)]
    for index, pair in enumerate(zip(product.terms, product.tensors, strict=True)):
        if index != position:
            parts.append(pair)
    reached = {letter for text, _ in parts for letter in text}
    for letter, size in zip(term, target.shape, strict=True):
        # A letter that only this tensor has was summed over: its cotangent is the same
        # all along.
        if letter not in reached and size is not None:
            parts.append((letter, build.constant(np.ones(size, np.float32))))
    example = lead or product.result[0]
    wanted = term if target.batched else f"{example}{term}"
    equation = f"{','.join([text for text, _ in parts])}->{wanted}"
    tensors = [tensor for _, tensor in parts]
    return build.op("Einsum", tensors, (None, *target.row), equation=equation)


def _product(tape: Tape, node: NetworkNode) -> _Product:
    tensors = [tape.input(node, position) for position in range(len(node.inputs))]
    equation = node.attributes["equation"].decode(errors="replace")
    found = spelt(equation, [len(tensor.shape) for tensor in tensors])
    if found is None:
        raise CompileError(
            f"{node.label}: {equation[:80]!r} does not fit its tensors; "
            "write it with matmul",
            (node.name,),
        )
    terms, result = found
    # The way back would have to sum a stretched axis, which an Einsum cannot say.
    _check_sizes(node, terms, tensors)
    fresh = [c for c in ascii_letters if c not in "".join(terms)]
    for position, term in enumerate(terms):
        for place, letter in enumerate(term):
            if letter in term[:place] and fresh:
                other = fresh.pop(0)
                terms[position] = _renamed(terms[position], place, other)
                size = tensors[position].shape[place]
                if size is None:
                    raise _mixes(node)
                tensors.append(tape.build.constant(np.eye(size, dtype=np.float32)))
                terms.append(letter + other)
    return _Product(tuple(terms), tuple(tensors), result)


def _check_sizes(
    node: NetworkNode, terms: list[str], tensors: list[BuilderTensor]
) -> None:
    """Refuses axes of size 1 that are stretched, which "..." allows."""
    sizes: dict[str, set[int | None]] = {}
    for term, tensor in zip(terms, tensors, strict=True):
        for letter, size in zip(term, tensor.shape, strict=True):
            sizes.setdefault(letter, set()).add(size)
    if any(len(found) > 1 for found in sizes.values()):
        raise CompileError(
            f"{node.label}: stretches an axis; write it with matmul", (node.name,)
        )


def _renamed(term: str, place: int, letter: str) -> str:
    return term[:place] + letter + term[place + 1 :]


def _mixes(node: NetworkNode) -> CompileError:
    return CompileError(f"{node.label}: mixes the examples of a batch", (node.name,))
