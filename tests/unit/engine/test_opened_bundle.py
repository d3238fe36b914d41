from collections.abc import Callable

import onnx
import pytest

from starling.engine.opened_bundle import GRAPHS, open_files, open_packed
from starling.protocol.errors import DecodeError, ProtocolError
from starling.protocol.model.training_bundle import (
    EVALUATE,
    INFER,
    PRIVATE_GRADIENT,
    THETA,
)
from tests.unit.engine.bundle_edits import (
    edited,
    honest,
    repacked,
    with_hidden_operator,
)


def _rename(model: onnx.ModelProto, former: str, name: str) -> None:
    for item in (*model.graph.input, *model.graph.output):
        item.name = name if item.name == former else item.name
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, given in enumerate(names):
                names[index] = name if given == former else given


def test_compiled_bundle_is_opened() -> None:
    opened = open_packed(repacked({}))

    assert sorted(opened.graphs) == sorted(GRAPHS)
    assert len(opened.theta) == opened.manifest.dimension == 36


@pytest.mark.parametrize("name", GRAPHS)
def test_bundle_with_a_refused_operator_in_any_graph_is_refused(name: str) -> None:
    packed = edited(
        name, lambda m: setattr(m.graph.node[-1], "op_type", "RandomNormalLike")
    )

    with pytest.raises(DecodeError, match=f"{name}.*RandomNormalLike"):
        open_packed(packed)


@pytest.mark.parametrize("name", GRAPHS)
def test_bundle_with_an_operator_hidden_in_any_graph_is_refused(name: str) -> None:
    packed = with_hidden_operator(name, "RandomNormalLike")

    with pytest.raises(DecodeError, match=name):
        open_packed(packed)


PORTS: dict[str, tuple[str, Callable[[onnx.ModelProto], object]]] = {
    "an input more": (INFER, lambda m: m.graph.input.add().CopyFrom(m.graph.input[0])),
    "an input less": (INFER, lambda m: m.graph.input.pop()),
    "another input": (INFER, lambda m: _rename(m, "x", "z")),
    "an output less": (EVALUATE, lambda m: m.graph.output.pop()),
    "outputs in another order": (EVALUATE, lambda m: m.graph.output.reverse()),
    "a longer theta": (
        PRIVATE_GRADIENT,
        lambda m: setattr(
            m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 37
        ),
    ),
    "theta of any length": (
        PRIVATE_GRADIENT,
        lambda m: setattr(
            m.graph.input[0].type.tensor_type.shape.dim[0], "dim_param", "d"
        ),
    ),
    "theta of another type": (
        PRIVATE_GRADIENT,
        lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 7),
    ),
    "a batch of one size": (
        INFER,
        lambda m: setattr(
            m.graph.input[1].type.tensor_type.shape.dim[0], "dim_value", 8
        ),
    ),
    "an input without a shape": (
        INFER,
        lambda m: m.graph.input[1].type.tensor_type.ClearField("shape"),
    ),
    "an output of another type": (
        INFER,
        lambda m: setattr(m.graph.output[0].type.tensor_type, "elem_type", 7),
    ),
    "an output without a shape": (
        INFER,
        lambda m: m.graph.output[0].type.tensor_type.ClearField("shape"),
    ),
}


@pytest.mark.parametrize("case", PORTS)
def test_bundle_whose_ports_are_not_the_manifests_is_refused(case: str) -> None:
    name, change = PORTS[case]

    with pytest.raises(ProtocolError, match=name):
        open_packed(edited(name, change))


def test_bundle_whose_theta_has_another_length_is_refused() -> None:
    theta = honest()[THETA][:-4]

    with pytest.raises(DecodeError, match=THETA):
        open_packed(repacked({THETA: theta.replace(b"(36,)", b"(35,)")}))


def test_files_of_a_bundle_open_like_the_whole() -> None:
    assert open_files(honest()).manifest == open_packed(repacked({})).manifest
