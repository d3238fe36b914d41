"""Runs a gradient graph on places in two vectors, so that nothing is copied.

ONNX Runtime is told once where each part of theta and of the gradient lies. Two places
for gradients take turns: a caller may keep what it was given for as long as it likes,
and a place is used again only when nobody holds it any more.

Letters: `n` examples, `d` parameters.
"""

import math
import sys
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starling.agent.training.gradient_clipping import aligned
from starling.agent.training.training_inputs import Real
from starling.agent.training.unpacked_graph import UnpackedGraph
from starling.engine.runtime.onnxruntime_session import GraphBinding, GraphSession
from starling.protocol.errors import EngineError

_PLACES_MAX = 2
_COPIED_BYTES_MAX = 1 << 14
_OWN_REFERENCES = 2
"""To an array that nobody else holds: the place's own, and the question's."""


class BoundGradientStep:
    """One opened gradient graph. Threads may share it; they take turns."""

    def __init__(
        self, session: GraphSession, graph: UnpackedGraph, dimension: int
    ) -> None:
        """Takes a session of `graph.graph`.

        Raises:
          EngineError: If the parts of the gradient have no fixed sizes, or others.
        """
        shapes = session.outputs
        self._parts = [(name, _fixed(shapes[name])) for name in graph.gradients]
        if sum(math.prod(shape) for _, shape in self._parts) != dimension:
            raise EngineError("a gradient has another length than theta")
        self._session, self._graph, self._dimension = session, graph, dimension
        # What has a row for each example, beside the gradient.
        self._rows = tuple(shapes)[len(self._parts) :]
        self._places: list[_Place] = []
        self._lock = Lock()

    def run(
        self, theta: Real, x: NDArray[Any], y: NDArray[Any], clip: float | None = None
    ) -> tuple[Real, Real]:
        """Gradient (d,) float32 and the graph's last output, (n,) float32.

        Args:
          theta: (d,) float32.
          x: As the graph's input.
          y: As the graph's input.
          clip: Where the graph has that input.

        Raises:
          EngineError: If theta is not as said, or the runtime refuses its arguments.
        """
        if theta.shape != (self._dimension,) or theta.dtype != np.float32:
            raise EngineError(f"theta: expected {self._dimension} float32")
        with self._lock:
            place = self._free()
            # By identity: to compare values would cost a pass over all parameters.
            if place.theta is not theta:
                self._bind_theta(place, theta)
            if len(x) != place.count:
                self._bind_rows(place, len(x))
            if clip is not None:
                place.clip[...] = clip
            place.feed("x", x)
            place.feed("y", y)
            place.binding.run(len(x))
            # The rows are written again by the next run; the gradient is not, as long
            # as a caller holds it.
            return place.gradient, place.rows[-1].copy()

    def _free(self) -> "_Place":
        for place in self._places:
            # CPython counts at once: an array that the caller let go is free at the
            # next call.
            if sys.getrefcount(place.gradient) == _OWN_REFERENCES:
                return place
        place = _Place(self._session.bind(), self._dimension)
        start = 0
        for name, shape in self._parts:
            part = place.gradient[start : start + math.prod(shape)]
            place.binding.output(name, part.reshape(shape))
            start += part.size
        if "clip" in self._session.inputs:
            place.binding.input("clip", place.clip)
        # The oldest is let go: its gradient belongs to the caller that still holds it.
        self._places = [*self._places[1 - _PLACES_MAX :], place]
        return place

    def _bind_theta(self, place: "_Place", theta: Real) -> None:
        lying = np.ascontiguousarray(theta)
        for view in self._graph.parameters:
            part = lying[view.start : view.stop].reshape(view.shape)
            place.binding.input(view.name, part)
        # A copy does not follow what the caller writes into theta later.
        place.theta = theta if lying is theta else None
        place.lying = lying

    def _bind_rows(self, place: "_Place", count: int) -> None:
        place.rows = [np.empty(count, np.float32) for _ in self._rows]
        for name, rows in zip(self._rows, place.rows, strict=True):
            place.binding.output(name, rows)
        place.count = count


class _Place:
    """Output of one run, and the buffers bound to it.

    Attributes:
      binding: To the arrays below.
      gradient: (d,) float32.
      rows: One (n,) float32 for each further output.
      clip: () float32, read by graphs that clip.
      fed: Copies of small inputs, or the large ones themselves, by name.
      theta: The caller's array that is bound; None if a copy is.
      lying: What is bound.
      count: n.
    """

    def __init__(self, binding: GraphBinding, dimension: int) -> None:
        self.binding = binding
        self.gradient = aligned((dimension,), np.dtype(np.float32))
        self.rows: list[Real] = []
        self.clip = np.zeros((), np.float32)
        self.fed: dict[str, NDArray[Any]] = {}
        self.theta: Real | None = None
        self.lying: Real | None = None
        self.count = -1
        self._own: set[str] = set()

    def feed(self, name: str, array: NDArray[Any]) -> None:
        """Hands an input over; the runtime reads it where it lies.

        Copying a few values takes less time than naming a new place for them. A single
        record is always copied to one place, so that its results do not depend on
        where it lay.
        """
        is_copied = array.nbytes <= _COPIED_BYTES_MAX or len(array) == 1
        if not is_copied:
            self.fed[name] = np.ascontiguousarray(array)
            self._own.discard(name)
            self.binding.input(name, self.fed[name])
            return
        kept = self.fed.get(name)
        if (
            kept is None
            or kept.shape != array.shape
            or kept.dtype != array.dtype
            or name not in self._own
        ):
            kept = self.fed[name] = aligned(array.shape, array.dtype)
            self._own.add(name)
            self.binding.input(name, kept)
        kept[...] = array


def _fixed(shape: tuple[int | str | None, ...]) -> tuple[int, ...]:
    """A shape without open sizes.

    Raises:
      EngineError: If it has one.
    """
    sizes = tuple([size for size in shape if isinstance(size, int)])
    if len(sizes) < len(shape):
        raise EngineError("a part of the gradient has no fixed size")
    return sizes
