"""Runs a bundle once on two examples, so that what cannot run never leaves.

How much memory that takes is known before: a model of a few nodes may ask for more
than any machine has.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from starling.compiler.bundle.random_examples import draw
from starling.compiler.errors import CompileError
from starling.engine.onnx_graph import Graph
from starling.engine.runtime.onnxruntime_session import GraphSession, open_session  # noqa: TID251 - this trial runs graphs
from starling.protocol.errors import EngineError
from starling.protocol.model.training_bundle import PRIVATE_GRADIENT, BundleManifest

EXAMPLE_BYTES_MAX = 4 << 30
"""Of a process that trains on one example: what the larger boards have."""
EXAMPLES = 2
"""In the trial: what holds on to a batch of one fails with more."""
_FILLINGS = (0.0, 1.0)
"""Taken for x where a model looks places up that random numbers are not."""


def check_memory(size: int) -> None:
    """Refuses a model that no board has the memory for.

    Args:
      size: Predicted bytes of a process that trains on one example.

    Raises:
      CompileError: If that is more than `EXAMPLE_BYTES_MAX`.
    """
    if size > EXAMPLE_BYTES_MAX:
        raise CompileError(
            f"one example needs {size >> 20:,} MiB of memory, "
            f"{EXAMPLE_BYTES_MAX >> 20:,} allowed; feed smaller examples, or "
            "shrink them (pooling, strides) before the widest layers"
        )


def tried(
    graphs: Mapping[str, Graph],
    theta: NDArray[np.float32],
    manifest: BundleManifest,
    rng: np.random.Generator,
) -> None:
    """Runs the largest graph of a bundle, which holds the others, on two examples.

    Args:
      graphs: Name to graph, checked.
      theta: (d,): the parameters.
      manifest: Of the bundle.
      rng: Draws the examples.

    Raises:
      CompileError: If it does not run.
    """
    batch = draw(theta, manifest, EXAMPLES, rng)
    feeds = {**batch, "clip": np.array(1, np.float32)}
    fillings = [np.full_like(batch["x"], value) for value in _FILLINGS]
    try:
        # For one run the runtime's rewriting takes longer than it saves.
        session = open_session(graphs[PRIVATE_GRADIENT], optimised=False)
        if not any(_runs(session, {**feeds, "x": x}) for x in (feeds["x"], *fillings)):
            session.run(feeds)
    except EngineError as error:
        line = " ".join(str(error).split())[:300]
        raise CompileError(f"the model cannot run: {line}") from error


def _runs(session: GraphSession, feeds: Mapping[str, NDArray[np.generic]]) -> bool:
    try:
        session.run(feeds)
    except EngineError:
        return False
    return True
