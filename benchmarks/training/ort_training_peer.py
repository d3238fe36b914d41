"""The peer of `training_step` that lives elsewhere: onnxruntime-training-cpu.

Its wheel takes the place of onnxruntime, so it runs under an interpreter of its own:
this file is both the side that asks and, started by that interpreter, the one that
answers with the time of a step whenever a line comes in.
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx
    from numpy.typing import NDArray


def ort_training_turn(
    interpreter: str,
    model: "onnx.ModelProto",
    x: "NDArray[np.float32]",
    y: "NDArray[np.int64]",
    turn_s: float,
) -> "Callable[[], float] | None":
    """Starts the other side; each call asks it for the median time of one step.

    None if it cannot train the model (it has no gradient for a GRU, for one).
    """
    folder = Path(tempfile.mkdtemp(prefix="ort-training-"))
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    np.savez(folder / "batch.npz", x=x, y=y)
    process = subprocess.Popen(
        [interpreter, __file__, str(folder), str(turn_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    assert process.stdin is not None
    assert process.stdout is not None
    sink, source = process.stdin, process.stdout

    def ask() -> str:
        sink.write("\n")
        sink.flush()
        return source.readline()

    return (lambda: float(ask())) if ask() else None


def _answer(folder: Path, turn_s: float) -> None:
    import onnxruntime

    # The package's own entry imports torch, which only its optimisers need.
    package = types.ModuleType("onnxruntime.training")
    package.__path__ = [str(Path(onnxruntime.__file__).parent / "training")]
    sys.modules["onnxruntime.training"] = package
    step = _step(folder)
    for _ in sys.stdin:
        times: list[float] = []
        end = time.perf_counter() + turn_s
        while time.perf_counter() < end or not times:
            start = time.process_time()
            step()
            times.append(time.process_time() - start)
        sys.stdout.write(f"{statistics.median(times)}\n")
        sys.stdout.flush()
    shutil.rmtree(folder)


def _step(folder: Path) -> "Callable[[], object]":
    import onnx
    import onnxruntime
    from onnxruntime.training import api, artifacts

    model = onnx.load(folder / "model.onnx")
    names = [item.name for item in model.graph.initializer]
    artifacts.generate_artifacts(
        model,
        requires_grad=names,
        loss=artifacts.LossType.CrossEntropyLoss,
        artifact_directory=str(folder),
    )
    options: Any = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    state = api.CheckpointState.load_checkpoint(str(folder / "checkpoint"))
    module = api.Module(
        str(folder / "training_model.onnx"), state, session_options=options
    )
    with np.load(folder / "batch.npz") as batch:
        x, y = batch["x"], batch["y"]

    def step() -> None:
        module(x, y)
        module.lazy_reset_grad()

    return step


if __name__ == "__main__":
    _answer(Path(sys.argv[1]), float(sys.argv[2]))
