"""Functions of one tensor, element by element, and the two softmaxes."""

import numpy as np

from starling.compiler.autodiff.tape import Tape, copy, positive_axis
from starling.compiler.ir.graph_builder import BuilderTensor
from starling.compiler.ir.network import NetworkNode


def _chain(tape: Tape, node: NetworkNode, slope: BuilderTensor) -> None:
    tape.give(node, 0, tape.build.mul(tape.cotangent(node), slope))


def _where(
    tape: Tape, kind: str, tensor: BuilderTensor, bound: BuilderTensor
) -> BuilderTensor:
    """1 where the comparison holds, else 0."""
    build = tape.build
    holds = build.op(kind, (tensor, bound), tensor.shape)
    return build.op("Cast", (holds,), tensor.shape, to=1)


def absolute(tape: Tape, node: NetworkNode) -> None:
    """|x|; the slope at 0 is taken as 0."""
    _chain(tape, node, tape.build.unary("Sign", tape.input(node, 0)))


def relu(tape: Tape, node: NetworkNode) -> None:
    """max(x, 0); the slope at 0 is taken as 0."""
    # Of the output, which is above 0 where x is: x itself need not be kept for it.
    _chain(tape, node, _where(tape, "Greater", tape.output(node), tape.build.scalar(0)))


def leaky_relu(tape: Tape, node: NetworkNode) -> None:
    """x, or alpha x below 0."""
    build, x = tape.build, tape.input(node, 0)
    alpha = node.attributes.get("alpha", 0.01)
    positive = build.op("Greater", (x, build.scalar(0.0)), x.shape)
    slope = build.op(
        "Where", (positive, build.scalar(1.0), build.scalar(alpha)), x.shape
    )
    _chain(tape, node, slope)


def elu(tape: Tape, node: NetworkNode) -> None:
    """x, or alpha (exp(x) - 1) below 0, where the slope is the output plus alpha."""
    build, y = tape.build, tape.output(node)
    alpha = node.attributes.get("alpha", 1.0)
    positive = _above_zero(tape, node, rising=alpha >= 0)
    below = build.add(y, build.scalar(alpha))
    slope = build.op("Where", (positive, build.scalar(1.0), below), y.shape)
    _chain(tape, node, slope)


def _above_zero(tape: Tape, node: NetworkNode, *, rising: bool) -> BuilderTensor:
    """Finds where x is above 0.

    A function that never falls, and is 0 at 0, is above 0 where x is: x itself need not
    be kept for it. One with a negative alpha is above 0 on both sides.
    """
    source = tape.output(node) if rising else tape.input(node, 0)
    return tape.build.op("Greater", (source, tape.build.scalar(0.0)), source.shape)


def celu_forward(tape: Tape, node: NetworkNode) -> None:
    """Written as alpha elu(x / alpha), which a negative alpha would turn round."""
    build, x = tape.build, tape.input(node, 0)
    number = node.attributes.get("alpha", 1.0)
    alpha = build.scalar(number)
    inner = build.binary("Div", x, alpha)
    if number > 0:
        tape.put(node, build.mul(build.unary("Elu", inner), alpha))
        return
    rest = build.binary("Sub", build.unary("Exp", inner), build.scalar(1.0))
    choices = (_above_zero(tape, node, rising=False), x, build.mul(rest, alpha))
    tape.put(node, build.op("Where", choices, x.shape))


def celu(tape: Tape, node: NetworkNode) -> None:
    """x, or alpha (exp(x / alpha) - 1) below 0, with the slope 1 + y / alpha."""
    build, y = tape.build, tape.output(node)
    one, alpha = build.scalar(1.0), build.scalar(node.attributes.get("alpha", 1.0))
    positive = build.op("Greater", (y, build.scalar(0.0)), y.shape)
    below = build.add(build.binary("Div", y, alpha), one)
    _chain(tape, node, build.op("Where", (positive, one, below), y.shape))


def sigmoid(tape: Tape, node: NetworkNode) -> None:
    """1 / (1 + exp(-x)): the slope is y (1 - y)."""
    build, y = tape.build, tape.output(node)
    rest = build.binary("Sub", build.scalar(1.0), y)
    _chain(tape, node, build.mul(y, rest))


