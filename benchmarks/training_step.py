"""How fast a training step is: examples per second on one thread, and memory.

`python -m benchmarks.training_step` prints the table and writes
benchmarks/results/training_step.json. The network is the convolutional one of 21,840
parameters (conv 10 5x5, pool, conv 20 5x5, pool, linear 50, linear 10) on 28x28
images. PyTorch and Opacus take part if they are installed; all contenders alternate,
so that a busy machine is busy for all of them. A contender's time is the median. The
Opacus wheel brings a top-level package `benchmarks` that hides this one; remove it.
"""

import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from compiler import compile_model
from protocol.bundle import GRADIENT, PRIVATE_GRADIENT

Step = Callable[[], object]
Arrays = dict[str, NDArray[np.generic]]
BATCHES = (1, 10, 32, 64)
TURNS = 15
TURN_S = 0.1
SEED = 1
RESULT = Path(__file__).parent / "results" / "training_step.json"
_SHAPES: dict[str, tuple[int, ...]] = {
    "conv1.weight": (10, 1, 5, 5),
    "conv1.bias": (10,),
    "conv2.weight": (20, 10, 5, 5),
    "conv2.bias": (20,),
    "fc1.weight": (50, 320),
    "fc1.bias": (50,),
    "fc2.weight": (10, 50),
    "fc2.bias": (10,),
}


def network(rng: np.random.Generator) -> onnx.ModelProto:
    """The network, with normal weights."""
    weights = []
    for name, shape in _SHAPES.items():
        spread = 1 / math.sqrt(math.prod(shape[1:]))
        values = (rng.standard_normal(shape) * spread).astype(np.float32)
        weights.append(numpy_helper.from_array(values, name))
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "conv1.weight", "conv1.bias"], ["a"]),
        node("MaxPool", ["a"], ["b"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Relu", ["b"], ["c"]),
        node("Conv", ["c", "conv2.weight", "conv2.bias"], ["d"]),
        node("MaxPool", ["d"], ["e"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Relu", ["e"], ["f"]),
        node("Flatten", ["f"], ["g"]),
        node("Gemm", ["g", "fc1.weight", "fc1.bias"], ["h"], transB=1),
        node("Relu", ["h"], ["i"]),
        node("Gemm", ["i", "fc2.weight", "fc2.bias"], ["out"], transB=1),
    ]
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 28, 28])
    scores = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 10])
    graph = helper.make_graph(nodes, "cnn", [image], [scores], weights)
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def starling_steps(x: NDArray[np.float32], y: NDArray[np.int64]) -> dict[str, Step]:
    """The two compiled graphs on one batch."""
    bundle = compile_model(
        network(np.random.default_rng(SEED)), loss="cross-entropy", name="cnn"
    )
    plain: Arrays = {"theta": bundle.theta, "x": x, "y": y}
    private: Arrays = {**plain, "clip": np.array(1.0, np.float32)}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    sessions = [
        onnxruntime.InferenceSession(
            bundle.files[file], options, providers=["CPUExecutionProvider"]
        )
        for file in (GRADIENT, PRIVATE_GRADIENT)
    ]
    return {
        "starling": lambda: sessions[0].run(None, plain),
        "starling, private": lambda: sessions[1].run(None, private),
    }


def rates(steps: dict[str, Step], examples: int) -> dict[str, float]:
    """Examples per second of each contender, in turns."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(TURNS):
        for name, step in steps.items():
            turn: list[float] = []
            end = time.perf_counter() + TURN_S
            while time.perf_counter() < end:
                start = time.perf_counter()
                step()
                turn.append(time.perf_counter() - start)
            times[name].append(statistics.median(turn))
    return {name: examples / statistics.median(taken) for name, taken in times.items()}


def main() -> int:
    """Prints the table and writes the results."""
    rng = np.random.default_rng(SEED)
    rows = {}
    for batch in BATCHES:
        x = rng.random((batch, 1, 28, 28), np.float32)
        y = rng.integers(0, 10, batch)
        steps = starling_steps(x, y)
        if find_spec("torch"):
            from benchmarks.training_peers import torch_steps

            steps |= torch_steps(x, y)
        rows[batch] = rates(steps, batch)
    _show(rows)
    RESULT.parent.mkdir(exist_ok=True)
    document = {
        "unit": "examples per second on one thread",
        "batches": {
            str(batch): {name: round(rate) for name, rate in row.items()}
            for batch, row in rows.items()
        },
    }
    RESULT.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def _show(rows: dict[int, dict[str, float]]) -> None:
    names = list(rows[BATCHES[0]])
    sys.stdout.write("batch  " + "  ".join(f"{name:>17}" for name in names) + "\n")
    for batch, row in rows.items():
        cells = "  ".join(f"{row[name]:>15,.0f}/s" for name in names)
        sys.stdout.write(f"{batch:>5}  {cells}\n")


if __name__ == "__main__":
    raise SystemExit(main())
