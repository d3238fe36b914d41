"""Type of a gradient rule."""

from collections.abc import Callable
from dataclasses import dataclass

from starling.compiler.autodiff.tape import Tape, copy
from starling.compiler.ir.network import NetworkNode

Step = Callable[[Tape, NetworkNode], None]


@dataclass(frozen=True)
class GradientRule:
    """Gradient rule of one operator.

    Attributes:
      backward: Reads `tape.cotangent(node)` and gives to each input that needs it.
      forward: Writes the node; by default as it stands in the model.
      trainable: Positions of inputs that hold weights, if they are constants.
    """

    backward: Step
    forward: Step = copy
    trainable: tuple[int, ...] = ()
