"""One record moves what is released by no more than is charged, whatever a graph does.

Everything goes through `train`, as on a board, with one stream of random bytes for both
data sets: their noise is then the same, and the difference of two updates is exactly
that of their sums. Graphs are what a publisher may send: any function of one record.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from starling.agent import open_trainer
from starling.agent.training.gradient_clipping import TOGETHER, Clip, ClippedSum
from starling.agent.training.local_training import train
from starling.agent.training.trainer_messages import TrainingOrder
from starling.agent.training.training_inputs import Real, Trainer, TrainingInputs
from starling.compiler import compile_model
from starling.protocol.errors import EngineError
from starling.protocol.ids import H, TaskId, Version
from starling.protocol.learning.task import (
    MICRO,
    Q24,
    PrivacyPolicy,
    TrainingMode,
    TrainingPolicy,
)
from starling.protocol.learning.vector_codecs import (
    CODECS,
    Draw,
    GridVector,
    VectorCodec,
    decode_float32,
)
from starling.protocol.model.training_bundle import (
    CONTENT_FILES,
    GRADIENT,
    MANIFEST,
    BundleManifest,
    manifest_from_json,
    pack_bundle,
)
from starling.protocol.privacy.clipping_functions import AUTOMATIC, CLIPPINGS, NORM
from starling.protocol.privacy.mechanisms import RECORD_DPSGD, RECORD_GAUSSIAN
from starling.protocol.privacy.noise_grid import noise_grid
from tests.unit.agent.goodness_of_fit import stream
from tests.unit.compiler.small_models import cnn, mlp, node

EXACT = 250
"""A codec of these tests: the integers themselves."""
CLIP_Q24 = Q24 // 10
SIGMA = MICRO
FEATURES = 8
Records = tuple[NDArray[Any], NDArray[Any]]
Function = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]


@pytest.fixture(autouse=True)
def _exact_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    def encode(vector: GridVector, draw: Draw) -> bytes:
        del draw
        return vector.values.astype("<i8").tobytes()

    codec = VectorCodec(encode, decode_float32)
    monkeypatch.setitem(CODECS, EXACT, codec)


@dataclass
class Hostile:
    """A bundle whose gradient is any function of one record at all."""

    function: Function
    manifest: BundleManifest
    theta: Real

    def gradient_sum(
        self, theta: Real, x: NDArray[Any], y: NDArray[Any]
    ) -> tuple[Real, Real]:
        del theta
        assert len(x) == len(y) == 1
        assert x.ctypes.data % 64 == 0
        return self.function(x[0], y[0]), np.zeros(1, np.float32)

    def private_gradient_sum(
        self, theta: Real, x: NDArray[Any], y: NDArray[Any], clip: float
    ) -> tuple[Real, Real]:
        raise AssertionError("nobody trusts this bundle")

    def evaluate(
        self, theta: Real, x: NDArray[Any], y: NDArray[Any]
    ) -> tuple[Real, NDArray[Any]]:
        raise AssertionError(theta, x, y)

    def infer(self, theta: Real, x: NDArray[Any]) -> NDArray[Any]:
        raise AssertionError(theta, x)


FILES = dict(compile_model(mlp(), loss="cross-entropy").files)
MLP = manifest_from_json(FILES[MANIFEST])
D = MLP.dimension
GRID = noise_grid(CLIP_Q24, SIGMA, D)
STEP = 2.0**GRID.exponent


def raw(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """The record itself, as often as it fits and as large as float32 goes."""
    found: NDArray[Any] = np.resize(np.append(x, y), D).astype(np.float32)
    found *= np.float32(1e36)
    return found


def tiny(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """Numbers whose squares vanish in float32."""
    del y
    return np.full(D, 1e-30 if x[0] > 0 else -1e-30, np.float32)


def smallest(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """Numbers that are not even normal, one large one among them."""
    del y
    found = np.full(D, np.float32(1e-44))
    found[0] = x[0] * np.float32(1e38)
    return found


def aligned_with_all(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """The same for every record: sums as long as they can be."""
    del x, y
    return np.ones(D, np.float32)


def picky(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """Nothing but for one kind of record, which it gives in full."""
    return raw(x, y) if x[0] > 0.5 else np.zeros(D, np.float32)


def not_a_number(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """NaN or infinity for some records."""
    found = raw(x, y)
    found[D // 2] = [np.nan, np.inf, -np.inf, 1.0][int(y) % 4]
    return found


def failing(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """Cannot be run on some records, one way or another."""
    if x[1] > 0:
        raise [EngineError("x is 3.7"), MemoryError(), ValueError(), OSError()][y % 4]
    return raw(x, y)


def misshapen(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """Vectors of another length or kind for some records."""
    del x
    sizes: list[NDArray[Any]] = [
        np.full(D + 1, 1e9),
        np.full(1, 1e9),
        np.full(D, 1e200),
        np.full((D, 1), 1.0),
    ]
    return sizes[int(y) % 4]


def between_steps(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """Exactly half a step beside the grid, where rounding could go either way."""
    del x
    return np.full(D, (2 * int(y) + 1) * STEP / 2, np.float32)


def opposed(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """Huge, and one record against all others."""
    del y
    return np.full(D, np.float32(3e38) * (1 if x[0] > 1.2 else -1), np.float32)


HOSTILE: list[Function] = [
    raw,
    tiny,
    smallest,
    aligned_with_all,
    picky,
    not_a_number,
    failing,
    misshapen,
    between_steps,
    opposed,
]


def records(count: int, seed: int = 0) -> Records:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, FEATURES)).astype(np.float32)
    return x, rng.integers(0, 3, count)


def without(data: Records, index: int) -> Records:
    return np.delete(data[0], index, 0), np.delete(data[1], index, 0)


def order(
    mechanism: int, dimension: int, pledge: int, clip_q24: int = CLIP_Q24
) -> TrainingOrder:
    by_steps = mechanism == RECORD_DPSGD
    mode = TrainingMode.LOCAL if by_steps else TrainingMode.GRADIENT
    privacy = PrivacyPolicy(mechanism, clip_q24, SIGMA, 8 * MICRO, 10**7, 15)
    return TrainingOrder(
        TaskId(0),
        Version(0),
        H(b"bundle"),
        H(b"theta"),
        dimension,
        EXACT,
        pledge,
        TrainingPolicy(mode, 1, 1, Q24),
        privacy,
        1,
    )


def released(
    trainer: Trainer, data: Records, wanted: TrainingOrder, *, trusted: bool = False
) -> NDArray[np.int64]:
    """What a board would encode, with noise of a known stream."""
    work = TrainingInputs(trainer.theta, *data, wanted, 16, trusted)
    payload = train(trainer, work, stream(5), np.random.default_rng(1))
    return np.frombuffer(payload, "<i8")


def length(vector: NDArray[np.int64]) -> float:
    return math.sqrt(sum(int(value) ** 2 for value in vector))


def hostile(function: Function, clipping: str = NORM) -> Hostile:
    theta = np.zeros(D, np.float32)
    return Hostile(function, replace(MLP, clipping=clipping), theta)


@pytest.mark.parametrize("codec", CODECS)
def test_codec_is_given_the_noised_vector_and_nothing_else(
    codec: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So rounding is post-processing, and all codecs cost the same epsilon.
    seen, known = [], CODECS[codec]

    def encode(vector: GridVector, draw: Draw) -> bytes:
        seen.append(vector.values.tolist())
        return known.encode(vector, draw)

    monkeypatch.setitem(CODECS, codec, VectorCodec(encode, known.decode))
    trainer, wanted = hostile(raw), order(RECORD_GAUSSIAN, D, 25)
    noised = released(trainer, records(25), wanted).tolist()

    work = TrainingInputs(trainer.theta, *records(25), replace(wanted, codec=codec), 16)
    for _ in range(2):
        train(trainer, work, stream(5), np.random.default_rng(1))

    assert seen == [noised, noised]


@pytest.mark.parametrize("function", HOSTILE, ids=lambda item: item.__name__)
@pytest.mark.parametrize("clipping", CLIPPINGS)
@pytest.mark.parametrize("pledge", [1, 7, 25, 1000])
def test_record_that_goes_moves_the_update_by_no_more_than_charged(
    function: Function, clipping: str, pledge: int
) -> None:
    data = records(25)
    trainer, wanted = hostile(function, clipping), order(RECORD_GAUSSIAN, D, pledge)

    with np.errstate(all="ignore"):
        whole = released(trainer, data, wanted)
        moved = [
            length(whole - released(trainer, without(data, index), wanted))
            for index in range(25)
        ]

    assert max(moved) <= GRID.sensitivity


@pytest.mark.parametrize("function", HOSTILE, ids=lambda item: item.__name__)
def test_update_is_a_function_of_the_multiset_of_records(function: Function) -> None:
    data = records(25)
    trainer, wanted = hostile(function), order(RECORD_GAUSSIAN, D, 1000)

    with np.errstate(all="ignore"):
        whole = released(trainer, data, wanted)
        for seed in range(5):
            turned = np.random.default_rng(seed).permutation(25)
            other = released(trainer, (data[0][turned], data[1][turned]), wanted)
            np.testing.assert_array_equal(other, whole)


@pytest.mark.parametrize("function", HOSTILE, ids=lambda item: item.__name__)
@pytest.mark.parametrize("place", [0, 12, 25])
def test_record_that_comes_twice_adds_what_it_added_before(
    function: Function, place: int
) -> None:
    x, y = records(25)
    doubled = np.insert(x, place, x[3], axis=0), np.insert(y, place, y[3])
    trainer, wanted = hostile(function), order(RECORD_GAUSSIAN, D, 1000)

    with np.errstate(all="ignore"):
        whole = released(trainer, (x, y), wanted)
        second = released(trainer, doubled, wanted) - whole
        first = whole - released(trainer, without((x, y), 3), wanted)

    np.testing.assert_array_equal(second, first)


@pytest.mark.parametrize("clipping", CLIPPINGS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
def test_record_without_a_finite_gradient_adds_nothing(
    value: float, clipping: str
) -> None:
    def spoiled(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        found = raw(x, y)
        if x[0] > 100.0:
            found[3] = value
        return found

    x, y = records(25)
    x[7, 0] = 101.0
    trainer, wanted = hostile(spoiled, clipping), order(RECORD_GAUSSIAN, D, 1000)

    whole = released(trainer, (x, y), wanted)

    np.testing.assert_array_equal(whole, released(trainer, without((x, y), 7), wanted))


def test_bound_is_met_by_a_record_that_is_as_long_as_it_can_be() -> None:
    data = records(25)
    trainer, wanted = hostile(opposed), order(RECORD_GAUSSIAN, D, 1000)

    whole = released(trainer, data, wanted)
    moved = length(whole - released(trainer, without(data, 3), wanted))

    assert 0.9999 * GRID.sensitivity < moved <= GRID.sensitivity


@pytest.mark.parametrize("pledge", [1, 3, 24, 25, 26])
def test_sum_of_more_records_than_were_pledged_is_as_long_as_the_pledge(
    pledge: int,
) -> None:
    trainer, wanted = hostile(aligned_with_all), order(RECORD_GAUSSIAN, D, pledge)

    sums = [
        released(trainer, records(count), wanted)
        - released(trainer, records(0), wanted)
        for count in (24, 25)
    ]

    clips = [length(found) * STEP / (CLIP_Q24 / Q24) for found in sums]
    assert clips[0] == pytest.approx(min(24, pledge), rel=1e-5)
    assert clips[1] == pytest.approx(min(25, pledge), rel=1e-5)


@pytest.mark.parametrize("function", HOSTILE, ids=lambda item: item.__name__)
@pytest.mark.parametrize("sampling", [MICRO // 3, MICRO])
def test_record_moves_a_sampled_step_by_no_more_than_charged(
    function: Function, sampling: int
) -> None:
    # The last record: all others keep their random bits, and the noise its own.
    data = records(40)
    wanted = order(RECORD_DPSGD, D, 30)
    privacy = replace(wanted.privacy, sampling_micro=sampling, charge=1)
    wanted = replace(wanted, privacy=privacy)
    trainer = hostile(function)

    with np.errstate(all="ignore"):
        moved = released(trainer, data, wanted) - released(
            trainer, without(data, 39), wanted
        )

    # The way is the noised sum over the expected number, on the wire's grid.
    steps = length(moved) * 2.0**-24 * sampling / MICRO / STEP
    rounding = math.sqrt(D) * 2.0**-24 / STEP
    assert steps <= GRID.sensitivity + rounding


def test_float64_adds_exactly_as_many_as_it_is_trusted_with() -> None:
    # The finest grid there is: d = 2^26 and a clip in one coordinate.
    widest = noise_grid(CLIP_Q24, SIGMA, 1 << 26)
    assert CLIP_Q24 / Q24 / 2.0**widest.exponent < 2.0**35
    exponent = noise_grid(CLIP_Q24, SIGMA, D).exponent
    found = ClippedSum(1, Clip(CLIP_Q24, NORM, exponent))
    for _ in range(TOGETHER + 3):
        found.add(np.ones(1, np.float32))
    one = ClippedSum(1, Clip(CLIP_Q24, NORM, exponent))
    one.add(np.ones(1, np.float32))

    assert int(found.total()[0]) == (TOGETHER + 3) * int(one.total()[0])


@pytest.mark.parametrize("clipping", CLIPPINGS)
def test_scaled_gradient_is_as_the_manifest_says(clipping: str) -> None:
    clip = CLIP_Q24 / Q24
    for norm in (1e-6, 0.05, clip, 3.0, 1e30):
        found = ClippedSum(2, Clip(CLIP_Q24, clipping, GRID.exponent))
        found.add(np.array([0.6 * norm, -0.8 * norm], np.float32))
        scale = clip / (norm + 0.01) if clipping == AUTOMATIC else min(1, clip / norm)
        expected = np.array([0.6, -0.8]) * norm * scale
        np.testing.assert_allclose(found.total() * STEP, expected, rtol=1e-4, atol=STEP)


# Graphs that ONNX Runtime itself runs.


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
    rng = np.random.default_rng(5)
    x = rng.normal(size=(40, 1, 28, 28)).astype(np.float32)
    y = rng.integers(0, 10, 40)
    grid = noise_grid(CLIP_Q24, SIGMA, size)
    wanted = order(RECORD_GAUSSIAN, size, 100)

    whole = released(trainer, (x, y), wanted)
    moved = [
        length(whole - released(trainer, without((x, y), index), wanted))
        for index in (0, 15, 16, 39)
    ]

    assert 0.999 * grid.sensitivity < max(moved) <= grid.sensitivity


@pytest.mark.parametrize("clipping", CLIPPINGS)
def test_trusted_bundle_of_an_honest_compiler_keeps_the_bound(clipping: str) -> None:
    bundle = compile_model(cnn(), loss="cross-entropy", clipping=clipping)
    trainer = open_trainer(bundle.packed)
    size = trainer.theta.size
    rng = np.random.default_rng(5)
    x = rng.normal(size=(40, 1, 28, 28)).astype(np.float32)
    y = rng.integers(0, 10, 40)
    grid = noise_grid(CLIP_Q24, SIGMA, size)
    wanted = order(RECORD_GAUSSIAN, size, 100)

    whole = released(trainer, (x, y), wanted, trusted=True)
    by_record = released(trainer, (x, y), wanted)
    assert length(whole - by_record) < 0.01 * 40 * grid.sensitivity
    for index in (0, 15, 16, 39):
        emptied = x.copy()
        emptied[index] = np.nan
        moved = whole - released(trainer, (emptied, y), wanted, trusted=True)
        assert 0.9 * grid.sensitivity < length(moved) <= grid.sensitivity
