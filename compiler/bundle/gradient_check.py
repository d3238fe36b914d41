"""Checks a compiled bundle by running it: `starling compile --check`.

Three claims are tested on random examples. The gradient agrees with differences of the
loss in float64. The norms of the private graph are those of the gradients of single
examples. Its sum is the sum of these, each clipped.

A derivative at a kink (of a ReLU, a maximum) has two sides, and a rule may give any
value between them; so it has to lie between the differences on both sides. Where it
does not, the gradient is taken in float64, too, and the steps get smaller: what agrees
then was a kink within the step, or rounding at one. Norms and the clipped sum are taken
in float64, too, where they disagree: hundreds of layers may make much of how a product
of one row is rounded. Only what disagrees for most of several draws, of examples and of
parameters close by, is called wrong.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starling.compiler.autodiff.straight_through import unheld
from starling.compiler.bundle.compile_pipeline import Bundle
from starling.compiler.bundle.float64_reference import Reference
from starling.compiler.bundle.random_examples import draw, one
from starling.engine.graph_check import checked_graph
from starling.engine.onnx_graph import Graph
from starling.engine.runtime.onnxruntime_session import GraphSession, open_session  # noqa: TID251 - this check runs graphs
from starling.protocol.errors import EngineError, OperationError
from starling.protocol.model.training_bundle import EVALUATE, GRADIENT, PRIVATE_GRADIENT
from starling.protocol.privacy.clipping_functions import clip_scale

Batch = Mapping[str, NDArray[np.generic]]
_Run = Callable[[str, Batch, Sequence[str]], list[NDArray[Any]]]
"""Name of a graph, its inputs and the names of the outputs wanted."""

EXAMPLES = 4
DIRECTIONS = 2
STEPS = (1e-6, 1e-7, 1e-8)
"""Of differences; the smaller ones only where the first disagrees."""
TOLERANCE = 1e-4
ROUNDING = 1e-2
"""How far float32 may be from float64 where a kink lies between the two, or where many
layers have made a rounding larger."""
DRAWS = 3
NOISE = 0.01
"""Of later draws, which move theta by this share of its own size: a fresh model may
stand at a kink exactly, as with biases of 0 behind a ReLU."""
_TINY = 1e-30
OPTIMISED_NODES_MAX = 4096
"""Of a graph that is loaded as boards do; the runtime's rewriting of larger ones takes
longer than the few runs that a check makes of them."""


@dataclass(frozen=True)
class GradientErrors:
    """Relative errors; each is at most `TOLERANCE` for a sound bundle.

    Attributes:
      gradient: Of directional derivatives against differences of the loss.
      norm: Of per-example norms against gradients of single examples.
      clipped: Of the private sum against the sum of clipped single gradients.
      kinks: How many directions met a kink.
      idle: Names of weights whose gradient was 0 for every example.
    """

    gradient: float
    norm: float
    clipped: float
    kinks: int = 0
    idle: tuple[str, ...] = field(default=())

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
      OperationError: If an error exceeds `TOLERANCE` in most draws, or a result is not
        finite.
    """
    checker = _Checker(bundle)
    theta = bundle.theta
    first = checker.drawn(theta, rng)
    if first.worst <= TOLERANCE:
        return first
    size = NOISE * max(float(np.sqrt(np.mean(theta * theta))), NOISE)
    others = [
        checker.drawn(theta + size * rng.standard_normal(theta.shape, np.float32), rng)
        for _ in range(DRAWS - 1)
    ]
    if not any(np.isfinite(errors.worst) for errors in (first, *others)):
        raise OperationError(
            "nothing can be compared: on standard normal examples the loss or its "
            "gradient is no finite number; the model overflows, so scale its weights "
            "or what it is fed"
        )
    # The first draw may have met a kink; the others begin at parameters of their own,
    # and all of them have to agree.
    sound = [errors for errors in others if errors.worst <= TOLERANCE]
    if len(sound) < len(others):
        raise OperationError(f"the gradients are wrong: {first}")
    return replace(sound[0], kinks=DIRECTIONS)


