"""The engine that every board has: stock ONNX Runtime on the CPU.

Graphs are checked against the operator allow-list before ONNX Runtime sees them, and
each gets its session when it is first needed. Gradient graphs are opened up first, so
that parameters and gradients are not copied (`agent.unpacking`).
"""

import io
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from agent.rim.in_place import InPlaceStep
from agent.training import EngineError
from agent.unpacking import unpack
from agent.work import Real
from protocol.bundle import (
    EVALUATE,
    GRADIENT,
    INFER,
    MANIFEST,
    PRIVATE_GRADIENT,
    THETA,
    Manifest,
    manifest_from_json,
)
from protocol.errors import DecodeError
from protocol.graph import check_graph

_SEVERITY_FATAL = 4
"""Errors come as exceptions; in a log their text could show what a record holds."""
ORT_ERRORS = (
    ort_errors.EPFail,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)
"""What ONNX Runtime raises for graphs and for what they are fed."""
# A spinning thread would take the board's cores between two steps.
_ENTRIES = {"session.intra_op.allow_spinning": "0"}
_PORTS = {
    GRADIENT: (("theta", "x", "y"), ("gradient", "loss")),
    PRIVATE_GRADIENT: (("theta", "x", "y", "clip"), ("gradient", "loss", "norm")),
    EVALUATE: (("theta", "x", "y"), ("loss", "output")),
    INFER: (("theta", "x"), ("output",)),
}


class OrtTrainer:
    """A bundle run by ONNX Runtime; see `agent.training.Trainer`."""

    def __init__(self, files: Mapping[str, bytes], threads: int) -> None:
        """Checks the graphs; loads none of them yet.

        Args:
          files: Of a bundle, as `protocol.bundle.unpack_bundle` checked them.
          threads: That one graph may use.

        Raises:
          DecodeError, LimitError: If a graph is not one that a board runs.
        """
        self.manifest: Manifest = manifest_from_json(files[MANIFEST])
        self.theta: Real = _theta(files[THETA], self.manifest.dimension)
        self._files = files
        self._threads = threads
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}
        self._steps: dict[str, InPlaceStep | None] = {}
        for name, (inputs, outputs) in _PORTS.items():
            facts = check_graph(files[name])
            if sorted(facts.inputs) != sorted(inputs) or facts.outputs != outputs:
                raise DecodeError(f"{name}: has other inputs or outputs")

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
        loss, output = self._run(EVALUATE, {"theta": theta, "x": x, "y": y})
        return loss, output

    def infer(self, theta: Real, x: NDArray[Any]) -> NDArray[Any]:
        """See `Trainer.infer`."""
        return self._run(INFER, {"theta": theta, "x": x})[0]

    def _gradient(
        self,
        name: str,
        theta: Real,
        x: NDArray[Any],
        y: NDArray[Any],
        clip: float | None = None,
    ) -> tuple[Real, Real]:
        step = self._step(name)
        if step is not None:
            return step.run(theta, x, y, clip)
        feeds = {"theta": theta, "x": x, "y": y}
        if clip is not None:
            feeds["clip"] = np.array(clip, np.float32)
        results = self._run(name, feeds)
        return results[0], results[-1]

    def _step(self, name: str) -> InPlaceStep | None:
        """The graph opened up; None if it cannot be, so that it runs as it is."""
        if name not in self._steps:
            dimension = self.manifest.dimension
            graph = unpack(self._files[name], dimension)
            self._steps[name] = None
            if graph is not None:
                with suppress(EngineError, *ORT_ERRORS):
                    session = _opened(graph.model, self._threads)
                    self._steps[name] = InPlaceStep(session, graph, dimension)
        return self._steps[name]

    def _run(self, name: str, feeds: Mapping[str, Any]) -> list[NDArray[Any]]:
        try:
            outputs: list[NDArray[Any]] = self._session(name).run(None, feeds)
        except ORT_ERRORS as error:
            raise EngineError(f"{name}: {error}") from error
        return outputs

    def _session(self, name: str) -> onnxruntime.InferenceSession:
        if name not in self._sessions:
            self._sessions[name] = _opened(self._files[name], self._threads)
        return self._sessions[name]


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
    with suppress(RuntimeError, *ORT_ERRORS):
        onnxruntime.create_and_register_allocator(memory, settings)


def flush_tiny_numbers() -> None:
    """Has all sessions from now on take denormal numbers for zeros.

    They would take many times as long, and time can be seen. For a process of its own:
    the mode of the thread that opens its first session changes with it, for good.
    """
    _ENTRIES["session.set_denormal_as_zero"] = "1"


def add_entries(options: onnxruntime.SessionOptions) -> None:
    """Sets what every session of this process is to be like."""
    for key, value in _ENTRIES.items():
        options.add_session_config_entry(key, value)


def _opened(graph: bytes, threads: int) -> onnxruntime.InferenceSession:
    _share_memory()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _SEVERITY_FATAL
    options.add_session_config_entry("session.use_env_allocators", "1")
    add_entries(options)
    return onnxruntime.InferenceSession(
        graph, options, providers=["CPUExecutionProvider"]
    )


def _theta(content: bytes, dimension: int) -> Real:
    try:
        theta: Real = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DecodeError(f"{THETA}: {error}") from error
    if theta.shape != (dimension,) or theta.dtype != np.float32:
        raise DecodeError(f"{THETA}: expected {dimension} float32")
    return theta
