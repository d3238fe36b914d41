"""What exporters do to weights is taken back, or said."""

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from starling.compiler import compile_model
from starling.compiler.bundle.gradient_check import TOLERANCE, check_bundle
from starling.compiler.errors import CompileError
from starling.compiler.parameters.exporter_fixups import merged
from tests.unit.compiler.small_models import build, mlp, node, weight


def _two_layers(*, named: bool) -> onnx.ModelProto:
    """Two equal layers, the second one's weight known by its name or not at all."""
    rng = np.random.default_rng(1)
    second = "b.weight" if named else "a.weight"
    nodes = [
        node("Identity", ["a.weight"], ["b.weight"]),
        node("MatMul", ["x", "a.weight"], ["h"]),
        node("Tanh", ["h"], ["t"]),
        node("MatMul", ["t", second], ["out"]),
    ]
    return build(
        nodes[0 if named else 1 :], {"a.weight": weight(rng, 4, 4)}, (4,), (4,)
    )


def _scoped(proto: onnx.ModelProto, *scopes: str) -> onnx.ModelProto:
    for made, scope in zip(proto.graph.node, scopes, strict=True):
        made.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=scope)
    return proto


def test_merged_weights_that_kept_their_names_are_trained_apart() -> None:
    bundle = compile_model(_two_layers(named=True), loss="mse")

    assert [item.name for item in bundle.manifest.parameters] == [
        "a.weight",
        "b.weight",
    ]
    np.testing.assert_array_equal(bundle.theta[:16], bundle.theta[16:])
    assert any("--tie a.weight,b.weight" in line for line in bundle.notes)


def test_statistics_equal_to_trained_gains_stay_constants() -> None:
    rng = np.random.default_rng(2)
    gains = {"gain": np.ones(3, np.float32), "bias": np.zeros(3, np.float32)}
    nodes = [
        node("Conv", ["x", "w"], ["h"]),
        node("Sigmoid", ["h"], ["s"]),
        node("BatchNormalization", ["s", "gain", "bias", "bias", "gain"], ["out"]),
    ]
    proto = build(nodes, {"w": weight(rng, 3, 2, 1, 1), **gains}, (2, 3, 3), (3, 3, 3))

    bundle = compile_model(proto, loss="mse")

    assert bundle.manifest.dimension == 6 + 3 + 3
    assert check_bundle(bundle, np.random.default_rng(0)).worst <= TOLERANCE


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        pytest.param(
            ("['', 'a', 'linear']", "['', 'tanh']", "['', 'b', 'linear_1']"),
            ("a.weight",),
            id="another module",
        ),
        pytest.param(
            ("['', 'a', 'linear']", "['', 'tanh']", "['', 'a', 'linear_1']"),
            (),
            id="the same module twice",
        ),
        pytest.param(("['', 'a', 'linear']", "", "['', 'm"), (), id="no scopes"),
    ],
)
def test_weight_read_in_another_module_is_told(
    scopes: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    proto = _scoped(_two_layers(named=False), *scopes)

    assert merged(proto, ["a.weight"]) == expected


def test_cast_like_takes_the_type_that_is_inferred() -> None:
    rng = np.random.default_rng(3)
    weights: dict[str, NDArray[np.generic]] = {
        "w": weight(rng, 4, 4),
        "two": np.array(2, np.int64),
    }
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("CastLike", ["two", "h"], ["c"]),
        node("Mul", ["h", "c"], ["out"]),
    ]

    bundle = compile_model(build(nodes, weights, (4,), (4,)), loss="mse")

    assert check_bundle(bundle, np.random.default_rng(0)).worst <= TOLERANCE


def test_input_without_a_gradient_that_needs_one_is_refused() -> None:
    rng = np.random.default_rng(4)
    weights = {"w": weight(rng, 4, 4), "low": np.array(-1, np.float32)}
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("ReduceMax", ["w"], ["high"], keepdims=0),
        node("Clip", ["h", "low", "high"], ["out"]),
    ]
    nodes[1].attribute.append(onnx.helper.make_attribute("axes", [0, 1]))

    with pytest.raises(CompileError, match="through its input 'high'"):
        compile_model(build(nodes, weights, (4,), (4,)), loss="mse")


def test_model_without_merged_weights_tells_nothing() -> None:
    assert merged(mlp(), ["hidden.weight"]) == ()
