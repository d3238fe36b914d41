import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from starling.engine.graph_check import checked_graph
from starling.engine.onnx_graph import Graph
from starling.engine.onnx_reader import read_graph
from starling.engine.runtime.onnxruntime_session import RunPlans, open_session
from starling.protocol.errors import DecodeError, EngineError
from tests.unit.engine.small_graphs import INT64, made, node, value

QUICK, LONG, PARTS = 300, 100_000, 20
WHOLE = (-(2**63), -(2**31), -5, -4, 0, 3, 4, 2**31, 2**63 - 1)


def session_of(nodes: Sequence[onnx.NodeProto]) -> Graph:
    return checked_graph(made(nodes).SerializeToString())


def feeds(y: Sequence[int] = (0, 1)) -> dict[str, NDArray[np.generic]]:
    return {
        "theta": np.ones(4, np.float32),
        "x": np.ones((len(y), 4), np.float32),
        "y": np.array(y, np.int64),
    }


def test_session_runs_a_checked_graph() -> None:
    session = open_session(session_of([node("Add", ["x", "theta"], ["out"])]))

    (found,) = session.run(feeds())

    np.testing.assert_array_equal(found, np.full((2, 4), 2.0))
    assert session.inputs == ("theta", "x", "y")
    assert list(session.outputs) == ["out"]


@pytest.mark.parametrize("optimised", [True, False])
def test_session_looks_for_no_place_among_those_that_others_left(
    optimised: bool,
) -> None:
    # The runtime takes time for that which grows with the square of the nodes.
    graph = session_of([node("Add", ["x", "theta"], ["out"])])

    session = open_session(graph, optimised=optimised)._session

    assert not session.get_session_options().enable_mem_reuse


def test_session_of_a_graph_that_is_not_run_is_refused() -> None:
    # Read, so in order, and never checked by whoever hands it over.
    model = made([node("RandomNormalLike", ["x"], ["out"])])

    with pytest.raises(DecodeError):
        open_session(read_graph(model.SerializeToString()))


BROKEN: dict[str, list[onnx.NodeProto]] = {
    "types that do not go together": [node("Add", ["x", "y"], ["out"])],
    "shapes that do not go together": [
        node("MatMul", ["theta", "x"], ["h"]),
        node("MatMul", ["h", "theta"], ["out"]),
    ],
    "axis beyond the rank": [node("Softmax", ["x"], ["out"], axis=9)],
    "attribute that is needed": [node("Concat", ["x", "x"], ["out"])],
    "arithmetic of truths": [
        node("Equal", ["x", "x"], ["h"]),
        node("Mul", ["h", "h"], ["out"]),
    ],
}


@pytest.mark.parametrize("case", BROKEN)
def test_graph_that_the_runtime_refuses_is_an_engine_error(case: str) -> None:
    with pytest.raises(EngineError):
        open_session(session_of(BROKEN[case])).run(feeds())


FEEDS: dict[str, dict[str, object]] = {
    "nothing": {},
    "an input less": {"x": np.ones((2, 4), np.float32)},
    "an unknown input": {**feeds(), "z": np.ones(1, np.float32)},
    "another type": {**feeds(), "x": np.ones((2, 4))},
    "another rank": {**feeds(), "x": np.ones(4, np.float32)},
    "another size": {**feeds(), "theta": np.ones(5, np.float32)},
    "no array": {**feeds(), "x": "x"},
    "objects": {**feeds(), "x": np.array([{}], object)},
}


@pytest.mark.parametrize("case", FEEDS)
def test_input_that_the_runtime_refuses_is_an_engine_error(case: str) -> None:
    session = open_session(session_of([node("Add", ["x", "theta"], ["out"])]))

    with pytest.raises(EngineError):
        session.run(FEEDS[case])  # type: ignore[arg-type]  # as hostile callers would


def test_binding_that_the_runtime_refuses_is_an_engine_error() -> None:
    session = open_session(session_of([node("Add", ["x", "theta"], ["out"])]))
    binding = session.bind()
    binding.input("x", np.ones(4, np.float32))

    with pytest.raises(EngineError):
        binding.run(1)


def test_binding_with_too_little_room_for_a_result_is_an_engine_error() -> None:
    session = open_session(session_of([node("Add", ["x", "theta"], ["out"])]))
    binding, room = session.bind(), np.zeros((1, 4), np.float32)
    for name, array in feeds().items():
        binding.input(name, array)
    binding.output("out", room)

    with pytest.raises(EngineError):
        binding.run(1)
    assert not room.any()


def test_plans_shrink_memory_after_the_first_run_of_a_size_only() -> None:
    plans = RunPlans()

    asked = [plans.options(rows) is not None for rows in (8, 8, 3, 8, 3)]

    assert asked == [True, False, True, False, False]


LOOKED_UP: dict[str, list[onnx.NodeProto]] = {
    "Gather": [node("Gather", ["theta", "y"], ["out"])],
    "GatherElements": [node("GatherElements", ["theta", "y"], ["out"])],
    "ScatterElements": [
        node("Cast", ["y"], ["h"], to=1),
        node("ScatterElements", ["theta", "y", "h"], ["out"], reduction="add"),
    ],
}
LENGTH = 4


@pytest.mark.parametrize("place", WHOLE)
@pytest.mark.parametrize("operator", LOOKED_UP)
def test_place_out_of_bounds_is_an_engine_error(operator: str, place: int) -> None:
    session = open_session(session_of(LOOKED_UP[operator]))

    if -LENGTH <= place < LENGTH:
        assert session.run(feeds([place]))
        return
    with pytest.raises(EngineError):
        session.run(feeds([place]))


@pytest.mark.parametrize("place", WHOLE)
def test_one_hot_of_any_place_is_a_result(place: int) -> None:
    inputs = [value("y", INT64, ["n"])]
    hot = node("OneHot", ["y", "depth", "pair"], ["out"])
    constants = {"depth": np.array(4), "pair": np.array([0, 1], np.float32)}
    graph = checked_graph(made([hot], constants, inputs).SerializeToString())

    (found,) = open_session(graph).run({"y": np.array([place])})

    assert found.sum() == (-LENGTH <= place < LENGTH)


def hostile(first: int, count: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.unit.engine.hostile_graphs"]
    return subprocess.run(
        [*command, str(first), str(first + count)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_hostile_graphs_end_in_errors_of_ours_or_in_results() -> None:
    done = hostile(0, QUICK)

    assert done.returncode == 0, (done.stdout[-200:], done.stderr[-2000:])
    found = {line.split(" ", 1)[1] for line in done.stdout.splitlines()}
    assert found == {"refused", "not loaded", "failed", "ran"}


@pytest.mark.soak
@pytest.mark.parametrize("part", range(PARTS))
def test_a_hundred_thousand_hostile_graphs_end_the_same(part: int) -> None:
    count = LONG // PARTS

    done = hostile(QUICK + part * count, count)

    assert done.returncode == 0, (done.stdout[-200:], done.stderr[-2000:])
