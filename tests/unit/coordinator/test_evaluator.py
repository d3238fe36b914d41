import math
from pathlib import Path

import numpy as np
import pytest

from compiler import compile_model
from coordinator.rim.evaluator import Evaluator, HeldOut, load_held_out, preprocess
from fleet.models import build_model
from protocol.bundle import Preprocessing
from protocol.errors import ConfigError

X = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], np.float32)
Y = np.array([0, 1, 1], np.int64)


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_evaluate_known_weights_give_accuracy_and_loss_by_hand(batch: int) -> None:
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
    evaluator = Evaluator(HeldOut(X, Y), batch)
    evaluator.load(bundle.digest, dict(bundle.files), bundle.manifest)

    accuracy, loss = evaluator.evaluate(theta)

    assert accuracy == pytest.approx(2 / 3)
    right, wrong = math.log1p(math.exp(-4)), math.log1p(math.exp(4))
    assert loss == pytest.approx((2 * right + wrong) / 3, rel=1e-5)


def test_preprocess_one_scale_per_channel_applies_to_the_first_axis() -> None:
    raw = np.ones((2, 2, 3))

    shown = preprocess(raw, Preprocessing((2.0, 3.0), (0.0, 1.0)))

    assert shown[0, 0].tolist() == [2, 2, 2]
    assert shown[0, 1].tolist() == [4, 4, 4]


@pytest.mark.parametrize(
    "arrays",
    [{"x": X}, {"x": X, "y": Y[:2]}, {"x": X[:0], "y": Y[:0]}],
    ids=["no labels", "other lengths", "empty"],
)
def test_held_out_data_unfit_is_a_configuration_error(
    arrays: dict[str, np.ndarray], tmp_path: Path
) -> None:
    file = tmp_path / "data.npz"
    np.savez(file, allow_pickle=False, **arrays)

    with pytest.raises(ConfigError, match=r"data\.npz"):
        load_held_out(file)