def tanh(tape: Tape, node: NetworkNode) -> None:
    """The slope is 1 - y^2."""
    build, y = tape.build, tape.output(node)
    _chain(tape, node, build.binary("Sub", build.scalar(1.0), build.mul(y, y)))


def softplus(tape: Tape, node: NetworkNode) -> None:
    """log(1 + exp(x)): the slope is the sigmoid of x."""
    _chain(tape, node, tape.build.unary("Sigmoid", tape.input(node, 0)))


def softsign(tape: Tape, node: NetworkNode) -> None:
    """X / (1 + |x|): the slope is (1 - |y|)^2."""
    build, y = tape.build, tape.output(node)
    rest = build.binary("Sub", build.scalar(1.0), build.unary("Abs", y))
    _chain(tape, node, build.mul(rest, rest))


def selu(tape: Tape, node: NetworkNode) -> None:
    """Gamma x, or gamma alpha (exp(x) - 1) below 0."""
    build, y = tape.build, tape.output(node)
    gamma = node.attributes.get("gamma", 1.05070102214813232)
    alpha = node.attributes.get("alpha", 1.67326319217681884)
    positive = _above_zero(tape, node, rising=gamma > 0 and alpha >= 0)
    below = build.add(y, build.scalar(gamma * alpha))
    slope = build.op("Where", (positive, build.scalar(gamma), below), y.shape)
    _chain(tape, node, slope)


def prelu(tape: Tape, node: NetworkNode) -> None:
    """X, or a learned slope times x below 0."""
    build, x, cotangent = tape.build, tape.input(node, 0), tape.cotangent(node)
    positive = build.op("Greater", (x, build.scalar(0.0)), x.shape)
    if tape.needs(node, 0):
        choices = (positive, build.scalar(1.0), tape.input(node, 1))
        slope = build.op("Where", choices, x.shape)
        tape.give(node, 0, build.mul(cotangent, slope))
    if tape.needs(node, 1):
        # The slope's derivative is x where x is negative, and 0 elsewhere.
        below = build.binary("Min", x, build.scalar(0.0))
        tape.give_broadcast(node, 1, build.mul(cotangent, below))


def hard_sigmoid(tape: Tape, node: NetworkNode) -> None:
    """Alpha x + beta within [0, 1]; the slope on a bound is taken as 0."""
    build, y = tape.build, tape.output(node)
    alpha = build.scalar(node.attributes.get("alpha", 0.2))
    _chain(tape, node, build.mul(_inside(tape, y), alpha))


def hard_swish(tape: Tape, node: NetworkNode) -> None:
    """X h with h = x / 6 + 1/2 within [0, 1]: the slope is h + x h'."""
    build, x = tape.build, tape.input(node, 0)
    h = build.unary("HardSigmoid", x, alpha=1.0 / 6.0, beta=0.5)
    rise = build.mul(build.mul(x, build.scalar(1.0 / 6.0)), _inside(tape, h))
    _chain(tape, node, build.add(h, rise))


def _inside(tape: Tape, y: BuilderTensor) -> BuilderTensor:
    above = _where(tape, "Greater", y, tape.build.scalar(0.0))
    return tape.build.mul(above, _where(tape, "Less", y, tape.build.scalar(1.0)))


def mish_forward(tape: Tape, node: NetworkNode) -> None:
    """X tanh(softplus(x))."""
    x = tape.input(node, 0)
    tape.put(node, tape.build.mul(x, _mish_gate(tape, x)))


def mish(tape: Tape, node: NetworkNode) -> None:
    """With t = tanh(softplus(x)) the slope is t + x (1 - t^2) sigmoid(x)."""
    build, x = tape.build, tape.input(node, 0)
    gate = _mish_gate(tape, x)
    rest = build.binary("Sub", build.scalar(1.0), build.mul(gate, gate))
    rise = build.mul(build.mul(x, rest), build.unary("Sigmoid", x))
    _chain(tape, node, build.add(gate, rise))


