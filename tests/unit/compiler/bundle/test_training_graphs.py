from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx.shape_inference import infer_shapes

from starling.compiler import Bundle, compile_model
from starling.compiler.bundle.gradient_check import TOLERANCE, check_bundle
from starling.compiler.errors import CompileError
from starling.engine.graph_check import checked_graph
from starling.protocol.errors import ConfigError
from starling.protocol.model.training_bundle import (
    EVALUATE,
    GRADIENT,
    INFER,
    PRIVATE_GRADIENT,
)
from starling.protocol.privacy.clipping_functions import SUM_BLOCK, clip_margin
from tests.unit.compiler.small_models import build, cnn, mlp, node, weight

Arrays = list[NDArray[np.float32]]
MODELS = {"mlp": mlp, "cnn": cnn}


@cache
def _bundle(name: str) -> Bundle:
    return compile_model(MODELS[name](), loss="cross-entropy")


def _run(bundle: Bundle, file: str, **inputs: NDArray[np.generic]) -> Arrays:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        bundle.standalone(file), options, providers=["CPUExecutionProvider"]
    )
    results: Arrays = session.run(None, {"theta": bundle.theta, **inputs})
    return results


def _batch(bundle: Bundle, n: int) -> dict[str, NDArray[np.generic]]:
    rng = np.random.default_rng(n)
    x = rng.standard_normal((n, *bundle.manifest.input.shape)).astype(np.float32)
    return {"x": x, "y": rng.integers(0, bundle.manifest.output.shape[0], n)}


def _clip(value: float) -> NDArray[np.float32]:
    return np.array(value, np.float32)


INTERFACES = {
    INFER: (("theta", "x"), ("output",)),
    EVALUATE: (("theta", "x", "y"), ("loss", "output")),
    GRADIENT: (("theta", "x", "y"), ("gradient", "loss")),
    PRIVATE_GRADIENT: (("theta", "x", "y", "clip"), ("gradient", "loss", "norm")),
}


@pytest.mark.parametrize("file", INTERFACES)
def test_graph_has_the_ports_of_the_design(file: str) -> None:
    graph = checked_graph(_bundle("cnn").standalone(file))

    inputs = tuple([port.name for port in graph.inputs])
    outputs = tuple([port.name for port in graph.outputs])
    assert (inputs, outputs) == INTERFACES[file]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("n", [1, 2, 33])
def test_graphs_at_any_batch_agree_on_the_loss(name: str, n: int) -> None:
    bundle = _bundle(name)
    batch = _batch(bundle, n)

    evaluated, output = _run(bundle, EVALUATE, **batch)
    gradient, loss = _run(bundle, GRADIENT, **batch)
    clipped, private, norm = _run(bundle, PRIVATE_GRADIENT, clip=_clip(1), **batch)

    np.testing.assert_allclose(loss, evaluated, rtol=1e-5)
    np.testing.assert_allclose(private, evaluated, rtol=1e-5)
    np.testing.assert_allclose(output, _run(bundle, INFER, x=batch["x"])[0])
    assert gradient.shape == clipped.shape == (bundle.manifest.dimension,)
    assert loss.shape == norm.shape == (n,)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("share", [0.01, 0.5, 0.999, 1.0])
def test_clipped_gradient_of_one_example_is_never_longer_than_the_clip(
    name: str, share: float
) -> None:
    bundle = _bundle(name)
    batch = _batch(bundle, 1)
    plain = _run(bundle, GRADIENT, **batch)[0].astype(np.float64)
    clip = _clip(share * float(np.linalg.norm(plain)))

    clipped = _run(bundle, PRIVATE_GRADIENT, clip=clip, **batch)[0].astype(np.float64)

    length = float(np.linalg.norm(clipped))
    margin = clip_margin(bundle.manifest.dimension)
    assert float(clip) * (1 - 2 * margin) <= length <= float(clip)


