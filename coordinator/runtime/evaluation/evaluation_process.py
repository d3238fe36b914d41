"""The process that tries versions; a module that is run, not imported.

A published graph is somebody else's program, so that it runs here, away from the keys:
in an empty folder, without an environment, with bounded memory, and from the first
trial on without any means to open a file or a socket, on every kernel; where there are
Landlock and seccomp it may not even try. See
`coordinator.runtime.evaluation.evaluation_messages` for what is said, and
`coordinator.runtime.evaluation.evaluator` for who says it.
"""

import ctypes
import io
import os
import resource
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starling.coordinator.aggregation.contribution_scores import (
    RootGradients,
    gradients_of,
    strata_of,
)
from starling.coordinator.runtime.evaluation.evaluation_messages import (
    OUTCOME,
    TRIAL,
    EvaluationResult,
    differentiated,
    failed,
    passed,
    read_frame,
    write_frame,
)
from starling.engine.opened_bundle import OpenedBundle, open_packed
from starling.engine.runtime.onnxruntime_session import (
    GraphSession,
    flush_tiny_numbers,
    open_session,
)
from starling.protocol.errors import EngineError, FederationError
from starling.protocol.model.parameter_layout import local_slices
from starling.protocol.model.training_bundle import (
    EVALUATE,
    GRADIENT,
    BundleManifest,
)
from starling.records.scaling import scaled_inputs, scaled_targets
from starling.sandbox import landlock, seccomp
from starling.sandbox.syscalls import hide_memory, renounce_privileges

MEMORY_BYTES_MAX = 2 << 30
"""Private memory beside the held-out data."""
HELD_OUT_BYTES_MAX = 4 << 30
NICENESS = 10
LOSS_WITH_CLASSES = "cross-entropy"
_PR_SET_PDEATHSIG = 1
_BATCH_BYTES = 4


@dataclass(frozen=True)
class HeldOutData:
    """Examples that no board trains on.

    Attributes:
      x: (n, ...) raw values.
      y: (n,) int64 labels, or (n, ...) float32 targets.
    """

    x: NDArray[Any]
    y: NDArray[Any]


def main() -> int:
    """Serves trials until standard input ends."""
    _die_with_parent()
    flush_tiny_numbers()
    # Whatever a library prints must not stand between our frames.
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    source = sys.stdin.buffer
    # From our own coordinator, and so read before the process is confined.
    given = read_frame(source, HELD_OUT_BYTES_MAX)
    if given is None:
        return 0
    batch, held_out = unpack_held_out(given)
    _confine(len(given))
    bench = VersionTester(held_out, batch)
    while (frame := read_frame(source, TRIAL.bytes_max)) is not None:
        write_frame(sink, OUTCOME.pack(bench.outcome(frame)))
    return 0


def pack_held_out(held_out: HeldOutData, batch: int) -> bytes:
    """The first frame: the batch size and the arrays."""
    buffer = io.BytesIO()
    np.savez(buffer, x=held_out.x, y=held_out.y)
    return batch.to_bytes(_BATCH_BYTES, "little") + buffer.getvalue()


def unpack_held_out(frame: bytes) -> tuple[int, HeldOutData]:
    """Reads what `pack_held_out` wrote."""
    with np.load(io.BytesIO(frame[_BATCH_BYTES:]), allow_pickle=False) as arrays:
        held_out = HeldOutData(arrays["x"], arrays["y"])
    return int.from_bytes(frame[:_BATCH_BYTES], "little"), held_out


