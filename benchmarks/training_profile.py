"""Where the time of a plain step goes, by operator.

`python -m benchmarks.training_profile perceptron 32` prints a table and writes
benchmarks/results/training_profile.json. ONNX Runtime's own profiler counts whole
microseconds and adds more than that to each node, so the graph is cut off after each
node in turn: a node costs what the graph takes longer with it. Times are the
processor's, on one thread; small ones may come out below zero.
"""

import argparse
import os
import sys
import time

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

# Before ONNX Runtime is loaded, which would write into HOME.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

from benchmarks.harness.result_file import keep
from benchmarks.training.networks import NETWORKS
from starling.agent.training.unpacked_graph import ParameterView, unpack
from starling.compiler import compile_model
from starling.engine.graph_check import checked_graph
from starling.engine.onnx_writer import write_graph
from starling.protocol.model.training_bundle import GRADIENT

Arrays = dict[str, NDArray[np.generic]]
TURNS, TURN_S = 5, 0.03
SEED = 1


def main() -> int:
    """Prints and writes the table of one network and batch."""
    parser = argparse.ArgumentParser(prog="training_profile")
    parser.add_argument("network", choices=sorted(NETWORKS))
    parser.add_argument("batch", type=int)
    options = parser.parse_args()
    network, rng = NETWORKS[options.network], np.random.default_rng(SEED)
    bundle = compile_model(network.make(rng), loss="cross-entropy")
    graph = unpack(
        checked_graph(bundle.standalone(GRADIENT)), bundle.manifest.dimension
    )
    assert graph is not None
    feeds: Arrays = {
        "x": rng.random((options.batch, *network.row), np.float32),
        "y": rng.integers(0, network.classes, options.batch),
    }
    feeds |= {view.name: _part(bundle.theta, view) for view in graph.parameters}
    found = profile(onnx.load_from_string(write_graph(graph.graph)), feeds)
    whole = sum(found.values())
    for kind, microseconds in sorted(found.items(), key=lambda item: -item[1]):
        sys.stdout.write(f"{kind:<20} {microseconds:8.1f} us\n")
    sys.stdout.write(f"{'together':<20} {whole:8.1f} us\n")
    document = {**vars(options), "unit": "us", "operators": found}
    keep("training_profile", document)
    return 0


def profile(model: onnx.ModelProto, feeds: Arrays) -> dict[str, float]:
    """Microseconds of each operator; `run` is what a run takes without any work."""
    before = _microseconds(_idle(model), feeds)
    found = {"run": before}
    for count, node in enumerate(model.graph.node, 1):
        taken = _microseconds(_cut(model, count), feeds)
        found[node.op_type] = found.get(node.op_type, 0.0) + taken - before
        before = taken
    return found


def _idle(model: onnx.ModelProto) -> bytes:
    """The graph with nothing to do but to hand the labels on."""
    idle = onnx.ModelProto()
    idle.CopyFrom(model)
    del idle.graph.node[:]
    idle.graph.node.append(helper.make_node("Identity", ["y"], ["same"]))
    labels = helper.make_tensor_value_info("same", TensorProto.INT64, None)
    del idle.graph.output[:]
    idle.graph.output.append(labels)
    return _used_alone(idle)


def _part(theta: NDArray[np.float32], view: ParameterView) -> NDArray[np.float32]:
    return theta[view.start : view.stop].reshape(view.shape)


def _cut(model: onnx.ModelProto, count: int) -> bytes:
    """The first nodes, with all that none of them reads as outputs."""
    values = onnx.shape_inference.infer_shapes(model).graph.value_info
    kinds = {item.name: item.type.tensor_type.elem_type for item in values}
    wanted = {item.name for item in model.graph.output}
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    del cut.graph.node[count:]
    used = {name for node in cut.graph.node for name in node.input}
    made = [name for node in cut.graph.node for name in node.output]
    del cut.graph.output[:]
    for name in made:
        if name not in used or name in wanted:
            kind = kinds.get(name, TensorProto.FLOAT)
            info = helper.make_tensor_value_info(name, kind, None)
            cut.graph.output.append(info)
    return _used_alone(cut)


def _used_alone(model: onnx.ModelProto) -> bytes:
    """The model without the inputs and constants that no node reads."""
    used = {name for node in model.graph.node for name in node.input}
    inputs = [item for item in model.graph.input if item.name in used]
    tensors = [item for item in model.graph.initializer if item.name in used]
    del model.graph.input[:]
    del model.graph.initializer[:]
    model.graph.input.extend(inputs)
    model.graph.initializer.extend(tensors)
    data: bytes = model.SerializeToString()
    return data


def _microseconds(model: bytes, feeds: Arrays) -> float:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model, options, providers=["CPUExecutionProvider"]
    )
    binding = session.io_binding()
    named = {item.name: feeds[item.name] for item in session.get_inputs()}
    for name, array in named.items():
        binding.bind_cpu_input(name, array)
    names = [item.name for item in session.get_outputs()]
    results = [np.ascontiguousarray(item) for item in session.run(names, named)]
    for name, array in zip(names, results, strict=True):
        place = (array.dtype.type, array.shape, array.ctypes.data)
        binding.bind_output(name, "cpu", 0, *place)
    best = float("inf")
    for _ in range(TURNS):
        times = []
        end = time.perf_counter() + TURN_S
        while time.perf_counter() < end:
            start = time.thread_time()
            session.run_with_iobinding(binding)
            times.append(time.thread_time() - start)
        best = min(best, float(np.percentile(times, 20)))
    return 1e6 * best


if __name__ == "__main__":
    raise SystemExit(main())
