"""Random examples for a bundle that is tried out or checked."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from starling.protocol.model.training_bundle import BundleManifest, TensorSpec

Batch = Mapping[str, NDArray[np.generic]]


def draw(
    theta: NDArray[np.float32],
    manifest: BundleManifest,
    examples: int,
    rng: np.random.Generator,
) -> Batch:
    """Inputs of a graph: standard normal values, or rows of tables where some are.

    Args:
      theta: (d,): the parameters.
      manifest: Of the bundle.
      examples: How many, at least 1.
      rng: Draws inputs and targets.

    Returns:
      `theta`, `x` and `y`.
    """
    x = rng.standard_normal((examples, *manifest.input.shape)).astype(np.float32)
    flat = x.reshape(examples, -1)
    for table in manifest.tables:
        tokens = rng.integers(0, table.rows, (examples, table.size))
        # A standard normal number is no row of a table, and would stop the run.
        flat[:, table.start : table.start + table.size] = tokens
    y = _targets(manifest.target, manifest.output, examples, rng)
    return {"theta": theta, "x": x, "y": y}


def one(batch: Batch, index: int) -> Batch:
    """The same inputs for one of the examples."""
    return {
        name: array if name == "theta" else array[index : index + 1]
        for name, array in batch.items()
    }


def _targets(
    port: TensorSpec, output: TensorSpec, examples: int, rng: np.random.Generator
) -> NDArray[np.generic]:
    if port.dtype == "int64":
        return rng.integers(0, output.shape[-1], examples, dtype=np.int64)
    return rng.random((examples, *port.shape)).astype(np.float32)