@pytest.mark.parametrize("size", [9000, 8209 * 3, 20011, 70001])
def test_squares_of_a_long_tensor_are_added_up_in_blocks(size: int) -> None:
    rng = np.random.default_rng(3)
    nodes = [
        node("Mul", ["x", "w"], ["h"]),
        node("Tanh", ["h"], ["t"]),
        node("ReduceSum", ["t", "one"], ["out"], keepdims=1),
    ]
    weights: dict[str, NDArray[np.generic]] = {
        "w": weight(rng, size),
        "one": np.array([1], np.int64),
    }
    bundle = compile_model(build(nodes, weights, (size,), (1,)), loss="mse")
    batch = {
        "x": rng.standard_normal((1, size)).astype(np.float32),
        "y": np.zeros((1, 1), np.float32),
    }
    plain = _run(bundle, GRADIENT, **batch)[0].astype(np.float64)
    true = float(np.linalg.norm(plain))

    clipped, _, norm = _run(bundle, PRIVATE_GRADIENT, clip=_clip(true / 2), **batch)

    graph = infer_shapes(onnx.load_from_string(bundle.files[PRIVATE_GRADIENT])).graph
    shapes = {
        info.name: [size.dim_value for size in info.type.tensor_type.shape.dim]
        for info in graph.value_info
    }
    sums = [made for made in graph.node if made.op_type == "ReduceSum"]
    widths = [shapes[made.input[0]][-1] for made in sums if made.input[0] in shapes]
    # The model itself sums its values, once.
    assert sorted(widths)[-2] <= 2 * SUM_BLOCK < sorted(widths)[-1] == size
    np.testing.assert_allclose(norm, [true], rtol=1e-6)
    length = float(np.linalg.norm(clipped.astype(np.float64)))
    assert true / 2 * 0.998 <= length <= true / 2


@pytest.mark.parametrize("share", [0.0, 0.01, 1.0, 100.0])
def test_automatic_clipping_is_what_its_definition_says(share: float) -> None:
    bundle = compile_model(cnn(), loss="cross-entropy", clipping="automatic")
    batch = _batch(bundle, 6)
    rows = [{key: value[k : k + 1] for key, value in batch.items()} for k in range(6)]
    singles = np.stack([_run(bundle, GRADIENT, **row)[0] for row in rows]).astype(float)
    norms = np.linalg.norm(singles, axis=1)
    clip = _clip(share * float(np.median(norms)))

    total, _, norm = _run(bundle, PRIVATE_GRADIENT, clip=clip, **batch)
    alone = [_run(bundle, PRIVATE_GRADIENT, clip=clip, **row)[0] for row in rows]

    expected = (float(clip) / (norms + 0.01)) @ singles
    np.testing.assert_allclose(norm, norms, rtol=1e-5)
    spread = 2e-3 * max(float(np.linalg.norm(expected)), 1e-30)
    assert float(np.linalg.norm(total.astype(float) - expected)) <= spread
    for part in alone:
        assert float(np.linalg.norm(part.astype(float))) <= float(clip)


def test_check_passes_a_bundle_that_clips_automatically() -> None:
    bundle = compile_model(mlp(), loss="cross-entropy", clipping="automatic")

    assert check_bundle(bundle, np.random.default_rng(2)).worst <= TOLERANCE


def test_weight_much_larger_than_its_factors_takes_one_product() -> None:
    rng = np.random.default_rng(4)
    weights = {"w": weight(rng, 24, 8, 3), "b": weight(rng, 24)}
    nodes = [
        node("Conv", ["x", "w", "b"], ["h"], pads=[1, 1]),
        node("Tanh", ["h"], ["out"]),
    ]
    bundle = compile_model(build(nodes, weights, (8, 4), (24, 4)), loss="mse")

    assert check_bundle(bundle, rng).worst <= TOLERANCE
    assert "Gemm" in checked_graph(bundle.standalone(GRADIENT)).operators
    assert "Gemm" not in checked_graph(bundle.standalone(PRIVATE_GRADIENT)).operators