def _mish_gate(tape: Tape, x: BuilderTensor) -> BuilderTensor:
    return tape.build.unary("Tanh", tape.build.unary("Softplus", x))


def gelu_forward(tape: Tape, node: NetworkNode) -> None:
    """X times the share of a standard normal below x, exact or by a tanh."""
    x = tape.input(node, 0)
    tape.put(node, tape.build.mul(x, _gelu_share(tape, node)[0]))


def gelu(tape: Tape, node: NetworkNode) -> None:
    """The slope is the share plus x times its own slope."""
    build, x = tape.build, tape.input(node, 0)
    share, rise = _gelu_share(tape, node)
    _chain(tape, node, build.add(share, build.mul(x, rise)))


def _gelu_share(tape: Tape, node: NetworkNode) -> tuple[BuilderTensor, BuilderTensor]:
    """The share and its slope, both of the shape of x."""
    build, x = tape.build, tape.input(node, 0)
    half, one = build.scalar(0.5), build.scalar(1.0)
    square = build.mul(x, x)
    if node.attributes.get("approximate", b"none") == b"tanh":
        root = np.sqrt(2.0 / np.pi)
        cubic = build.add(build.mul(square, build.scalar(0.044715)), one)
        inner = build.mul(build.mul(x, cubic), build.scalar(root))
        bent = build.unary("Tanh", inner)
        steep = build.add(build.mul(square, build.scalar(3 * 0.044715)), one)
        rest = build.binary("Sub", one, build.mul(bent, bent))
        rise = build.mul(build.mul(rest, steep), build.scalar(root / 2))
    else:
        bent = build.unary("Erf", build.mul(x, build.scalar(np.sqrt(0.5))))
        bell = build.unary("Exp", build.mul(square, build.scalar(-0.5)))
        rise = build.mul(bell, build.scalar(1.0 / np.sqrt(2 * np.pi)))
    return build.mul(build.add(bent, one), half), rise


def exponential(tape: Tape, node: NetworkNode) -> None:
    """exp(x)."""
    _chain(tape, node, tape.output(node))


def logarithm(tape: Tape, node: NetworkNode) -> None:
    """log(x)."""
    build = tape.build
    share = build.binary("Div", tape.cotangent(node), tape.input(node, 0))
    tape.give(node, 0, share)


def square_root(tape: Tape, node: NetworkNode) -> None:
    """sqrt(x): the slope is 1 / (2 y); at 0 it is taken as 0.

    Distances and spreads of equal values come to 0, where an infinite slope times the
    0 of what lies before would be no number.
    """
    build, y = tape.build, tape.output(node)
    share = build.binary("Div", tape.cotangent(node), build.mul(y, build.scalar(2.0)))
    blank = build.op("Equal", (y, build.scalar(0.0)), y.shape)
    safe = build.op("Where", (blank, build.scalar(0.0), share), share.shape)
    tape.give(node, 0, safe)


def negate(tape: Tape, node: NetworkNode) -> None:
    """-x."""
    tape.give(node, 0, tape.build.unary("Neg", tape.cotangent(node)))


def clip(tape: Tape, node: NetworkNode) -> None:
    """X within two optional bounds; the slope on a bound is taken as 1."""
    build, x = tape.build, tape.input(node, 0)
    bounds = tape.inputs(node)[1:]
    cotangent = tape.cotangent(node)
    within: BuilderTensor | None = None
    for bound, kind in zip(bounds, ("GreaterOrEqual", "LessOrEqual"), strict=False):
        if bound is not None:
            one = build.op(kind, (x, bound), x.shape)
            within = one if within is None else build.op("And", (within, one), x.shape)
    if within is not None:
        share = build.op("Cast", (within,), x.shape, to=1)
        cotangent = build.mul(cotangent, share)
    tape.give(node, 0, cotangent)


def softmax_forward(tape: Tape, node: NetworkNode) -> None:
    """Writes either softmax, which must not run over the batch."""
    # A softmax over the batch would make each example's row depend on all others.
    positive_axis(tape.input(node, 0), node.attributes.get("axis", -1), node)
    copy(tape, node)