class _Checker:
    """A bundle with its graphs loaded."""

    def __init__(self, bundle: Bundle) -> None:
        graphs = bundle.opened.graphs
        self._bundle = bundle
        self._sessions = {
            name: _opened(graphs[name]) for name in (GRADIENT, PRIVATE_GRADIENT)
        }
        self._references: dict[str, Reference] = {}
        # Slopes are compared where no step is taken; see `straight_through`.
        gradient = bundle.standalone(GRADIENT)
        self._unheld = unheld(gradient)
        self._smooth = self._sessions[GRADIENT]
        if self._unheld != gradient:
            self._smooth = _opened(checked_graph(self._unheld))
        self._loss = Reference(unheld(bundle.standalone(EVALUATE)))

    def drawn(
        self, theta: NDArray[np.float32], rng: np.random.Generator
    ) -> GradientErrors:
        """The errors on one batch."""
        batch = self._batch(theta, rng)
        norm, clipped, singles = self._clipping(batch, self._runtime)
        # Not written as `>`, to which a NaN would answer False.
        if not np.maximum(norm, clipped) <= TOLERANCE:
            exact = self._clipping(batch, self._float64)
            if _relative(singles, exact[2]) <= ROUNDING:
                norm, clipped, _ = exact
        error, kinks = self._directional(batch, self._smooth.run(batch)[0], rng)
        return GradientErrors(error, norm, clipped, kinks, self._idle(singles))

    def _clipping(
        self, batch: Batch, run: _Run
    ) -> tuple[float, float, NDArray[np.float64]]:
        """Errors of the norms and of the clipped sum, and gradients of one example."""
        manifest = self._bundle.manifest
        singles = np.stack(
            [
                run(GRADIENT, one(batch, index), ["gradient"])[0]
                for index in range(EXAMPLES)
            ]
        ).astype(np.float64)
        norms = np.linalg.norm(singles, axis=1)
        # At the median some examples are clipped and some are not, so that both cases
        # are tried.
        clip = np.array(np.median(norms), np.float32)
        feeds = {**batch, "clip": clip}
        clipped, measured = run(PRIVATE_GRADIENT, feeds, ["gradient", "norm"])
        factors = [
            clip_scale(norm, float(clip), manifest.dimension, manifest.clipping)
            for norm in norms.tolist()
        ]
        error = np.max(np.abs(measured - norms)) / max(norms.max(), _TINY)
        return float(error), _relative(clipped, np.array(factors) @ singles), singles

    def _runtime(
        self, graph: str, batch: Batch, outputs: Sequence[str]
    ) -> list[NDArray[Any]]:
        return self._sessions[graph].run(batch, outputs)

    def _float64(
        self, graph: str, batch: Batch, outputs: Sequence[str]
    ) -> list[NDArray[Any]]:
        if graph not in self._references:
            self._references[graph] = Reference(self._bundle.standalone(graph))
        reference = self._references[graph]
        return [reference.run(output, batch) for output in outputs]

    def _batch(self, theta: NDArray[np.float32], rng: np.random.Generator) -> Batch:
        """Examples that the graphs run on.

        A model that looks places up in what it computes may know few of them; zeros and
        ones are places wherever there are two.

        Raises:
          OperationError: If the graphs run on none.
        """
        batch = draw(theta, self._bundle.manifest, EXAMPLES, rng)
        bits = rng.integers(0, 2, batch["x"].shape).astype(np.float32)
        try:
            self._sessions[GRADIENT].run(batch)
        except EngineError as error:
            # Random numbers are no places of a table that the model looks up by itself.
            batch = {**batch, "x": bits}
            try:
                self._sessions[GRADIENT].run(batch)
            except EngineError:
                line = " ".join(str(error).split())[:300]
                raise OperationError(
                    f"the gradients cannot be checked: {line}"
                ) from error
        return batch

    def _idle(self, singles: NDArray[np.float64]) -> tuple[str, ...]:
        return tuple(
            [
                item.name
                for item in self._bundle.manifest.parameters
                if item.offset is not None
                and not singles[:, item.offset : item.offset + item.size].any()
            ]
        )

    def _directional(
        self, batch: Batch, gradient: NDArray[np.generic], rng: np.random.Generator
    ) -> tuple[float, int]:
        """The worst error over several directions, and how many met a kink."""
        worst, kinks = 0.0, 0
        found = gradient.astype(np.float64)
        # A random direction sees about this much of the gradient: its length over
        # sqrt(d).
        scale = max(float(np.linalg.norm(found)) / np.sqrt(len(found)), 1e-6)
        start = self._sum(batch, 0.0, np.zeros(len(found)))
        exact: NDArray[np.float64] | None = None
        for _ in range(DIRECTIONS):
            direction = rng.standard_normal(len(found))
            direction /= np.linalg.norm(direction)
            error = self._distance(batch, found, direction, start, STEPS[0]) / scale
            if not error <= TOLERANCE:
                exact = self._exact(batch) if exact is None else exact
                error = self._explained(batch, found, exact, direction, start, scale)
                kinks += int(error <= TOLERANCE)
            # Unlike max(), this keeps what is no number.
            worst = float(np.maximum(worst, error))
        return worst, kinks

    def _explained(
        self,
        batch: Batch,
        found: NDArray[np.float64],
        exact: NDArray[np.float64],
        direction: NDArray[np.float64],
        start: float,
        scale: float,
    ) -> float:
        """The error that a kink does not explain."""
        rounding = _relative(found, exact)
        if not rounding <= ROUNDING:
            return rounding
        distances = [
            self._distance(batch, exact, direction, start, step) for step in STEPS
        ]
        return float(np.min(distances)) / scale

    def _distance(
        self,
        batch: Batch,
        gradient: NDArray[np.float64],
        direction: NDArray[np.float64],
        start: float,
        step: float,
    ) -> float:
        """Distance of a derivative from the range of the one-sided differences."""
        ahead = (self._sum(batch, step, direction) - start) / step
        behind = (start - self._sum(batch, -step, direction)) / step
        slope = float(gradient @ direction)
        low, high = np.minimum(ahead, behind), np.maximum(ahead, behind)
        return float(np.maximum(np.maximum(low - slope, slope - high), 0.0))

    def _sum(self, batch: Batch, step: float, direction: NDArray[np.float64]) -> float:
        theta = batch["theta"].astype(np.float64) + step * direction
        return float(np.sum(self._loss.run("loss", {**batch, "theta": theta})))

    def _exact(self, batch: Batch) -> NDArray[np.float64]:
        return Reference(self._unheld).run("gradient", batch)


def _opened(graph: Graph) -> GraphSession:
    return open_session(graph, optimised=len(graph.nodes) <= OPTIMISED_NODES_MAX)


def _relative(found: NDArray[Any], expected: NDArray[np.float64]) -> float:
    difference = float(np.linalg.norm(found.astype(np.float64) - expected))
    return difference / max(float(np.linalg.norm(expected)), _TINY)
