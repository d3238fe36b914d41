"""A right gradient is called right, a wrong one wrong, and a kink a kink."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from starling.compiler import Bundle, cli, compile_model
from starling.compiler.bundle import gradient_check
from starling.compiler.bundle.gradient_check import TOLERANCE, check_bundle
from starling.engine.onnx_graph import GraphNode
from starling.engine.opened_bundle import open_files
from starling.protocol.errors import OperationError
from starling.protocol.ids import H
from starling.protocol.model.training_bundle import GRADIENT, MANIFEST, PRIVATE_GRADIENT
from tests.unit.compiler.small_models import build, mlp, node, weight

RNG = np.random.default_rng(0)


def _kernel(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    """As Keras draws kernels (Glorot and Bengio 2010, equation 16)."""
    paths = int(np.prod(shape[1:])) + int(np.prod(shape[2:])) * shape[0]
    values: NDArray[np.float64] = rng.uniform(-1, 1, shape) * np.sqrt(6 / paths)
    return values.astype(np.float32)


def _tiny_unet(seed: int) -> onnx.ModelProto:
    rng = np.random.default_rng(seed)
    weights = {
        "k": _kernel(rng, 8, 1, 3, 3),
        "l": _kernel(rng, 16, 8, 3, 3),
        "u": _kernel(rng, 16, 8, 2, 2),
        "m": _kernel(rng, 1, 16, 1, 1),
    }
    nodes = [
        node("Conv", ["x", "k"], ["c"], pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"]),
        node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p", "l"], ["d"], pads=[1, 1, 1, 1]),
        node("Relu", ["d"], ["s"]),
        node("ConvTranspose", ["s", "u"], ["v"], strides=[2, 2]),
        node("Concat", ["v", "r"], ["t"], axis=1),
        node("Conv", ["t", "m"], ["z"]),
        node("Sigmoid", ["z"], ["out"]),
    ]
    return build(nodes, weights, (1, 32, 32), (1, 32, 32))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [73, 256, 267, 361])
def test_kink_within_the_step_is_no_error(seed: int) -> None:
    bundle = compile_model(_tiny_unet(seed), loss="bce")

    errors = check_bundle(bundle, np.random.default_rng(20240229))

    assert errors.worst <= TOLERANCE


def test_fresh_weights_at_a_kink_are_no_error() -> None:
    weights: dict[str, NDArray[np.generic]] = {
        "w": weight(RNG, 6, 4),
        "gain": np.ones(6, np.float32),
        "bias": np.zeros(6, np.float32),
        "v": weight(RNG, 6, 3),
    }
    # Behind the first ReLU half of the values are 0, and the bias leaves them there.
    nodes = [
        node("Gemm", ["x", "w"], ["h"], transB=1),
        node("Relu", ["h"], ["r"]),
        node("Mul", ["r", "gain"], ["g"]),
        node("Add", ["g", "bias"], ["b"]),
        node("Relu", ["b"], ["s"]),
        node("MatMul", ["s", "v"], ["out"]),
    ]
    bundle = compile_model(build(nodes, weights, (4,), (3,)), loss="mse")

    errors = check_bundle(bundle, np.random.default_rng(0))

    assert errors.worst <= TOLERANCE
    assert errors.kinks


def _spoilt(bundle: Bundle, factor: float) -> Bundle:
    """The same bundle with both gradients times a factor."""
    files = dict(bundle.files)
    for name in (GRADIENT, PRIVATE_GRADIENT):
        model = onnx.ModelProto()
        model.ParseFromString(files[name])
        graph = model.graph
        last = next(made for made in graph.node if "gradient" in made.output)
        last.output[0] = "right"
        number = numpy_helper.from_array(np.array(factor, np.float32), "factor")
        graph.initializer.append(number)
        graph.node.append(helper.make_node("Mul", ["right", "factor"], ["gradient"]))
        files[name] = model.SerializeToString()
    digests = {**bundle.manifest.digests}
    digests |= {name: H(files[name]) for name in (GRADIENT, PRIVATE_GRADIENT)}
    manifest = replace(bundle.manifest, digests=digests)
    files[MANIFEST] = manifest.to_json().encode()
    return replace(bundle, manifest=manifest, files=files, opened=open_files(files))


@pytest.mark.parametrize("factor", [1.003, -1.0, 0.5])
def test_wrong_gradient_is_called_wrong(factor: float) -> None:
    bundle = compile_model(mlp(), loss="cross-entropy")

    with pytest.raises(OperationError, match="the gradients are wrong"):
        check_bundle(_spoilt(bundle, factor), np.random.default_rng(0))


def test_wrong_gradient_of_a_model_with_kinks_is_called_wrong() -> None:
    bundle = compile_model(_tiny_unet(73), loss="bce")

    with pytest.raises(OperationError, match="the gradients are wrong"):
        check_bundle(_spoilt(bundle, 1.05), np.random.default_rng(20240229))


def _sensitive() -> onnx.ModelProto:
    """Layers that make each rounding larger, as a net with chaotic activity does."""
    rng = np.random.default_rng(0)
    names = [f"w{layer}" for layer in range(80)]
    weights = {
        name: (0.7 * rng.standard_normal((8, 8))).astype(np.float32) for name in names
    }
    nodes, value = [], "x"
    for name in names:
        nodes.append(node("MatMul", [value, name], [f"{name}-sum"]))
        nodes.append(node("Tanh", [f"{name}-sum"], [value := f"{name}-out"]))
    weights["last"] = rng.standard_normal((8, 3)).astype(np.float32)
    nodes.append(node("MatMul", [value, "last"], ["out"]))
    return build(nodes, weights, (8,), (3,))


def test_rounding_that_many_layers_make_larger_is_no_error() -> None:
    bundle = compile_model(_sensitive(), loss="mse")

    errors = check_bundle(bundle, np.random.default_rng(0))

    assert errors.worst <= TOLERANCE


def test_wrong_gradient_of_a_model_that_rounds_much_is_called_wrong() -> None:
    bundle = compile_model(_sensitive(), loss="mse")

    with pytest.raises(OperationError, match="the gradients are wrong"):
        check_bundle(_spoilt(bundle, 1.003), np.random.default_rng(0))


def _idle(factor: float) -> onnx.ModelProto:
    weights: dict[str, NDArray[np.generic]] = {
        "a": weight(RNG, 4, 5),
        "b": factor * weight(RNG, 5, 3),
    }
    nodes = [
        node("MatMul", ["x", "a"], ["h"]),
        node("Relu", ["h"], ["r"]),
        node("MatMul", ["r", "b"], ["out"]),
    ]
    return build(nodes, weights, (4,), (3,))


def test_weight_without_a_gradient_is_named() -> None:
    bundle = compile_model(_idle(0.0), loss="mse")

    errors = check_bundle(bundle, np.random.default_rng(0))

    assert errors.idle == ("a",)


@pytest.mark.parametrize(
    ("factor", "said"), [(0.0, "zero for every example: a"), (1.0, "")]
)
def test_command_says_what_no_example_moves(
    factor: float,
    said: str,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path_factory.mktemp("idle") / "m.onnx"
    onnx.save(_idle(factor), path)

    cli.main([str(path), "--loss", "mse", "--check"])

    assert ("warning: the gradient" in capsys.readouterr().err) == bool(said)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_model_that_overflows_is_not_called_wrong() -> None:
    nodes = [
        node("MatMul", ["x", "a"], ["h"]),
        node("Exp", ["h"], ["e"]),
        node("Exp", ["e"], ["f"]),
        node("MatMul", ["f", "b"], ["out"]),
    ]
    weights = {"a": 90 * np.ones((4, 5), np.float32), "b": weight(RNG, 5, 3)}
    bundle = compile_model(build(nodes, weights, (4,), (3,)), loss="mse")

    with pytest.raises(OperationError, match="the model overflows"):
        check_bundle(bundle, np.random.default_rng(0))


def _looked_up(rows: int) -> onnx.ModelProto:
    """Tokens name rows of a table, and places of what a row holds, too."""
    nodes = [
        node("Cast", ["x"], ["k"], to=onnx.TensorProto.INT64),
        node("Gather", ["table", "k"], ["e"]),
        node("ReduceMean", ["e"], ["p"], axes=[1], keepdims=0),
        node("GatherElements", ["p", "k"], ["g"], axis=1),
        node("MatMul", ["g", "w"], ["out"]),
    ]
    weights = {"table": weight(RNG, rows, 5), "w": weight(RNG, 4, 3)}
    return build(nodes, weights, (4,), (3,))


def test_examples_that_name_no_place_are_drawn_again() -> None:
    # Tokens of a table of 60 rows are places of a row of 5 hardly ever.
    bundle = compile_model(_looked_up(60), loss="mse")

    errors = check_bundle(bundle, np.random.default_rng(0))

    assert errors.worst <= TOLERANCE
    assert errors.idle == ()


def test_bundle_that_runs_on_no_examples_is_one_line() -> None:
    bundle = compile_model(_looked_up(60), loss="mse")
    far = replace(bundle.opened.graphs[GRADIENT], nodes=_shifted(bundle))
    graphs = {**bundle.opened.graphs, GRADIENT: far}
    broken = replace(bundle, opened=replace(bundle.opened, graphs=graphs))

    with pytest.raises(OperationError, match="cannot be checked") as caught:
        check_bundle(broken, np.random.default_rng(0))

    assert "\n" not in str(caught.value)


def _shifted(bundle: Bundle) -> tuple[GraphNode, ...]:
    """The nodes of its gradient, which look places up in what has fewer axes."""
    return tuple(
        [
            replace(made, attributes={**made.attributes, "axis": 7})
            if made.operator == "GatherElements"
            else made
            for made in bundle.opened.graphs[GRADIENT].nodes
        ]
    )


def _deep(depth: int) -> onnx.ModelProto:
    """Two linear layers with so many elementwise nodes between them."""
    nodes = [node("MatMul", ["x", "a"], ["v0"])]
    for index in range(depth):
        source, earlier = f"v{index}", f"v{max(0, index - 2)}"
        inputs = [source, earlier] if index % 2 else [source]
        nodes.append(node("Add" if index % 2 else "Tanh", inputs, [f"v{index + 1}"]))
    nodes.append(node("MatMul", [f"v{depth}", "b"], ["out"]))
    weights: dict[str, NDArray[np.generic]] = {
        "a": weight(RNG, 4, 5),
        "b": weight(RNG, 5, 3),
    }
    return build(nodes, weights, (4,), (3,))


def test_graph_too_large_to_be_optimised_is_judged_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gradient_check, "OPTIMISED_NODES_MAX", 0)
    bundle = compile_model(_deep(6), loss="mse")

    errors = check_bundle(bundle, np.random.default_rng(0))

    assert errors.worst <= TOLERANCE
    with pytest.raises(OperationError, match="the gradients are wrong"):
        check_bundle(_spoilt(bundle, 1.003), np.random.default_rng(0))


@pytest.mark.slow
def test_graph_of_thousands_of_nodes_is_checked() -> None:
    bundle = compile_model(_deep(2_000), loss="mse")

    errors = check_bundle(bundle, np.random.default_rng(0))

    assert errors.worst <= TOLERANCE
