"""The only module that imports ONNX Runtime.

It takes graphs of `engine.onnx_graph`, checks them once more, and gives the runtime
bytes of its own writing. Telemetry is off before the first import: otherwise the
runtime keeps an identity in the home folder and reports to its maker. Whatever the
runtime raises leaves here as an `EngineError`.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starling.engine.graph_check import check_graph
from starling.engine.node_order import SORTED_NODES_MIN, by_depth
from starling.engine.onnx_graph import Graph
from starling.engine.onnx_writer import write_graph
from starling.engine.runtime.process_memory import return_memory
from starling.protocol.errors import EngineError

# It counts when the library is loaded.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime
from onnxruntime.capi import _pybind_state as _build
from onnxruntime.capi import onnxruntime_pybind11_state as _state

onnxruntime.disable_telemetry_events()

_SEVERITY_FATAL = 4
"""What is wrong is raised; a log would quote records."""
_OWN_KINDS: tuple[type[Exception], ...] = tuple(
    kind
    for kind in vars(_state).values()
    if isinstance(kind, type) and issubclass(kind, Exception)
)
_RAISED: tuple[type[Exception], ...] = (
    *_OWN_KINDS,
    RuntimeError,
    TypeError,
    ValueError,
)
"""All that ONNX Runtime raises: its own kinds are plain `Exception`s, and its bindings
have some of Python's."""

_ENTRIES = {
    "session.use_env_allocators": "1",
    # A spinning thread would take the board's cores between two steps.
    "session.intra_op.allow_spinning": "0",
}
"""Of every session's configuration."""
_SHRINKING = ("memory.enable_memory_arena_shrinkage", "cpu:0")
"""Of a run's configuration: memory that nothing uses any more goes back at its end."""


def flush_tiny_numbers() -> None:
    """Has this process count numbers below the normal range as zero from now on.

    They take many times as long as others, so that time would tell of records. To be
    called before the first session of a process that only runs graphs: the processor
    is set that way for everything in it, Python and NumPy too.
    """
    _ENTRIES["session.set_denormal_as_zero"] = "1"


class RunPlans:
    """Batch sizes for which the runtime has laid out a graph's working memory.

    Its first run of a size takes value by value from the arena and notes what lived
    when; later runs take one block of just the size that this needs. A first run gives
    back what it took, or an arena would hold both.
    """

    def __init__(self) -> None:
        """Knows no size yet."""
        self._seen: set[int] = set()

    def options(self, rows: int) -> onnxruntime.RunOptions | None:
        """Options of a run of so many examples."""
        if rows in self._seen:
            return None
        self._seen.add(rows)
        options = onnxruntime.RunOptions()
        options.add_run_config_entry(*_SHRINKING)
        return options


class GraphSession:
    """A graph that is loaded. Threads may share it."""

    def __init__(self, session: onnxruntime.InferenceSession, name: str) -> None:
        """Made by `open_session` and `open_gradient`."""
        self._session, self._name = session, name
        self._plans = RunPlans()

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of its inputs."""
        return tuple([item.name for item in self._session.get_inputs()])

    @property
    def outputs(self) -> dict[str, tuple[int | str | None, ...]]:
        """Name of each output to its shape, as far as the runtime can tell."""
        return {item.name: tuple(item.shape) for item in self._session.get_outputs()}

    def run(
        self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> list[NDArray[Any]]:
        """The outputs asked for, or all of them in order.

        Raises:
          EngineError: If the runtime refuses its inputs, or fails.
        """
        with _engine_errors(self._name):
            # Of the inputs, x always has the batch as its first axis.
            rows = next(iter(np.shape(feeds["x"])), 0) if "x" in feeds else 0
            results: list[NDArray[Any]] = self._session.run(
                outputs, dict(feeds), self._plans.options(rows)
            )
        return results

    def bind(self) -> "GraphBinding":
        """Places for inputs and outputs, none of them named yet."""
        return GraphBinding(self._session, self._name, self._plans)


class GraphBinding:
    """Places of a session's inputs and outputs; see `GraphSession.bind`."""

    def __init__(
        self, session: onnxruntime.InferenceSession, name: str, plans: RunPlans
    ) -> None:
        """Belongs to one session."""
        self._session, self._name, self._plans = session, name, plans
        self._binding = session.io_binding()

    def input(self, name: str, array: NDArray[Any]) -> None:
        """Reads an input where it lies; the caller keeps it alive.

        Raises:
          EngineError: If it is of another kind than the graph's.
        """
        try:
            self._binding.bind_cpu_input(name, array)
        except _RAISED as error:
            raise _engine_error(self._name, error) from error

    def output(self, name: str, array: NDArray[np.float32]) -> None:
        """Writes an output where an array lies; the caller keeps it alive.

        Raises:
          EngineError: If the graph has no such output.
        """
        with _engine_errors(self._name):
            self._binding.bind_output(
                name, "cpu", 0, np.float32, array.shape, array.ctypes.data
            )

    def run(self, rows: int) -> None:
        """Reads the inputs and fills the outputs.

        Args:
          rows: Examples in the inputs.

        Raises:
          EngineError: If the runtime refuses its inputs, or fails.
        """
        try:
            self._session.run_with_iobinding(self._binding, self._plans.options(rows))
        except _RAISED as error:
            raise _engine_error(self._name, error) from error


