"""Checks a compiled bundle by running it: `starling compile --check`.

Three claims are tested on random examples. The gradient agrees with central differences
of the loss, taken in float64 by ONNX's reference evaluator so that steps can be small
enough not to cross the kinks of a ReLU or a maximum. The norms of the private graph are
those of the gradients of single examples. Its sum is the sum of these, each clipped.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from starling.compiler.bundle.compile_pipeline import Bundle
from starling.engine.opened_bundle import open_files
from starling.engine.runtime.onnxruntime_session import open_session  # noqa: TID251 - this check runs graphs
from starling.protocol.errors import OperationError
from starling.protocol.model.training_bundle import (
    EVALUATE,
    GRADIENT,
    PRIVATE_GRADIENT,
    TensorSpec,
)
from starling.protocol.privacy.clipping_functions import clip_scale

Run = Mapping[str, NDArray[np.generic]]

EXAMPLES = 4
DIRECTIONS = 4
STEP = 1e-6
TOLERANCE = 1e-4


@dataclass(frozen=True)
class GradientErrors:
    """Relative errors; each is at most `TOLERANCE` for a sound bundle.

    Attributes:
      gradient: Of directional derivatives against central differences.
      norm: Of per-example norms against gradients of single examples.
      clipped: Of the private sum against the sum of clipped single gradients.
    """

    gradient: float
    norm: float
    clipped: float

    @property
    def worst(self) -> float:
        """The largest of them; not a number if one is."""
        return float(np.max([self.gradient, self.norm, self.clipped]))


def check_bundle(bundle: Bundle, rng: np.random.Generator) -> GradientErrors:
    """Runs a bundle on random examples and compares it with slower ways.

    Args:
      bundle: To check.
      rng: Draws inputs (standard normal, or rows of tables), targets and directions.

    Raises:
      OperationError: If an error exceeds `TOLERANCE`, or a result is not finite.
    """
    batch = _batch(bundle, rng)
    graphs = open_files(bundle.files).graphs
    gradient_graph = open_session(graphs[GRADIENT])
    gradient = gradient_graph.run(batch)[0]
    singles = np.stack(
        [gradient_graph.run(_one(batch, index))[0] for index in range(EXAMPLES)]
    ).astype(np.float64)
    norms = np.linalg.norm(singles, axis=1)
    clip = np.array(np.median(norms), np.float32)
    private_graph = open_session(graphs[PRIVATE_GRADIENT])
    clipped, _, measured = private_graph.run({**batch, "clip": clip})
    manifest = bundle.manifest
    factors = [
        clip_scale(norm, float(clip), manifest.dimension, manifest.clipping)
        for norm in norms.tolist()
    ]
    expected = np.array(factors) @ singles
    errors = GradientErrors(
        gradient=_directional(bundle, batch, gradient, rng),
        norm=float(np.max(np.abs(measured - norms)) / max(norms.max(), 1e-30)),
        clipped=_relative(clipped, expected),
    )
    if not errors.worst <= TOLERANCE:
        raise OperationError(f"the gradients are wrong: {errors}")
    return errors


class Erf(OpRun):
    """The error function in its input's precision; ONNX's own rounds to float32."""

    op_domain = ""

    def _run(self, x: NDArray[np.float64]) -> tuple[NDArray[np.float64]]:
        values = [math.erf(value) for value in x.reshape(-1).tolist()]
        return (np.array(values, x.dtype).reshape(x.shape),)


class GlobalMaxPool(OpRun):
    """The largest value of each image; ONNX's own loses an axis of sequences."""

    op_domain = ""

    def _run(self, x: NDArray[np.float64]) -> tuple[NDArray[np.float64]]:
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


def _directional(
    bundle: Bundle, batch: Run, gradient: NDArray[np.generic], rng: np.random.Generator
) -> float:
    evaluate = _doubled(bundle.files[EVALUATE])
    reference = ReferenceEvaluator(evaluate, new_ops=[Erf, GlobalMaxPool])
    doubles = {
        name: array.astype(np.float64) if array.dtype == np.float32 else array
        for name, array in batch.items()
    }
    start = bundle.theta.astype(np.float64)
    worst = 0.0
    for _ in range(DIRECTIONS):
        direction = rng.standard_normal(bundle.manifest.dimension)
        direction /= np.linalg.norm(direction)
        sides = []
        for sign in (1.0, -1.0):
            theta = start + sign * STEP * direction
            results = reference.run(["loss"], {**doubles, "theta": theta})
            assert isinstance(results, list)
            sides.append(float(np.sum(results[0])))
        slope = (sides[0] - sides[1]) / (2 * STEP)
        scale = float(np.linalg.norm(gradient)) / np.sqrt(len(direction))
        difference = abs(slope - float(gradient.astype(np.float64) @ direction))
        # Unlike max(), this keeps what is no number.
        worst = float(np.maximum(worst, difference / max(scale, 1e-6)))
    return worst


def _batch(bundle: Bundle, rng: np.random.Generator) -> Run:
    manifest = bundle.manifest
    x = rng.standard_normal((EXAMPLES, *manifest.input.shape)).astype(np.float32)
    flat = x.reshape(EXAMPLES, -1)
    for table in manifest.tables:
        tokens = rng.integers(0, table.rows, (EXAMPLES, table.size))
        flat[:, table.start : table.start + table.size] = tokens
    return {
        "theta": bundle.theta,
        "x": x,
        "y": _targets(manifest.target, manifest.output, rng),
    }


def _targets(
    port: TensorSpec, output: TensorSpec, rng: np.random.Generator
) -> NDArray[np.generic]:
    if port.dtype == "int64":
        return rng.integers(0, output.shape[-1], EXAMPLES, dtype=np.int64)
    return rng.random((EXAMPLES, *port.shape)).astype(np.float32)


def _one(batch: Run, index: int) -> Run:
    return {
        name: array if name == "theta" else array[index : index + 1]
        for name, array in batch.items()
    }


def _relative(found: NDArray[np.generic], expected: NDArray[np.float64]) -> float:
    difference = float(np.linalg.norm(found.astype(np.float64) - expected))
    return difference / max(float(np.linalg.norm(expected)), 1e-30)


def _doubled(graph: bytes) -> onnx.ModelProto:
    """The same graph with float64 constants and casts."""
    model = onnx.ModelProto()
    model.ParseFromString(graph)
    double = onnx.TensorProto.DOUBLE
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            array = numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == onnx.TensorProto.FLOAT:
                attribute.i = double
    for info in (*model.graph.input, *model.graph.output):
        if info.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            info.type.tensor_type.elem_type = double
    return model
