import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from starling.compiler import compile_model
from starling.coordinator.runtime.evaluation.evaluation_messages import EvaluationError
from starling.coordinator.runtime.evaluation.evaluation_process import HeldOutData
from starling.coordinator.runtime.evaluation.evaluator import (
    Evaluator,
    load_held_out,
    pinned_root,
)
from starling.fleet.reference_models import build_model
from starling.protocol.errors import ConfigError
from starling.protocol.ids import H
from starling.protocol.learning.score_policy import root_digest
from starling.protocol.model.training_bundle import EVALUATE, THETA
from tests.unit.engine.bundle_edits import (
    edited,
    repacked,
    with_external_constant,
    with_hidden_operator,
)

X = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], np.float32)
Y = np.array([0, 1, 1], np.int64)


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_evaluate_known_weights_give_accuracy_and_loss_by_hand(
    batch: int, tmp_path: Path
) -> None:
    bundle = compile_model(
        build_model("softmax", (2,), 2, np.random.default_rng(1)), loss="cross-entropy"
    )
    # Logits 4 x, so that the first two are right with a loss of log(1 + e^-4) and the
    # last is wrong with one of log(1 + e^4). The bias is the shorter parameter.
    layout = {item.size: item.offset for item in bundle.manifest.parameters}
    theta = np.zeros(6, np.float32)
    start = layout[4]
    assert start is not None
    theta[start : start + 4] = [4, 0, 0, 4]
    evaluator = Evaluator(HeldOutData(X, Y), batch, tmp_path / "trial")

    try:
        accuracy, loss = evaluator.evaluate(
            bundle.digest, bundle.packed, theta.tobytes()
        )
    finally:
        evaluator.stop()

    assert accuracy == pytest.approx(2 / 3)
    right, wrong = math.log1p(math.exp(-4)), math.log1p(math.exp(4))
    assert loss == pytest.approx((2 * right + wrong) / 3, rel=1e-5)


@pytest.mark.parametrize("batch", [1, 100])
def test_gradients_are_those_of_the_loss_in_each_class(
    batch: int, tmp_path: Path
) -> None:
    bundle = compile_model(
        build_model("softmax", (2,), 2, np.random.default_rng(1)), loss="cross-entropy"
    )
    theta = np.linspace(-0.5, 0.5, 6, dtype=np.float32)
    evaluator = Evaluator(HeldOutData(X, Y), batch, tmp_path / "trial")
    # Of two classes, another's target is the other one.
    turned = Evaluator(HeldOutData(X, 1 - Y), 10, tmp_path / "turned")

    def loss(rows: slice, moved: np.ndarray) -> float:
        alone = Evaluator(HeldOutData(X[rows], Y[rows]), 10, tmp_path / "alone")
        try:
            packed = moved.astype("<f4").tobytes()
            return alone.evaluate(bundle.digest, bundle.packed, packed)[1]
        finally:
            alone.stop()

    try:
        args = bundle.digest, bundle.packed, theta.tobytes()
        found = evaluator.gradients(*args)
        of_wrong = turned.gradients(*args)
        # The process goes on with what it was asked for before.
        assert evaluator.evaluate(*args)[1] > 0.0
    finally:
        evaluator.stop()
        turned.stop()

    ways = np.zeros(6)
    for stratum, rows in enumerate((slice(0, 1), slice(1, 3))):
        along = found.means[stratum] / np.linalg.norm(found.means[stratum])
        slope = (
            loss(rows, theta + 0.05 * along) - loss(rows, theta - 0.05 * along)
        ) / 0.1
        assert slope == pytest.approx(np.linalg.norm(found.means[stratum]), rel=1e-3)
        wrong = of_wrong.means[1 - stratum]
        way = found.means[stratum] - wrong
        ways += len(X[rows]) * way / np.linalg.norm(way)
    np.testing.assert_allclose(found.contrast, ways / np.linalg.norm(ways), atol=1e-5)


def test_pinned_root_is_the_digest_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "root.npz"
    path.write_bytes(b"content")
    assert pinned_root(path) == root_digest(b"content")
    with pytest.raises(ConfigError, match="--root"):
        pinned_root(tmp_path / "missing.npz", "--root")


HELD_OUT = HeldOutData(np.ones((8, 8), np.float32), np.arange(8) % 4)
THETA_ZERO = np.zeros(36, "<f4").tobytes()


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evaluator]:
    made = Evaluator(HELD_OUT, 4, tmp_path_factory.mktemp("home") / "trial")
    yield made
    made.stop()


def _trapped(model: onnx.ModelProto) -> None:
    """Divides by a label, of which one is 0: the processor traps."""
    for add in (
        helper.make_node("Div", ["y", "y"], ["trap"]),
        helper.make_node("Cast", ["trap"], ["real"], to=1),
        helper.make_node("Add", ["real", "loss"], ["worse"]),
    ):
        model.graph.node.append(add)
    model.graph.output[0].name = "worse"


