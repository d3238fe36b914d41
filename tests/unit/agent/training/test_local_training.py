"""Graphs that ONNX Runtime runs: a record moves the update by no more than charged."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from starling.agent import open_trainer
from starling.agent.training.training_inputs import Trainer
from starling.compiler import compile_model
from starling.protocol.ids import H
from starling.protocol.model.training_bundle import (
    CONTENT_FILES,
    GRADIENT,
    MANIFEST,
    pack_bundle,
)
from starling.protocol.privacy.mechanisms import RECORD_GAUSSIAN
from starling.protocol.privacy.noise_grid import noise_grid
from tests.unit.agent.training.hostile_gradients import (
    CLIP_Q24,
    FEATURES,
    FILES,
    GRID,
    MLP,
    SIGMA,
    D,
    length,
    order,
    pictures,
    records,
    released,
    without,
)
from tests.unit.compiler.small_models import cnn, node

pytestmark = pytest.mark.usefixtures("exact_codec")


def constant(name: str, values: object, kind: type = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, kind), name)


def graph(nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto]) -> bytes:
    """A gradient graph for the perceptron's data."""
    info = helper.make_tensor_value_info
    real, whole = TensorProto.FLOAT, TensorProto.INT64
    inputs = [
        info("theta", real, [D]),
        info("x", real, ["n", FEATURES]),
        info("y", whole, ["n"]),
    ]
    outputs = [info("gradient", real, [D]), info("loss", real, ["n"])]
    made = helper.make_graph(nodes, "gradient", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=8)
    packed: bytes = model.SerializeToString()
    return packed


def bundle_of(gradient: bytes) -> bytes:
    files = {**FILES, GRADIENT: gradient}
    digests = {name: H(files[name]) for name in CONTENT_FILES}
    files[MANIFEST] = replace(MLP, digests=digests).to_json().encode()
    return pack_bundle(files)


REPEATED = -(-D // (FEATURES + 1))
LEAKING = [
    node("Cast", ["y"], ["yf"], to=1),
    node("Unsqueeze", ["yf", "one"], ["yc"]),
    node("Concat", ["x", "yc"], ["xy"], axis=1),
    node("MatMul", ["x", "a"], ["sums"]),
    node("Greater", ["sums", "threshold"], ["chosen"]),
    node("Cast", ["chosen"], ["weight"], to=1),
    node("Mul", ["xy", "weight"], ["kept"]),
    node("ReduceSum", ["kept", "zero"], ["record"], keepdims=0),
    node("Tile", ["record", "times"], ["tiled"]),
    node("Slice", ["tiled", "zero", "size", "zero"], ["cut"]),
    node("Mul", ["cut", "k"], ["gradient"]),
    node("Mul", ["yf", "nothing"], ["loss"]),
]
CONSTANTS = [
    constant("one", [1], np.int64),
    constant("zero", [0], np.int64),
    constant("size", [D], np.int64),
    constant("times", [REPEATED], np.int64),
    constant("k", 1000.0),
    constant("nothing", 0.0),
]


def leaking(threshold: float) -> Trainer:
    """Gives in full the records that lie far enough in one direction."""
    direction = np.ones((FEATURES, 1), np.float32)
    values = [constant("a", direction), constant("threshold", threshold)]
    return open_trainer(bundle_of(graph(LEAKING, CONSTANTS + values)))


def mixing() -> Trainer:
    """Subtracts what all records of a call have in common: it joins rows."""
    nodes = [
        node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
        node("Sub", ["x", "mean"], ["centred"]),
        node("Add", ["centred", "x"], ["both"]),
        node("Exp", ["both"], ["grown"]),
        node("ReduceSum", ["grown", "zero"], ["record"], keepdims=0),
        node("Tile", ["record", "times"], ["tiled"]),
        node("Slice", ["tiled", "zero", "size", "zero"], ["cut"]),
        node("Mul", ["cut", "k"], ["gradient"]),
        node("Cast", ["y"], ["yf"], to=1),
        node("Mul", ["yf", "nothing"], ["loss"]),
    ]
    return open_trainer(bundle_of(graph(nodes, CONSTANTS)))


@pytest.mark.parametrize(
    "trainer",
    [leaking(-1e9), leaking(6.0), mixing(), open_trainer(pack_bundle(FILES))],
    ids=["all records", "one record", "mixed rows", "honest"],
)
def test_published_graph_moves_the_update_by_no_more_than_charged(
    trainer: Trainer,
) -> None:
    x, y = records(60)
    x[17] = 2.0
    wanted = order(RECORD_GAUSSIAN, D, 1000)

    whole = released(trainer, (x, y), wanted)
    turned = np.random.default_rng(3).permutation(60)

    np.testing.assert_array_equal(
        released(trainer, (x[turned], y[turned]), wanted), whole
    )
    for index in (0, 16, 17, 33, 59):
        moved = whole - released(trainer, without((x, y), index), wanted)
        assert 0 < length(moved) <= GRID.sensitivity or not moved.any()


def test_record_is_read_from_one_place_wherever_it_lay() -> None:
    trainer = open_trainer(compile_model(cnn(), loss="cross-entropy").packed)
    rng = np.random.default_rng(4)
    room = rng.normal(size=40 * 784 + 7).astype(np.float32)
    wanted = order(RECORD_GAUSSIAN, trainer.theta.size, 100)
    y = rng.integers(0, 10, 40)
    found = []
    for shift in range(7):
        x = room[shift : shift + 40 * 784]
        x[:] = np.linspace(-1, 1, 40 * 784)
        found.append(released(trainer, (x.reshape(40, 1, 28, 28), y), wanted))

    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def test_threads_change_no_bound() -> None:
    trainer = open_trainer(compile_model(cnn(), loss="cross-entropy").packed, 2)
    size = trainer.theta.size
    x, y = pictures()
    grid = noise_grid(CLIP_Q24, SIGMA, size)
    wanted = order(RECORD_GAUSSIAN, size, 100)

    whole = released(trainer, (x, y), wanted)
    moved = [
        length(whole - released(trainer, without((x, y), index), wanted))
        for index in (0, 15, 16, 39)
    ]

    assert 0.999 * grid.sensitivity < max(moved) <= grid.sensitivity