def softmax(tape: Tape, node: NetworkNode) -> None:
    """Y (g - sum(g y))."""
    build, y, cotangent = tape.build, tape.output(node), tape.cotangent(node)
    axis = _cotangent_axis(tape, node)
    mean = build.reduce("ReduceSum", build.mul(cotangent, y), [axis], keep=True)
    tape.give(node, 0, build.mul(y, build.binary("Sub", cotangent, mean)))


def _cotangent_axis(tape: Tape, node: NetworkNode) -> int:
    """The axis of a softmax in its cotangent, which has one row for each example."""
    y = tape.output(node)
    axis = positive_axis(y, node.attributes.get("axis", -1), node)
    return axis if y.batched else axis + 1


def log_softmax(tape: Tape, node: NetworkNode) -> None:
    """G - exp(y) sum(g)."""
    build, y, cotangent = tape.build, tape.output(node), tape.cotangent(node)
    axis = _cotangent_axis(tape, node)
    total = build.reduce("ReduceSum", cotangent, [axis], keep=True)
    spread = build.mul(build.unary("Exp", y), total)
    tape.give(node, 0, build.binary("Sub", cotangent, spread))


def thresholded_forward(tape: Tape, node: NetworkNode) -> None:
    """ThresholdedRelu: x above alpha, else 0."""
    build, x = tape.build, tape.input(node, 0)
    above = build.op("Greater", (x, _threshold(tape, node)), x.shape)
    tape.put(node, build.op("Where", (above, x, build.scalar(0.0)), x.shape))


def thresholded(tape: Tape, node: NetworkNode) -> None:
    """The slope is 1 above alpha, else 0."""
    x = tape.input(node, 0)
    _chain(tape, node, _where(tape, "Greater", x, _threshold(tape, node)))


def _threshold(tape: Tape, node: NetworkNode) -> BuilderTensor:
    return tape.build.scalar(node.attributes.get("alpha", 1.0))


def shrink_forward(tape: Tape, node: NetworkNode) -> None:
    """X moved by `bias` towards 0 beyond `lambd` on either side, 0 between."""
    build, x = tape.build, tape.input(node, 0)
    bias = build.scalar(node.attributes.get("bias", 0.0))
    above, below = _beyond(tape, node)
    lower = build.mul(build.add(x, bias), below)
    tape.put(node, build.add(build.mul(build.binary("Sub", x, bias), above), lower))


def shrink(tape: Tape, node: NetworkNode) -> None:
    """The slope is 1 beyond `lambd` on either side, 0 between."""
    _chain(tape, node, tape.build.add(*_beyond(tape, node)))


def _beyond(tape: Tape, node: NetworkNode) -> tuple[BuilderTensor, BuilderTensor]:
    x, bound = tape.input(node, 0), float(node.attributes.get("lambd", 0.5))
    above = _where(tape, "Greater", x, tape.build.scalar(bound))
    below = _where(tape, "Less", x, tape.build.scalar(-bound))
    if bound < 0:
        # Between the two both hold, and ONNX asks first whether x is below.
        rest = tape.build.binary("Sub", tape.build.scalar(1.0), below)
        above = tape.build.mul(above, rest)
    return above, below


def swish_forward(tape: Tape, node: NetworkNode) -> None:
    """X sigmoid(alpha x)."""
    x = tape.input(node, 0)
    tape.put(node, tape.build.mul(x, _swish_gate(tape, node)[0]))


def swish(tape: Tape, node: NetworkNode) -> None:
    """With s = sigmoid(alpha x) the slope is s + alpha x s (1 - s)."""
    build, x = tape.build, tape.input(node, 0)
    gate, alpha = _swish_gate(tape, node)
    rest = build.binary("Sub", build.scalar(1.0), gate)
    rise = build.mul(build.mul(x, alpha), build.mul(gate, rest))
    _chain(tape, node, build.add(gate, rise))


def _swish_gate(tape: Tape, node: NetworkNode) -> tuple[BuilderTensor, BuilderTensor]:
    build = tape.build
    alpha = build.scalar(node.attributes.get("alpha", 1.0))
    return build.unary("Sigmoid", build.mul(tape.input(node, 0), alpha)), alpha
