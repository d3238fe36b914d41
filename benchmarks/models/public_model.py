"""What the scoreboard of public models knows of each of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

PYTORCH, KERAS, SKLEARN = "PyTorch", "Keras", "scikit-learn"
SCRIPT, EXPORT = "TorchScript", "torch.export"
TF2ONNX, SKL2ONNX = "tf2onnx", "skl2onnx"
LITE, LITE_INT8, QDQ = "TFLite", "TFLite int8", "int8 QDQ"
IDIOMS = "idioms"
"""The family of small layers, of which the table has counts alone."""
FORMS = {PYTORCH: (SCRIPT, EXPORT), KERAS: (TF2ONNX,), SKLEARN: (SKL2ONNX,)}
"""Ways into an ONNX file, for each toolkit, unless a model names its own."""


@dataclass(frozen=True)
class PublicModel:
    """An architecture that others can look up.

    Attributes:
      name: In the table.
      family: What it is for; a section of the table.
      source: The paper, package or repository that defines it. "own code" where the
        code here was written after it.
      make: Builds it; a PyTorch module, a Keras model, or a fitted scikit-learn one.
      row: Shape of one example.
      loss: Of `starling compile`.
      tokens: Inputs are whole numbers below this; 0 if they are real.
      toolkit: `PYTORCH`, `KERAS` or `SKLEARN`.
      forms: Ways into an ONNX file; empty means those of its toolkit.
    """

    name: str
    family: str
    source: str
    make: Callable[[], Any]
    row: tuple[int, ...]
    loss: str = "cross-entropy"
    tokens: int = 0
    toolkit: str = PYTORCH
    forms: tuple[str, ...] = ()

    @property
    def ways(self) -> tuple[str, ...]:
        """Forms in which it is tried."""
        return self.forms or FORMS[self.toolkit]
