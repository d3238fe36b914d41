"""Weights that an exporter wrote as several are one again, or are told."""

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from starling.compiler import Bundle, compile_model
from starling.compiler.bundle.gradient_check import TOLERANCE, check_bundle
from starling.compiler.parameters import weight_tying
from starling.protocol.errors import ConfigError
from tests.unit.compiler.parameters.declared import declared
from tests.unit.compiler.small_models import build, node, weight

RNG = np.random.default_rng(0)


def _trained(bundle: Bundle) -> list[str]:
    return [item.name for item in bundle.manifest.parameters]


def _sound(bundle: Bundle) -> bool:
    return check_bundle(bundle, np.random.default_rng(1)).worst <= TOLERANCE


def _pair(second: NDArray[np.generic], **more: int | list[int]) -> onnx.ModelProto:
    """Two layers, (4, 6) and what is told."""
    first = weight(np.random.default_rng(5), 4, 6)
    nodes = [
        node("MatMul", ["x", "a"], ["h"]),
        node("Tanh", ["h"], ["t"]),
        node("Gemm", ["t", "b"], ["out"], "", **more),
    ]
    return build(nodes, {"a": first, "b": second}, (4,), (4,))


FIRST = weight(np.random.default_rng(5), 4, 6)


def test_transpose_of_a_weight_is_trained_as_one_with_it() -> None:
    bundle = compile_model(_pair(FIRST.T.copy()), loss="mse")

    assert _trained(bundle) == ["a"]
    assert bundle.notes == ("b is made of a and trained as one with it",)
    assert _sound(bundle)


def test_other_shape_of_a_weight_is_trained_as_one_with_it() -> None:
    bundle = compile_model(_pair(FIRST.reshape(6, 4)), loss="mse")

    assert _trained(bundle) == ["a"]
    assert _sound(bundle)


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(-FIRST.T, id="negated"),
        pytest.param(3 * FIRST.T, id="scaled"),
        pytest.param(FIRST.T[::-1].copy(), id="turned over"),
    ],
)
def test_weight_made_of_another_in_other_ways_is_told(
    second: NDArray[np.float32],
) -> None:
    (line,) = compile_model(_pair(second.copy()), loss="mse").notes

    assert "b like a" in line


def test_copies_of_a_weight_are_told_and_tied_on_demand() -> None:
    proto = _pair(FIRST.copy(), transB=1)

    apart = compile_model(proto, loss="mse")
    tied = compile_model(proto, loss="mse", tie=[["a", "b"]])

    assert _trained(apart) == ["a", "b"]
    assert any("--tie a,b" in line for line in apart.notes)
    assert _trained(tied) == ["a"]
    assert _sound(tied)


