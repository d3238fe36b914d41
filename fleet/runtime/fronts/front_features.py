"""Features that a front makes of pictures."""

import numpy as np
import onnx
from numpy.typing import NDArray

from starling.agent.trainer.engines.engine_registry import open_trainer
from starling.compiler import compile_model
from starling.fleet.fronts.head_model import with_identity_head

_BATCH = 500


def features_of(front: onnx.ModelProto, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Runs a front by the engine of a board.

    Args:
      front: Of `fleet.fronts.head_model`'s form.
      x: (n, ...) what it takes.

    Returns:
      (n, d) float32.
    """
    bundle = compile_model(with_identity_head(front), loss="cross-entropy")
    trainer = open_trainer(bundle.packed)
    parts = [
        trainer.infer(trainer.theta, x[start : start + _BATCH])
        for start in range(0, len(x), _BATCH)
    ]
    return np.concatenate(parts)
