"""Functions of one tensor, element by element, and the two softmaxes."""

from compiler.builder import Tensor
from compiler.network import Node
from compiler.tape import Tape, copy, positive_axis


def _chain(tape: Tape, node: Node, slope: Tensor) -> None:
    tape.give(node, 0, tape.build.mul(tape.cotangent(node), slope))


def _where(tape: Tape, kind: str, tensor: Tensor, bound: Tensor) -> Tensor:
    """1 where the comparison holds, else 0."""
    build = tape.build
    holds = build.op(kind, (tensor, bound), tensor.shape)
    return build.op("Cast", (holds,), tensor.shape, to=1)


def absolute(tape: Tape, node: Node) -> None:
    """|x|; the slope at 0 is taken as 0."""
    _chain(tape, node, tape.build.unary("Sign", tape.input(node, 0)))


def relu(tape: Tape, node: Node) -> None:
    """max(x, 0); the slope at 0 is taken as 0."""
    _chain(tape, node, _where(tape, "Greater", tape.output(node), tape.build.scalar(0)))


def leaky_relu(tape: Tape, node: Node) -> None:
    """x, or alpha x below 0."""
    build, x = tape.build, tape.input(node, 0)
    alpha = node.attributes.get("alpha", 0.01)
    positive = build.op("Greater", (x, build.scalar(0.0)), x.shape)
    slope = build.op(
        "Where", (positive, build.scalar(1.0), build.scalar(alpha)), x.shape
    )
    _chain(tape, node, slope)


def elu(tape: Tape, node: Node) -> None:
    """x, or alpha (exp(x) - 1) below 0, where the slope is the output plus alpha."""
    build, y = tape.build, tape.output(node)
    alpha = build.scalar(node.attributes.get("alpha", 1.0))
    positive = build.op("Greater", (y, build.scalar(0.0)), y.shape)
    below = build.add(y, alpha)
    slope = build.op("Where", (positive, build.scalar(1.0), below), y.shape)
    _chain(tape, node, slope)


def sigmoid(tape: Tape, node: Node) -> None:
    """1 / (1 + exp(-x)): the slope is y (1 - y)."""
    build, y = tape.build, tape.output(node)
    rest = build.binary("Sub", build.scalar(1.0), y)
    _chain(tape, node, build.mul(y, rest))


def tanh(tape: Tape, node: Node) -> None:
    """The slope is 1 - y^2."""
    build, y = tape.build, tape.output(node)
    _chain(tape, node, build.binary("Sub", build.scalar(1.0), build.mul(y, y)))


def softplus(tape: Tape, node: Node) -> None:
    """log(1 + exp(x)): the slope is the sigmoid of x."""
    _chain(tape, node, tape.build.unary("Sigmoid", tape.input(node, 0)))


def exponential(tape: Tape, node: Node) -> None:
    """exp(x)."""
    _chain(tape, node, tape.output(node))


def logarithm(tape: Tape, node: Node) -> None:
    """log(x)."""
    build = tape.build
    share = build.binary("Div", tape.cotangent(node), tape.input(node, 0))
    tape.give(node, 0, share)


def square_root(tape: Tape, node: Node) -> None:
    """sqrt(x): the slope is 1 / (2 y)."""
    build = tape.build
    twice = build.mul(tape.output(node), build.scalar(2.0))
    tape.give(node, 0, build.binary("Div", tape.cotangent(node), twice))


def negate(tape: Tape, node: Node) -> None:
    """-x."""
    tape.give(node, 0, tape.build.unary("Neg", tape.cotangent(node)))


def clip(tape: Tape, node: Node) -> None:
    """X within two optional bounds; the slope on a bound is taken as 1."""
    build, x = tape.build, tape.input(node, 0)
    bounds = tape.inputs(node)[1:]
    cotangent = tape.cotangent(node)
    for bound, kind in zip(bounds, ("GreaterOrEqual", "LessOrEqual"), strict=False):
        if bound is not None:
            cotangent = build.mul(cotangent, _where(tape, kind, x, bound))
    tape.give(node, 0, cotangent)


def softmax_forward(tape: Tape, node: Node) -> None:
    """Writes either softmax, which must not run over the batch."""
    positive_axis(tape.input(node, 0), node.attributes.get("axis", -1), node)
    copy(tape, node)


def softmax(tape: Tape, node: Node) -> None:
    """Y (g - sum(g y))."""
    build, y, cotangent = tape.build, tape.output(node), tape.cotangent(node)
    axis = positive_axis(y, node.attributes.get("axis", -1), node)
    mean = build.reduce("ReduceSum", build.mul(cotangent, y), [axis], keep=True)
    tape.give(node, 0, build.mul(y, build.binary("Sub", cotangent, mean)))


def log_softmax(tape: Tape, node: Node) -> None:
    """G - exp(y) sum(g)."""
    build, y, cotangent = tape.build, tape.output(node), tape.cotangent(node)
    axis = positive_axis(y, node.attributes.get("axis", -1), node)
    total = build.reduce("ReduceSum", cotangent, [axis], keep=True)
    spread = build.mul(build.unary("Exp", y), total)
    tape.give(node, 0, build.binary("Sub", cotangent, spread))