class VersionTester:
    """Tries versions; keeps the session of the last bundle."""

    def __init__(self, held_out: HeldOutData, batch: int) -> None:
        """Takes the held-out data, and how many examples are run at once."""
        self._held_out = held_out
        self._batch = batch
        self._loaded: _Loaded | None = None

    def outcome(self, frame: bytes) -> EvaluationResult:
        """Answers one trial."""
        try:
            trial = TRIAL.unpack(frame)
            if trial.bundle:
                # Before the next one is opened: two bundles at once may not fit.
                self._loaded = None
                self._loaded = _Loaded(open_packed(trial.bundle))
            theta = np.frombuffer(trial.theta, "<f4")
            if trial.gradients:
                return differentiated(self._differentiated(theta))
            return passed(*self._tried(theta))
        except MemoryError:
            return failed("out of memory")
        # NumPy's for data that is not what the bundle takes.
        except (FederationError, TypeError, ValueError) as error:
            return failed(str(error))

    def _tried(self, theta: NDArray[np.float32]) -> tuple[float | None, float]:
        loaded = self._bundle()
        classes = loaded.manifest.loss == LOSS_WITH_CLASSES
        loss_sum, right, count = 0.0, 0, len(self._held_out.x)
        for rows in _batches(np.arange(count), self._batch):
            feeds = self._feeds(loaded.manifest, theta, rows, rows)
            target = feeds["y"]
            loss, output = loaded.session(EVALUATE).run(feeds)
            # A graph of somebody else may have outputs of any length.
            if loss.shape != (len(target),) or len(output) != len(target):
                raise EngineError(f"{EVALUATE}: results of another shape")
            # In float64: a float32 sum of many losses loses the digits that tell
            # versions apart.
            loss_sum += float(np.sum(loss, dtype=np.float64))
            right += int(np.sum(np.argmax(output, -1) == target)) if classes else 0
        return (right / count if classes else None), loss_sum / count

    def _differentiated(self, theta: NDArray[np.float32]) -> RootGradients:
        """Gradients of the loss over each stratum of the data."""
        loaded = self._bundle()
        dimension = loaded.manifest.dimension
        places = local_slices(loaded.manifest.parameters)

        def gradient_sum(
            rows: NDArray[np.int64], whose: NDArray[np.int64]
        ) -> NDArray[np.float64]:
            total = np.zeros(dimension)
            for part in _batches(np.arange(len(rows)), self._batch):
                feeds = self._feeds(loaded.manifest, theta, rows[part], whose[part])
                gradient, *_ = loaded.session(GRADIENT).run(feeds)
                if gradient.shape != (dimension,):
                    raise EngineError(f"{GRADIENT}: results of another shape")
                total += gradient
            for place in places:
                # What stays on boards is in no update, and so counts in no score.
                total[place] = 0.0
            return total

        return gradients_of(strata_of(self._held_out.y, dimension), gradient_sum)

    def _bundle(self) -> "_Loaded":
        if self._loaded is None:
            raise EngineError("no bundle is loaded")
        return self._loaded

    def _feeds(
        self,
        manifest: BundleManifest,
        theta: NDArray[np.float32],
        rows: NDArray[np.int64],
        whose: NDArray[np.int64],
    ) -> dict[str, NDArray[Any]]:
        """Inputs of examples, with the targets of these or of others."""
        target = scaled_targets(self._held_out.y[whose], manifest.table)
        target = target.astype(manifest.target.dtype)
        raw = scaled_inputs(self._held_out.x[rows], manifest.preprocessing)
        count = len(rows)
        return {
            "theta": theta,
            "x": raw.astype(manifest.input.dtype).reshape(
                (count, *manifest.input.shape)
            ),
            "y": target.reshape((count, *manifest.target.shape)),
        }


class _Loaded:
    """A bundle, with a session of each of its graphs that was needed."""

    def __init__(self, bundle: OpenedBundle) -> None:
        self.manifest = bundle.manifest
        self._graphs = bundle.graphs
        self._sessions: dict[str, GraphSession] = {}

    def session(self, name: str) -> GraphSession:
        if name not in self._sessions:
            self._sessions[name] = open_session(self._graphs[name])
        return self._sessions[name]


def _batches(rows: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _die_with_parent() -> None:
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent may have ended before the kernel was asked to tell.
    if os.getppid() != parent:
        sys.exit(1)


def _confine(held_bytes: int) -> None:
    """Gives up, for good, what a trial does not need."""
    os.nice(NICENESS)
    hide_memory()
    renounce_privileges()
    # It binds the thread that asks for it, and those that it starts.
    if len(list(Path("/proc/self/task").iterdir())) == 1:
        landlock.restrict(())
    # The held-out data twice: as they came, and as arrays.
    memory = MEMORY_BYTES_MAX + 2 * held_bytes
    for limit, most in (
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_FSIZE, 0),
        # What is open stays open; no other file or socket can be.
        (resource.RLIMIT_NOFILE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    seccomp.restrict()


if __name__ == "__main__":
    sys.exit(main())
