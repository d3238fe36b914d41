"""The engine that every board has: stock ONNX Runtime on the CPU.

It takes bundles that were opened, and so checked, and each graph gets its session when
it is first needed. Gradient graphs are opened up first, so that parameters and
gradients are not copied (`agent.training.unpacked_graph`). A batch of large examples is
computed in parts (`engine.batch_parts`).
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starling.agent.trainer.engines.bound_session import BoundGradientStep
from starling.agent.training.training_inputs import Real
from starling.agent.training.unpacked_graph import unpack
from starling.engine.batch_parts import examples_together, part_size
from starling.engine.opened_bundle import OpenedBundle
from starling.engine.runtime.onnxruntime_session import GraphSession, open_session
from starling.protocol.errors import EngineError, ProtocolError
from starling.protocol.model.training_bundle import (
    EVALUATE,
    GRADIENT,
    INFER,
    PRIVATE_GRADIENT,
    BundleManifest,
)


class OrtTrainer:
    """A bundle run by ONNX Runtime; see `agent.training.training_inputs.Trainer`."""

    def __init__(self, bundle: OpenedBundle, threads: int) -> None:
        """Loads no graph yet.

        Args:
          bundle: What to run.
          threads: That one graph may use.
        """
        self.manifest: BundleManifest = bundle.manifest
        self.theta: Real = bundle.theta
        self._graphs = bundle.graphs
        self._threads = threads
        self._together = examples_together(bundle.manifest.example_bytes)
        self._sessions: dict[str, GraphSession] = {}
        self._steps: dict[str, BoundGradientStep | None] = {}

    def gradient_sum(
        self, theta: Real, x: NDArray[Any], y: NDArray[Any]
    ) -> tuple[Real, Real]:
        """See `Trainer.gradient_sum`."""
        return self._gradient(GRADIENT, theta, x, y)

    def private_gradient_sum(
        self, theta: Real, x: NDArray[Any], y: NDArray[Any], clip: float
    ) -> tuple[Real, Real]:
        """See `Trainer.private_gradient_sum`."""
        return self._gradient(PRIVATE_GRADIENT, theta, x, y, clip)

    def evaluate(
        self, theta: Real, x: NDArray[Any], y: NDArray[Any]
    ) -> tuple[Real, NDArray[Any]]:
        """See `Trainer.evaluate`."""
        loss, output = self._rows(EVALUATE, theta, {"x": x, "y": y})
        return loss, output

    def infer(self, theta: Real, x: NDArray[Any]) -> NDArray[Any]:
        """See `Trainer.infer`."""
        return self._rows(INFER, theta, {"x": x})[0]

    def _rows(
        self, name: str, theta: Real, rows: Mapping[str, NDArray[Any]]
    ) -> list[NDArray[Any]]:
        """Outputs that have a row for each example."""
        found = [
            self._run(name, {"theta": theta, **{k: v[part] for k, v in rows.items()}})
            for part in self._parts(*rows.values())
        ]
        if len(found) == 1:
            return found[0]
        return [np.concatenate(parts) for parts in zip(*found, strict=True)]

    def _parts(self, x: NDArray[Any], y: NDArray[Any] | None = None) -> list[slice]:
        """Rows that are computed together.

        Raises:
          EngineError: If there are not as many targets as records.
        """
        # At least one part, so that no record gives outputs of the right shape.
        count = max(1, len(x))
        if y is not None and len(x) != len(y):
            raise EngineError(f"{len(x)} records with {len(y)} targets")
        size = part_size(count, self.manifest.example_bytes)
        return [slice(start, start + size) for start in range(0, count, size)]

    def _gradient(
        self,
        name: str,
        theta: Real,
        x: NDArray[Any],
        y: NDArray[Any],
        clip: float | None = None,
    ) -> tuple[Real, Real]:
        if len(y) == len(x) <= self._together:
            return self._part(name, theta, x, y, clip)
        first, *others = self._parts(x, y)
        total, rows = self._part(name, theta, x[first], y[first], clip)
        each = [rows]
        for part in others:
            found, rows = self._part(name, theta, x[part], y[part], clip)
            # Into the first part's own place: as long as it is held here, no run writes
            # there.
            total += found
            # Its place is taken for the next part.
            del found
            each.append(rows)
        return total, np.concatenate(each) if others else rows

    def _part(
        self,
        name: str,
        theta: Real,
        x: NDArray[Any],
        y: NDArray[Any],
        clip: float | None,
    ) -> tuple[Real, Real]:
        step = self._step(name)
        if step is not None:
            return step.run(theta, x, y, clip)
        feeds = {"theta": theta, "x": x, "y": y}
        if clip is not None:
            feeds["clip"] = np.array(clip, np.float32)
        results = self._run(name, feeds)
        return results[0], results[-1]

    def _step(self, name: str) -> BoundGradientStep | None:
        """The graph opened up; None if it cannot be, so that it runs as it is."""
        if name not in self._steps:
            dimension = self.manifest.dimension
            opened = unpack(self._graphs[name], dimension)
            self._steps[name] = None
            if opened is not None:
                # The graph as it came gives the same numbers, with copies.
                with suppress(EngineError, ProtocolError):
                    session = open_session(opened.graph, self._threads)
                    self._steps[name] = BoundGradientStep(session, opened, dimension)
        return self._steps[name]

    def _run(self, name: str, feeds: Mapping[str, Any]) -> list[NDArray[Any]]:
        if name not in self._sessions:
            self._sessions[name] = open_session(self._graphs[name], self._threads)
        return self._sessions[name].run(feeds)
