"""The geometry that convolutions and poolings share.

Letters: L windows.
"""

import math
from dataclasses import dataclass

from starling.compiler.autodiff.tape import Tape
from starling.compiler.errors import CompileError
from starling.compiler.ir.network import NetworkNode


@dataclass(frozen=True)
class SlidingWindow:
    """A window that slides over an image; one entry per spatial axis.

    Attributes:
      size: Of the image.
      kernel: Values under the window.
      stride: Steps between windows.
      dilation: Steps between values of a window.
      before: Padding in front.
      after: Padding behind; negative where the last windows do not reach the end.
      output: Number of windows.
    """

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    output: tuple[int, ...]

    @property
    def count(self) -> int:
        """L."""
        return math.prod(self.output)

    @property
    def pads(self) -> list[int]:
        """As the attribute `pads` of an operator."""
        return [*self.before, *[max(pad, 0) for pad in self.after]]

    @property
    def surplus(self) -> list[int]:
        """Length of each axis's end that no window reaches."""
        return [max(-pad, 0) for pad in self.after]


def window(
    tape: Tape,
    node: NetworkNode,
    kernel: tuple[int, ...],
    output: tuple[int, ...] | None = None,
) -> SlidingWindow:
    """The window of a Conv or pooling node, from its attributes and shapes.

    The padding behind follows from the number of windows, so that rounding up and
    automatic padding need no case of their own.

    Args:
      tape: Holds the image.
      node: Whose window it is.
      kernel: Values under the window, along each axis.
      output: Number of windows along each axis; that of the node's output by default.

    Raises:
      CompileError: If attributes and image have different numbers of axes.
    """
    size = tape.input(node, 0).row[1:]
    rank = len(size)
    if output is None:
        output = tuple([entry for entry in tape.shape(node)[2:] if entry is not None])
    stride = tuple(node.attributes.get("strides", [1] * rank))
    dilation = tuple(node.attributes.get("dilations", [1] * rank))
    if {len(output), len(stride), len(dilation), len(kernel)} != {rank}:
        raise CompileError(
            f"{node.label}: kernel, strides or dilations do not fit an image of "
            f"{rank} axes; a window has to fit into its padded image",
            (node.name,),
        )
    spans = [
        (count - 1) * step + (width - 1) * gap + 1
        for count, step, width, gap in zip(
            output, stride, kernel, dilation, strict=True
        )
    ]
    # Padding in all, before and behind; negative where a rest is not reached.
    missing = [span - entry for span, entry in zip(spans, size, strict=True)]
    automatic = node.attributes.get("auto_pad", b"NOTSET")
    if automatic in (b"SAME_UPPER", b"SAME_LOWER"):
        # Of an odd number SAME_LOWER puts the larger half in front.
        extra = int(automatic == b"SAME_LOWER")
        before = tuple([(max(pad, 0) + extra) // 2 for pad in missing])
    elif automatic == b"VALID":
        before = (0,) * rank
    else:
        before = tuple(node.attributes.get("pads", [0] * 2 * rank)[:rank])
    after = tuple([pad - b for pad, b in zip(missing, before, strict=True)])
    return SlidingWindow(size, kernel, stride, dilation, before, after, output)
