"""A weight that is a part of another is told, and what only looks like one is not."""

import numpy as np
import pytest
from numpy.typing import NDArray

from starling.compiler import compile_model
from starling.compiler.parameters.weight_blocks import parts
from tests.unit.compiler.small_models import build, node, weight

MODEL = weight(np.random.default_rng(3), 8, 6)
CUBE = weight(np.random.default_rng(4), 4, 3, 5)

PARTS = {
    "first rows": (MODEL, MODEL[:3]),
    "rows inside": (MODEL, MODEL[2:5]),
    "columns": (MODEL, MODEL[:, 4:]),
    "a block": (MODEL, MODEL[3:6, 1:4]),
    "a block turned round": (MODEL, MODEL[3:6, 1:5].T),
    "one row": (MODEL, MODEL[5]),
    "one kernel": (CUBE, CUBE[1]),
    "a block of three axes": (CUBE, CUBE[1:3, 1:, 2:4]),
    "rows in another shape": (MODEL, MODEL[2:4].reshape(3, 4)),
    "behind zeros": (MODEL, np.concatenate([np.zeros((0, 6)), MODEL[6:]])),
}


@pytest.mark.parametrize("case", PARTS)
def test_part_of_a_weight_is_found(case: str) -> None:
    model, part = PARTS[case]
    values = {"model": model, "part": np.ascontiguousarray(part, np.float32)}

    assert [*parts(values)] == [("part", "model")]


def _moved(value: NDArray[np.float32]) -> NDArray[np.float32]:
    found = value.copy()
    found[-1, -1] += 1e-3
    return found


NONE = {
    "another weight": weight(np.random.default_rng(5), 3, 6),
    "all but one value": _moved(MODEL[:3]),
    "fresh gains": np.ones(6, np.float32),
    "whole numbers": np.array([1, 2, 3, 4, 5], np.float32),
    "few values": MODEL[0, :3].copy(),
    "the same weight": MODEL.copy(),
    "every second row": MODEL[::2].copy(),
}


@pytest.mark.parametrize("case", NONE)
def test_weight_that_is_no_part_is_not_found(case: str) -> None:
    assert [*parts({"model": MODEL, "part": NONE[case]})] == []


def test_value_that_fills_a_weight_hides_no_part_of_another() -> None:
    filled = np.full((40, 40), MODEL[0, 0], np.float32)
    filled[0, 0] = 2.5
    values = {"filled": filled, "part": MODEL[:2].copy(), "model": MODEL}

    assert [*parts(values)] == [("part", "model")]


def test_projections_beside_the_weight_they_were_joined_into_are_told() -> None:
    one, two = MODEL[:4, :4].copy(), weight(np.random.default_rng(6), 4, 4)
    weights = {"q": one, "k": two, "qk": np.concatenate([one, two])}
    nodes = [
        node("Gemm", ["x", "qk"], ["joined"], transB=1),
        node("Gemm", ["x", "q"], ["query"], transB=1),
        node("Gemm", ["query", "k"], ["key"], transB=1),
        node("Concat", ["joined", "key"], ["out"], axis=1),
    ]

    (line,) = compile_model(build(nodes, weights, (4,), (12,)), loss="mse").notes

    assert "q in qk" in line
    assert "k in qk" in line