HOSTILE: dict[str, Callable[[Path], bytes]] = {
    "no graph": lambda _: repacked({EVALUATE: b"garbage"}),
    "hidden operator": lambda _: with_hidden_operator(EVALUATE, "RandomNormalLike"),
    "own file": lambda path: with_external_constant(EVALUATE, str(path)),
    "own file by a way round": lambda path: with_external_constant(
        EVALUATE, "../" * 20 + str(path).lstrip("/")
    ),
    "division by a label": lambda _: edited(EVALUATE, _trapped),
    "no theta": lambda _: repacked({THETA: b"PK"}),
    "no bundle": lambda _: b"garbage",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_evaluate_hostile_bundle_is_a_typed_failure_and_the_next_one_is_tried(
    case: str, evaluator: Evaluator, tmp_path: Path
) -> None:
    secret = tmp_path / "signing"
    secret.write_bytes(bytes(range(32)))
    packed = HOSTILE[case](secret)

    with pytest.raises(EvaluationError):
        evaluator.evaluate(H(packed), packed, THETA_ZERO)

    honest = repacked({})
    accuracy, loss = evaluator.evaluate(H(honest), honest, THETA_ZERO)
    assert accuracy == 0.25
    assert loss == pytest.approx(math.log(4))


def test_evaluator_that_was_abandoned_tries_nothing_more(tmp_path: Path) -> None:
    made = Evaluator(HELD_OUT, 4, tmp_path / "trial")
    honest = repacked({})

    made.abandon()

    with pytest.raises(EvaluationError):
        made.evaluate(H(honest), honest, THETA_ZERO)
    made.stop()


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_evaluate_parameters_without_a_finite_loss_are_a_typed_failure(
    number: float, evaluator: Evaluator
) -> None:
    honest = repacked({})

    with pytest.raises(EvaluationError, match="no number"):
        evaluator.evaluate(H(honest), honest, np.full(36, number, "<f4").tobytes())


def test_evaluate_parameters_of_another_length_are_a_typed_failure(
    evaluator: Evaluator,
) -> None:
    honest = repacked({})

    with pytest.raises(EvaluationError):
        evaluator.evaluate(H(honest), honest, bytes(12))


PROCESSES = {
    "ends at once": "import sys; sys.exit(3)",
    "crashes": "import os; os.abort()",
    "hangs": "import sys; sys.stdin.buffer.read()",
    "says nonsense": "import sys; sys.stdout.buffer.write(b'nonsense' * 9)",
    "says too much": "import sys; sys.stdout.buffer.write(b'\\xff' * 8)",
}


@pytest.mark.parametrize("case", PROCESSES)
def test_evaluate_by_a_process_that_fails_is_a_typed_failure(
    case: str, tmp_path: Path
) -> None:
    command = (sys.executable, "-c", PROCESSES[case])
    made = Evaluator(HELD_OUT, 4, tmp_path / "trial", command, seconds_max=0.5)

    try:
        for _ in range(2):
            with pytest.raises(EvaluationError):
                made.evaluate(H(b"bundle"), b"bundle", THETA_ZERO)
    finally:
        made.stop()


CONFINED = """
import os, socket, sys
from starling.coordinator.runtime.evaluation import evaluation_process
evaluation_process._confine(0)
for attempt in (
    lambda: open(sys.argv[1]),
    lambda: os.open("/", os.O_RDONLY),
    lambda: socket.socket(),
    lambda: os.pipe(),
    lambda: os.memfd_create("a"),
):
    try:
        attempt()
    except OSError:
        continue
    raise SystemExit("it could")
print("confined")
"""


def test_process_of_trials_can_open_no_file_and_no_socket(tmp_path: Path) -> None:
    secret = tmp_path / "signing"
    secret.write_text("secret")

    done = subprocess.run(
        [sys.executable, "-c", CONFINED, str(secret)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout == "confined\n", done.stderr


@pytest.mark.parametrize(
    "arrays",
    [
        {"x": X},
        {"x": X, "y": Y[:2]},
        {"x": X[:0], "y": Y[:0]},
        {"x": X, "y": np.int64(1)},
    ],
    ids=["no labels", "other lengths", "empty", "one number"],
)
def test_held_out_data_unfit_is_a_configuration_error(
    arrays: dict[str, np.ndarray], tmp_path: Path
) -> None:
    file = tmp_path / "data.npz"
    np.savez(file, allow_pickle=False, **arrays)

    with pytest.raises(ConfigError, match=r"data\.npz"):
        load_held_out(file)


def test_held_out_file_cut_short_or_of_one_array_is_a_configuration_error(
    tmp_path: Path,
) -> None:
    file = tmp_path / "data.npz"
    np.savez(file, x=X, y=Y)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])

    with pytest.raises(ConfigError, match=r"data\.npz.*expected an \.npz file"):
        load_held_out(file)

    with file.open("wb") as lone:
        np.save(lone, X)

    with pytest.raises(ConfigError, match=r"data\.npz.*expected an \.npz file"):
        load_held_out(file)
