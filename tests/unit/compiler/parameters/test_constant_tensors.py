"""Values and places by which a tensor is known to be no weight."""

import numpy as np
import pytest
from numpy.typing import NDArray

from starling.compiler.ir.network import NetworkNode
from starling.compiler.parameters import constant_tensors

RNG = np.random.default_rng(0)
Values = NDArray[np.float32]


def _positions(length: int, width: int) -> Values:
    angles = np.arange(length)[:, None] / 1e4 ** (np.arange(0, width, 2) / width)
    pairs = np.stack([np.sin(angles), np.cos(angles)], axis=2)
    table: Values = pairs.reshape(length, width).astype(np.float32)
    return table


def _filters() -> Values:
    centres = np.arange(1, 6) * 6
    rows = 1 - np.abs(np.arange(36) - centres[:, None]) / 6
    bank: Values = np.maximum(rows, 0).astype(np.float32)
    return bank


def _cosines(size: int) -> Values:
    places = (np.arange(size) + 0.5)[None] * np.arange(size)[:, None]
    table: Values = np.cos(np.pi / size * places).astype(np.float32)
    return table


ADJACENCY: Values = (RNG.random((5, 5)) + 0.1).astype(np.float32)
AVERAGES: Values = ADJACENCY / ADJACENCY.sum(1, keepdims=True)
BLUR: Values = np.outer([1, 2, 1], [1, 2, 1]).astype(np.float32) / np.float32(16)
SOBEL: Values = np.outer([1, 2, 1], [-1, 0, 1]).astype(np.float32)
ONE_MASK = np.triu(np.ones((4, 4), np.float32), 1)

NO_WEIGHTS: dict[str, Values] = {
    "positions": _positions(7, 8),
    "positions with leading axes": _positions(6, 4)[None],
    "zeros and ones": ONE_MASK,
    "mel filters": _filters(),
    "adjacency, symmetric": ADJACENCY + ADJACENCY.T,
    "adjacency, rows that sum to one": AVERAGES,
    "blur of each channel": np.tile(BLUR, (3, 1, 1, 1)),
    "one blur": BLUR[None, None],
    "edges of each channel": np.tile(SOBEL, (3, 1, 1, 1)),
    "cosine transform": _cosines(6),
    "cosine transform, turned": _cosines(6).T.copy(),
}


@pytest.mark.parametrize("case", NO_WEIGHTS)
def test_values_of_a_constant_are_known(case: str) -> None:
    assert constant_tensors.by_value(NO_WEIGHTS[case])


WEIGHTS: dict[str, Values] = {
    "normal": RNG.standard_normal((6, 6)).astype(np.float32),
    "uniform": RNG.uniform(-0.1, 0.1, (8, 3, 3, 3)).astype(np.float32),
    "positive": np.exp(RNG.standard_normal((5, 4))).astype(np.float32),
    "orthogonal": np.linalg.qr(RNG.standard_normal((6, 6)))[0].astype(np.float32),
    "identity": np.eye(5, dtype=np.float32),
    "half an identity": 0.5 * np.eye(5, dtype=np.float32),
    "fresh gain": np.ones((3, 1, 1), np.float32),
    "fresh bias": np.zeros((4, 4), np.float32),
    "half of it cut away": (
        RNG.standard_normal((8, 8)) * (RNG.random((8, 8)) > 0.6)
    ).astype(np.float32),
    "signs": np.sign(RNG.standard_normal((6, 8))).astype(np.float32),
    "forget gates": np.repeat([[0.0, 1.0, 0.0, 0.0]], 3, axis=1)[0].astype(np.float32),
    "embedding of unit rows": (
        lambda rows: rows / np.linalg.norm(rows, axis=1, keepdims=True)
    )(RNG.standard_normal((9, 6))).astype(np.float32),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_values_of_a_weight_stay_a_weight(case: str) -> None:
    value = WEIGHTS[case]

    assert constant_tensors.never(value) == constant_tensors.by_value(value) == ""


@pytest.mark.parametrize(
    ("values", "is_constant"),
    [
        pytest.param([0.0, -np.inf], True, id="minus infinity"),
        pytest.param([0.0, -1e9], True, id="far below"),
        pytest.param([0.0, -65504.0], True, id="half precision"),
        pytest.param([1.0, 3.4e38], True, id="a bound"),
        pytest.param([0.3, np.inf], True, id="an infinity"),
        pytest.param([0.3, -37000.0], False, id="an intercept"),
        pytest.param([-37000.0, -37000.0], False, id="two intercepts"),
        pytest.param([0.3, np.nan], False, id="diverged, to be refused"),
    ],
)
def test_masks_and_bounds_are_constants_in_any_file(
    values: list[float], *, is_constant: bool
) -> None:
    assert bool(constant_tensors.never(np.array(values, np.float32))) == is_constant


@pytest.mark.parametrize(
    ("name", "value", "is_constant"),
    [
        ("0.weight_u", np.zeros(5, np.float32), True),
        ("0.parametrizations.weight.0._v", np.zeros(5, np.float32), True),
        ("0.weight_v", np.zeros((5, 4), np.float32), False),
        ("encoder.pe", np.zeros((5, 4), np.float32), True),
        ("scale", np.array(0.5, np.float32), False),
        ("onnx::Mul_34", np.array(0.5, np.float32), True),
    ],
)
def test_names_that_a_module_gives_tell(
    name: str, value: Values, *, is_constant: bool
) -> None:
    assert bool(constant_tensors.by_name(name, value, named=True)) == is_constant


def _node(kind: str, *names: str) -> NetworkNode:
    return NetworkNode(kind, names[-1], names[:-1], names[-1:], {})


def test_shift_and_scale_of_the_input_are_found_through_movers() -> None:
    nodes = [
        _node("Cast", "x", "f"),
        _node("Sub", "f", "mean", "s"),
        _node("Mul", "s", "factor", "t"),
        _node("MatMul", "t", "w", "h"),
        _node("Sub", "h", "later", "out"),
    ]
    tensors = dict.fromkeys(("mean", "factor", "later"), np.ones(4, np.float32))

    found = constant_tensors.around_input(nodes, tensors, "x", (4,))

    assert found == {"mean", "factor"}


def test_centres_that_enlarge_the_input_are_no_shift_of_it() -> None:
    tensors = {"centres": np.ones((7, 4), np.float32)}

    found = constant_tensors.around_input(
        [_node("Sub", "x", "centres", "d")], tensors, "x", (1, 4)
    )

    assert found == set()