def test_graph_of_more_nodes_than_boards_take_is_refused_with_a_way_out() -> None:
    rng, layers = np.random.default_rng(0), 700
    nodes, value = [], "x"
    for layer in range(layers):
        nodes.append(node("MatMul", [value, f"w{layer}"], [f"s{layer}"]))
        nodes += [
            node("Tanh", [f"s{layer}"], [f"t{layer}"]),
            node("Sigmoid", [f"t{layer}"], [f"g{layer}"]),
            node("Mul", [f"t{layer}", f"g{layer}"], [f"m{layer}"]),
            node("Softplus", [f"m{layer}"], [value := f"o{layer}"]),
        ]
    weights = {f"w{layer}": weight(rng, 4, 4) for layer in range(layers)}
    nodes[-1].output[0] = "out"
    model = build(nodes, weights, (4,), (4,))

    with pytest.raises(CompileError, match=r"private_gradient graph has .*--train"):
        compile_model(model, loss="mse")

    last = compile_model(model, loss="mse", train=(f"w{layers - 1}",))
    assert last.manifest.dimension == 16


def test_clipping_that_is_not_known_is_refused() -> None:
    with pytest.raises(ConfigError, match="median"):
        compile_model(mlp(), loss="cross-entropy", clipping="median")


def test_private_gradient_under_a_wide_clip_is_the_plain_one() -> None:
    bundle = _bundle("cnn")
    batch = _batch(bundle, 5)

    plain = _run(bundle, GRADIENT, **batch)[0]
    private = _run(bundle, PRIVATE_GRADIENT, clip=_clip(1e6), **batch)[0]

    np.testing.assert_allclose(private, plain, atol=1e-5 * float(np.abs(plain).max()))


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_private_gradient_of_nothing_is_zero_and_finite(clip: float) -> None:
    weights = {"w": np.zeros((4, 3), np.float32)}
    model = build([node("MatMul", ["x", "w"], ["out"])], weights, (4,), (3,))
    bundle = compile_model(model, loss="mse")
    x = np.ones((2, 4), np.float32)
    y = np.zeros((2, 3), np.float32)

    gradient, _, norm = _run(bundle, PRIVATE_GRADIENT, x=x, y=y, clip=_clip(clip))

    assert not gradient.any()
    assert not norm.any()


def test_gradient_of_tied_maxima_goes_to_the_first_one() -> None:
    weights = {"w": np.ones((1, 1, 1, 1), np.float32), "b": np.zeros(1, np.float32)}
    nodes = [
        node("Conv", ["x", "w", "b"], ["h"]),
        node("MaxPool", ["h"], ["out"], kernel_shape=[2, 2], strides=[2, 2]),
    ]
    bundle = compile_model(build(nodes, weights, (1, 2, 2), (1, 1, 1)), loss="mse")
    x = np.ones((1, 1, 2, 2), np.float32)
    y = np.zeros((1, 1, 1, 1), np.float32)

    gradient = _run(bundle, GRADIENT, x=x, y=y)[0]

    # d(1 - 0)^2 = 2, once for the weight and once for the bias.
    np.testing.assert_array_equal(gradient, [2.0, 2.0])


def test_norm_of_what_cancels_is_never_underestimated() -> None:
    rng = np.random.default_rng(3)
    weights = {"w": weight(rng, 40, 30)}
    model = build([node("MatMul", ["x", "w"], ["out"])], weights, (2, 40), (2, 30))
    bundle = compile_model(model, loss="mse")
    half = rng.standard_normal((1, 1, 40)).astype(np.float32)
    x = np.concatenate([half, -half], axis=1)
    output = _run(bundle, INFER, x=x)[0]
    # Opposite inputs with equal errors: the two positions cancel.
    y = output - rng.standard_normal((1, 1, 30)).astype(np.float32)
    plain = np.linalg.norm(_run(bundle, GRADIENT, x=x, y=y)[0])
    clip = _clip(1e-9)

    clipped = _run(bundle, PRIVATE_GRADIENT, x=x, y=y, clip=clip)[0]

    assert plain < 1e-5
    assert float(np.linalg.norm(clipped.astype(np.float64))) <= float(clip)