@pytest.mark.parametrize(
    ("group", "message"),
    [(["a", "c"], "'c' is none"), (["a", "b"], "other values")],
    ids=["no weight", "other values"],
)
def test_tie_of_what_is_not_one_weight_is_refused(
    group: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        compile_model(_pair(weight(RNG, 6, 4)), loss="mse", tie=[group])


def test_fresh_weights_of_equal_values_are_not_told() -> None:
    nodes = [
        node("Mul", ["x", "a"], ["h"]),
        node("Tanh", ["h"], ["t"]),
        node("Mul", ["t", "b"], ["out"]),
    ]
    ones = np.ones(4, np.float32)

    bundle = compile_model(build(nodes, {"a": ones, "b": ones}, (4,), (4,)), loss="mse")

    assert _trained(bundle) == ["a", "b"]
    assert bundle.notes == ()


@pytest.mark.parametrize("is_told", [True, False])
def test_square_of_a_weight_is_computed_from_it_again(*, is_told: bool) -> None:
    value = weight(RNG, 4, 3)
    nodes = [
        node("MatMul", ["x", "v"], ["h"]),
        node("MatMul", ["x", "pow_3"], ["q"]),
        node("Sub", ["h", "q"], ["out"]),
    ]
    proto = build(nodes, {"v": value, "pow_3": value * value}, (4,), (3,))
    if is_told:
        proto = declared(proto, {"v": "PARAMETER"}, {"pow_3": ["v", "val_2"]})

    bundle = compile_model(proto, loss="mse")

    assert _trained(bundle) == ["v"]
    assert _sound(bundle)


def test_copies_of_what_one_parameter_was_laid_out_as_are_one_weight() -> None:
    """PyTorch's newer exporter lays a GRU's weights out for each call of it."""
    proto = _pair(FIRST.copy(), transB=1)
    kinds = {"cell.weight": "PARAMETER", "other": "PARAMETER"}
    folded = {"a": ["cell.weight", "val_1"], "b": ["cell.weight", "val_2"]}

    one = compile_model(declared(proto, kinds, folded), loss="mse")
    two = compile_model(
        declared(_pair(FIRST.copy(), transB=1), kinds, {**folded, "b": ["other"]}),
        loss="mse",
    )

    assert _trained(one) == ["a"]
    assert _sound(one)
    assert _trained(two) == ["a", "b"]


def _normalised(gain: NDArray[np.float32]) -> onnx.ModelProto:
    """Two normalisations whose gain the exporter wrote once."""
    nodes = [
        node("LayerNormalization", ["x", "1.weight"], ["h"], axis=-1),
        node("Tanh", ["h"], ["t"]),
        node("LayerNormalization", ["t", "1.weight"], ["out"], axis=-1),
    ]
    kinds = {"1.weight": "PARAMETER", "4.weight": "PARAMETER"}
    proto = build(nodes, {"1.weight": gain}, (4,), (4,))
    return declared(proto, kinds, modules=["1", "2", "4"])


def test_fresh_gains_that_were_merged_are_parted_by_their_modules() -> None:
    bundle = compile_model(_normalised(np.ones(4, np.float32)), loss="mse")

    assert _trained(bundle) == ["1.weight", "4.weight"]
    assert any("one weight for several modules" in line for line in bundle.notes)
    assert _sound(bundle)


def test_trained_weight_of_two_modules_is_told_and_parted_on_demand() -> None:
    proto = _normalised(1 + RNG.random(4, np.float32))

    shared = compile_model(proto, loss="mse")
    parted = compile_model(proto, loss="mse", untie=True)

    assert _trained(shared) == ["1.weight"]
    assert any("--untie" in line for line in shared.notes)
    assert _trained(parted) == ["1.weight", "4.weight"]


@pytest.mark.parametrize(
    ("second", "expected"),
    [("/lin_1/MatMul", 1), ("/other/MatMul", 2)],
    ids=["one module called twice", "two modules"],
)
def test_second_call_of_a_module_reads_the_same_weight(
    second: str, expected: int
) -> None:
    nodes = [
        node("Identity", ["onnx::MatMul_17"], ["onnx::MatMul_18"]),
        node("MatMul", ["x", "onnx::MatMul_17"], ["h"], "/lin/MatMul"),
        node("Tanh", ["h"], ["t"]),
        node("MatMul", ["t", "onnx::MatMul_18"], ["out"], second),
    ]
    proto = build(nodes, {"onnx::MatMul_17": weight(RNG, 4, 4)}, (4,), (4,))

    bundle = compile_model(proto, loss="mse")

    assert len(_trained(bundle)) == expected
    assert _sound(bundle)


def test_weights_of_one_shape_are_told_apart_without_looking_at_each_pair(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pairs = 0
    count = 60
    whole = weight_tying._close

    def counting(left: NDArray[np.float32], right: NDArray[np.generic]) -> bool:
        nonlocal pairs
        pairs += 1
        return whole(left, right)

    monkeypatch.setattr(weight_tying, "_close", counting)
    weights = {f"w{n}": weight(RNG, 6, 6) for n in range(count)}
    weights |= {"minus": -weights["w7"], "turned": weights["w9"][::-1].copy()}
    proto = build([node("MatMul", ["x", "w0"], ["out"])], weights, (6,), (6,))

    _, lines = weight_tying.tied(proto, list(weights), None)

    assert any("minus like w7" in line for line in lines)
    assert any("turned like w9" in line for line in lines)
    assert pairs < count
