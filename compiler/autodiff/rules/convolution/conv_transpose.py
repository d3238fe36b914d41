"""Transposed convolution.

It is the way back of a convolution: what it spreads over a window of its output is what
a convolution would gather there. So the cotangent of its input is a convolution of the
output's cotangent, and that of its weight takes the patches of the output's cotangent.

Letters: C input and M output channels, g groups.
"""

from starling.compiler.autodiff.gradient_factors import Correlation
from starling.compiler.autodiff.rules.convolution.im2col import patches
from starling.compiler.autodiff.rules.convolution.sliding_window import SlidingWindow
from starling.compiler.autodiff.tape import Tape
from starling.compiler.errors import CompileError
from starling.compiler.ir.graph_writer import Attribute
from starling.compiler.ir.network import NetworkNode


def forward(tape: Tape, node: NetworkNode) -> None:
    """Writes the operator with its padding made explicit.

    Raises:
      CompileError: If its sizes are left to the runtime, or the weight is batched.
    """
    if not tape.input(node, 0).batched or tape.input(node, 1).batched:
        raise CompileError(
            f"{node.label}: expected one image for each example and fixed weights; "
            "where kernels are computed from the input, write the layer as patches "
            "(unfold) and a product",
            (node.name,),
        )
    shape = _window(tape, node)
    attributes = {**_attributes(node, shape), "output_padding": shape.surplus}
    inputs = tape.inputs(node)
    tape.put(
        node, tape.build.op("ConvTranspose", inputs, tape.shape(node), **attributes)
    )


def backward(tape: Tape, node: NetworkNode) -> None:
    """Convolution for the image, patches of the cotangent for the weight."""
    build, cotangent, shape = tape.build, tape.cotangent(node), _window(tape, node)
    x, groups = tape.input(node, 0), int(node.attributes.get("group", 1))
    if tape.needs(node, 0):
        image = build.op(
            "Conv",
            (cotangent, tape.input(node, 1)),
            x.shape,
            **_attributes(node, shape),
        )
        tape.give(node, 0, image)
    if tape.needs(node, 1):
        # Input and output have changed places: the windows lie on the cotangent.
        seen = patches(build, cotangent, shape, (1,) * len(shape.size), groups)
        sides = (groups, x.row[0] // groups) if groups > 1 else x.row[:1]
        left = build.reshape(x, (None, *sides, seen.row[-1]))
        tape.credit(node, 1, Correlation(left, seen))
    if tape.needs(node, 2):
        axes = list(range(2, len(cotangent.shape)))
        tape.give(node, 2, build.reduce("ReduceSum", cotangent, axes))


def _window(tape: Tape, node: NetworkNode) -> SlidingWindow:
    """The window of the convolution that this is the way back of."""
    size = tuple([entry or 0 for entry in tape.shape(node)[2:]])
    output, kernel = tape.input(node, 0).row[1:], tape.input(node, 1).row[2:]
    rank = len(size)
    stride = tuple(node.attributes.get("strides", [1] * rank))
    dilation = tuple(node.attributes.get("dilations", [1] * rank))
    automatic = node.attributes.get("auto_pad", b"NOTSET")
    fixed = "output_shape" not in node.attributes
    if not fixed or automatic not in (b"NOTSET", b"VALID"):
        raise CompileError(
            f"{node.label}: needs explicit padding; export it with pads in place of "
            "auto_pad",
            (node.name,),
        )
    # What is padded behind follows from the sizes, with `output_padding` in it.
    before = tuple(node.attributes.get("pads", [0] * 2 * rank)[:rank])
    spans = [
        (count - 1) * step + (width - 1) * gap + 1
        for count, step, width, gap in zip(
            output, stride, kernel, dilation, strict=True
        )
    ]
    after = tuple(
        [
            span - entry - pad
            for span, entry, pad in zip(spans, size, before, strict=True)
        ]
    )
    return SlidingWindow(size, kernel, stride, dilation, before, after, output)


def _attributes(node: NetworkNode, shape: SlidingWindow) -> dict[str, Attribute]:
    return {
        "kernel_shape": list(shape.kernel),
        "strides": list(shape.stride),
        "dilations": list(shape.dilation),
        "pads": shape.pads,
        "group": int(node.attributes.get("group", 1)),
    }
