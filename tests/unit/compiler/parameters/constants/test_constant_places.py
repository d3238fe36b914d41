"""Places in a network at which a tensor is known to be no weight."""

import numpy as np
import pytest
from numpy.typing import NDArray

from starling.compiler.ir.network import NetworkNode
from starling.compiler.parameters import constant_tensors

RNG = np.random.default_rng(0)


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


def test_shift_behind_a_front_of_fixed_functions_is_found() -> None:
    nodes = [
        _node("Abs", "x", "a"),
        _node("Log", "a", "l"),
        _node("Sub", "l", "mean", "s"),
        _node("Div", "s", "spread", "t"),
        _node("MatMul", "t", "w", "h"),
        _node("Sub", "h", "later", "out"),
    ]
    tensors = dict.fromkeys(("mean", "spread", "later"), np.ones(4, np.float32))

    found = constant_tensors.around_input(
        nodes, {**tensors, "w": np.ones((4, 4), np.float32)}, "x", (4,)
    )

    assert found == {"mean", "spread"}


@pytest.mark.parametrize(
    ("value", "inputs", "known"),
    [
        (RNG.random((4, 4)), ("a", "x"), True),
        (RNG.random((4, 4)) - 0.2, ("a", "x"), False),
        (RNG.random((4, 4)), ("x", "a"), False),
        (RNG.random((3, 4)), ("a", "x"), False),
        (np.ones((4, 4)), ("a", "x"), False),
    ],
    ids=["links", "a negative value", "from the right", "not square", "fresh"],
)
def test_links_of_a_graph_multiply_from_the_left(
    value: NDArray[np.float64], inputs: tuple[str, str], *, known: bool
) -> None:
    nodes = [NetworkNode("MatMul", "m", inputs, ("out",), {})]

    found = constant_tensors.links(nodes, {"a": value.astype(np.float32)})

    assert found == ({"a"} if known else frozenset())


def test_bias_behind_a_vector_of_weights_is_no_shift_of_the_input() -> None:
    nodes = [
        _node("Unsqueeze", "w", "axes", "column"),
        _node("MatMul", "x", "column", "h"),
        _node("Squeeze", "h", "axes", "score"),
        _node("Sub", "score", "bias", "out"),
    ]
    tensors: dict[str, NDArray[np.generic]] = {
        "w": np.ones(4, np.float32),
        "axes": np.ones(1, np.int64),
        "bias": np.ones(1, np.float32),
    }

    assert constant_tensors.around_input(nodes, tensors, "x", (4,)) == set()


def test_centres_that_enlarge_the_input_are_no_shift_of_it() -> None:
    tensors = {"centres": np.ones((7, 4), np.float32)}

    found = constant_tensors.around_input(
        [_node("Sub", "x", "centres", "d")], tensors, "x", (1, 4)
    )

    assert found == set()