def test_parts_that_cancel_within_one_example_leave_no_rounding_in_the_sum() -> None:
    rng = np.random.default_rng(4)
    weights = {"w": weight(rng, 40, 30)}
    model = build([node("MatMul", ["x", "w"], ["out"])], weights, (2, 40), (2, 30))
    bundle = compile_model(model, loss="mse")
    half = 1000 * rng.standard_normal((1, 1, 40)).astype(np.float32)
    x = np.concatenate([half, -half], axis=1)
    error = 1000 * rng.standard_normal((1, 1, 30)).astype(np.float32)
    # Two examples; the first one's two positions cancel, the second is ordinary.
    x = np.concatenate([x, 1e-3 * rng.standard_normal((1, 2, 40))]).astype(np.float32)
    output = _run(bundle, INFER, x=x)[0]
    y = np.concatenate([output[:1] - error, output[1:] - 0.1]).astype(np.float32)
    clip = _clip(1e-5)

    both = _run(bundle, PRIVATE_GRADIENT, x=x, y=y, clip=clip)[0].astype(np.float64)
    alone = _run(bundle, PRIVATE_GRADIENT, x=x[1:], y=y[1:], clip=clip)[0]

    assert float(np.linalg.norm(both - alone)) <= float(clip) * (1 + 2.0**-13)


def test_example_that_is_no_number_spoils_only_its_own_norm() -> None:
    bundle = _bundle("cnn")
    batch = _batch(bundle, 3)
    good = _run(bundle, PRIVATE_GRADIENT, clip=_clip(1), **batch)[2]
    batch["x"][1, 0, 5, 5] = np.nan

    norm = _run(bundle, PRIVATE_GRADIENT, clip=_clip(1), **batch)[2]

    np.testing.assert_array_equal(np.isfinite(norm), [True, False, True])
    np.testing.assert_allclose(norm[[0, 2]], good[[0, 2]], rtol=1e-6)


def test_label_outside_the_classes_stops_the_run() -> None:
    bundle = _bundle("mlp")
    x = np.zeros((1, 8), np.float32)

    with pytest.raises(Exception, match="Out of range"):
        _run(bundle, GRADIENT, x=x, y=np.array([3]))


def test_weight_without_influence_is_left_out() -> None:
    rng = np.random.default_rng(0)
    weights = {"w": weight(rng, 4, 3), "idle": weight(rng, 4, 3)}
    nodes = [
        node("MatMul", ["x", "idle"], ["unused"]),
        node("MatMul", ["x", "w"], ["out"]),
    ]

    bundle = compile_model(build(nodes, weights, (4,), (3,)), loss="mse")

    assert [item.name for item in bundle.manifest.parameters] == ["w"]


LAYERS = st.lists(
    st.sampled_from(["conv", "same", "relu", "tanh", "max", "average", "scale"]),
    max_size=5,
)


@settings(max_examples=25, deadline=None)
@given(layers=LAYERS, seed=st.integers(0, 2**32), loss=st.sampled_from(["mse", "bce"]))
def test_random_networks_have_exact_gradients(
    layers: list[str], seed: int, loss: str
) -> None:
    rng = np.random.default_rng(seed)
    size, channels = 8, 2
    weights = {}
    nodes = []
    value = "x"
    for index, layer in enumerate(layers):
        name = f"v{index}"
        if layer in ("max", "average") and size >= 2:
            kind = "MaxPool" if layer == "max" else "AveragePool"
            window = [2, 2]
            nodes.append(
                node(kind, [value], [name], kernel_shape=window, strides=window)
            )
            size //= 2
        elif layer in ("conv", "same") and size >= 3:
            weights[f"w{index}"] = weight(rng, 3, channels, 3, 3)
            pads = [int(layer == "same")] * 4
            inputs = [value, f"w{index}"]
            nodes.append(node("Conv", inputs, [name], pads=pads))
            size, channels = size - 2 + 2 * pads[0], 3
        elif layer == "scale":
            weights[f"w{index}"] = weight(rng, channels, 1, size)
            nodes.append(node("Mul", [value, f"w{index}"], [name]))
        else:
            kind = "Relu" if layer == "relu" else "Tanh"
            nodes.append(node(kind, [value], [name]))
        value = name
    weights["head"] = weight(rng, 2, channels * size * size)
    nodes.append(node("Flatten", [value], ["flat"]))
    nodes.append(node("Gemm", ["flat", "head"], ["out"], transB=1))

    bundle = compile_model(build(nodes, weights, (2, 8, 8), (2,)), loss=loss)

    assert check_bundle(bundle, rng).worst <= TOLERANCE