def open_session(
    graph: Graph, threads: int = 1, *, optimised: bool = True
) -> GraphSession:
    """Checks, writes and loads a graph.

    Args:
      graph: To load.
      threads: That it may use.
      optimised: Whether the runtime rewrites it first, which takes as long again as to
        load it.

    Raises:
      DecodeError, LimitError: If it is not one that is run.
      EngineError: If ONNX Runtime refuses it.
    """
    check_graph(graph)
    options = _options(threads)
    if not optimised:
        plain = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.graph_optimization_level = plain
        # Nor is a plan worth its time to whoever runs a graph once.
        options.enable_mem_pattern = False
    if not optimised or len(graph.nodes) >= SORTED_NODES_MIN:
        graph = by_depth(graph)
    return _loaded(write_graph(graph), graph.name, options)


def can_differentiate() -> bool:
    """True if the installed ONNX Runtime is a training build."""
    return hasattr(_build, "GradientGraphBuilder")


def open_gradient(model: bytes, loss: str, by: str, threads: int) -> GraphSession:
    """Loads a graph with one more output, its gradient; only with a training build.

    Args:
      model: Made of a checked graph that `engine.onnx_writer` wrote.
      loss: Name of its scalar output.
      by: Name of the input; the new output is `<by>_grad`.
      threads: That it may use.

    Raises:
      EngineError: If an operator has no gradient there, or ONNX Runtime refuses it.
    """
    with _engine_errors(loss):
        settings = onnxruntime.SessionOptions()
        builder = _build.GradientGraphBuilder(model, {loss}, {by}, loss, settings)
        builder.build()
        gradient: bytes = builder.get_model()
    return _loaded(gradient, loss, _options(threads))


def _loaded(
    model: bytes, name: str, options: onnxruntime.SessionOptions
) -> GraphSession:
    _share_memory()
    with _engine_errors(name):
        session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
    # To load weights takes several times what they take.
    return_memory()
    return GraphSession(session, name)


@contextmanager
def _engine_errors(place: str) -> Iterator[None]:
    """Turns whatever ONNX Runtime raises into an `EngineError`."""
    try:
        yield
    except _RAISED as error:
        raise _engine_error(place, error) from error


def _engine_error(place: str, error: Exception) -> EngineError:
    # Its checks say first which of its own lines failed.
    said = str(error).strip()
    return EngineError(f"{place}: {said.rsplit('was false. ', maxsplit=1)[-1] or said}")


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # To look for a value's place among those that others left takes time that grows
    # with the square of a graph's nodes; plans of a run find such places as well.
    options.enable_mem_reuse = False
    options.log_severity_level = _SEVERITY_FATAL
    for name, value in _ENTRIES.items():
        options.add_session_config_entry(name, value)
    return options


@cache
def _share_memory() -> None:
    """Lets all sessions of this process take their working memory from one arena.

    One graph runs at a time, and an arena never gives back what a larger batch took.
    """
    kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    memory = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT)
    # Numbers: no limit, and the runtime's own defaults for how it grows.
    settings = onnxruntime.OrtArenaCfg(0, -1, -1, -1)
    # An arena that a program registered before will do as well.
    with suppress(*_RAISED):
        onnxruntime.create_and_register_allocator(memory, settings)
