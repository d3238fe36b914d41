"""Operators that move values and change none; static inputs are weights."""

from compiler.errors import CompileError
from compiler.network import Node
from compiler.tape import Tape, batched_output, copy


def identity(tape: Tape, node: Node) -> None:
    """The same tensor."""
    tape.give(node, 0, tape.cotangent(node))


def reshape_forward(tape: Tape, node: Node) -> None:
    """Reshape, Flatten, Squeeze and Unsqueeze of each example by itself.

    Raises:
      CompileError: If examples would be joined or torn.
    """
    batched_output(tape, node)
    tensor, shape = tape.input(node, 0), tape.shape(node)
    if not tensor.batched:
        copy(tape, node)
        return
    if _size(shape) != tensor.row_size:
        raise CompileError(
            f"{node.label}: changes the size of the batch; export the model with a "
            "dynamic batch axis",
            (node.name,),
        )
    tape.put(node, tape.build.reshape(tensor, shape))


def reshape(tape: Tape, node: Node) -> None:
    """Back to the shape before."""
    row = tape.input(node, 0).row
    tape.give(node, 0, tape.build.reshape(tape.cotangent(node), (None, *row)))


def transpose_forward(tape: Tape, node: Node) -> None:
    """Permutes axes; the batch axis must stay first.

    Raises:
      CompileError: If it does not.
    """
    if tape.input(node, 0).batched and _order(tape, node)[0] != 0:
        raise CompileError(f"{node.label}: moves the batch axis", (node.name,))
    copy(tape, node)


def transpose(tape: Tape, node: Node) -> None:
    """The inverse permutation."""
    order = _order(tape, node)
    if not tape.input(node, 0).batched:
        order = [0, *[axis + 1 for axis in order]]
    inverse = sorted(range(len(order)), key=order.__getitem__)
    tape.give(node, 0, tape.build.transpose(tape.cotangent(node), inverse))


def _order(tape: Tape, node: Node) -> list[int]:
    rank = len(tape.input(node, 0).shape)
    return list(node.attributes.get("perm", range(rank - 1, -1, -1)))


def _size(shape: tuple[int | None, ...]) -> int:
    size = 1
    for entry in shape:
        size *= 1 if entry is None else entry
    return size
