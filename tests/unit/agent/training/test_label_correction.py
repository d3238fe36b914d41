"""The corrected gradient is that of the loss of a drawn label."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from starling.agent import open_trainer
from starling.agent.training.label_correction import (
    LabelCorrectedTrainer,
    label_weights,
)
from starling.agent.training.local_training import prepare, train
from starling.agent.training.training_inputs import TrainingInputs
from starling.compiler import compile_model
from starling.protocol.errors import ConfigError, EngineError, OperationError
from starling.protocol.learning.task import (
    LABEL_RESPONSE,
    MICRO,
    PrivacyPolicy,
    TrainingMode,
)
from starling.protocol.learning.vector_codecs import CODECS
from starling.protocol.model.training_bundle import pack_bundle
from starling.protocol.privacy.randomised_response import response_law
from tests.contract.trainer.test_engines import CLASSES, PACKED, X, Y, order
from tests.unit.agent.goodness_of_fit import stream
from tests.unit.compiler.small_models import build, node

EPSILON_MICRO = MICRO
KEEP, OTHER = response_law(EPSILON_MICRO, CLASSES)
POLICY = PrivacyPolicy(LABEL_RESPONSE, 0, 0, EPSILON_MICRO, 0, 15)
TRAINER = open_trainer(PACKED)


def corrected_loss(theta: NDArray[np.float64], rows: slice) -> float:
    """Minus the log of how likely the drawn labels are: the slow, obvious twin."""
    w = theta[: X.shape[1] * CLASSES].reshape(X.shape[1], CLASSES)
    scores = X[rows].astype(np.float64) @ w + theta[X.shape[1] * CLASSES :]
    chances = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    drawn = OTHER + (KEEP - OTHER) * chances
    return float(-np.log(drawn[np.arange(len(drawn)), Y[rows]]).sum())


def test_gradient_is_the_corrected_losses_over_the_mean_weight() -> None:
    rows, theta = slice(0, 16), TRAINER.theta
    found, losses = LabelCorrectedTrainer(TRAINER, EPSILON_MICRO).gradient_sum(
        theta, X[rows], Y[rows]
    )
    likely = np.exp(-losses.astype(np.float64))
    weights = (KEEP - OTHER) * likely / (OTHER + (KEEP - OTHER) * likely)
    at, step = theta.astype(np.float64), 1e-5
    ways = step * np.eye(theta.size)
    rises = [corrected_loss(at + way, rows) for way in ways]
    falls = [corrected_loss(at - way, rows) for way in ways]
    slope = (np.array(rises) - np.array(falls)) / (2 * step)

    np.testing.assert_allclose(found * weights.mean(), slope, rtol=2e-3, atol=2e-4)


def test_unlikely_labels_weigh_little_and_weights_have_mean_one() -> None:
    weights = label_weights(np.array([0.01, 8.0], np.float32), KEEP, OTHER)

    assert weights.mean() == pytest.approx(1.0)
    assert weights[1] < 0.01 * weights[0]


@pytest.mark.parametrize("losses", [[np.nan, 0.1], [np.inf, 0.1]])
def test_record_without_a_finite_loss_weighs_nothing(losses: list[float]) -> None:
    assert label_weights(np.array(losses, np.float32), KEEP, OTHER).tolist() == [0, 2]


def test_records_that_all_weigh_nothing_count_alike() -> None:
    losses = np.full(3, 1e6, np.float32)

    assert label_weights(losses, KEEP, OTHER).tolist() == [1.0, 1.0, 1.0]
    assert label_weights(losses[:0], KEEP, OTHER).size == 0


def work(*, answered: bool, mode: TrainingMode = TrainingMode.LOCAL) -> TrainingInputs:
    wanted = replace(order(mode), privacy=POLICY)
    return TrainingInputs(TRAINER.theta, X[:32], Y[:32], wanted, 8, answered=answered)


@pytest.mark.parametrize("mode", TrainingMode)
def test_update_of_drawn_labels_has_no_noise_of_its_own(mode: TrainingMode) -> None:
    wanted = work(answered=True, mode=mode)

    def update(seed: int) -> NDArray[np.float64]:
        rng = np.random.default_rng(7)
        payload = train(TRAINER, wanted, stream(seed), rng)
        grid = CODECS[wanted.order.codec].decode(payload, wanted.order.dimension)
        return np.asarray(grid, np.float64)

    np.testing.assert_allclose(update(1), update(2), atol=update(1).std() / 20)


def test_exact_labels_are_refused() -> None:
    with pytest.raises(OperationError, match="was given exact ones"):
        train(TRAINER, work(answered=False), stream(1), np.random.default_rng(7))


def test_bundle_without_classes_is_refused_before_any_data_are_touched() -> None:
    nodes = [node("Gemm", ["x", "w"], ["out"])]
    weights = {"w": np.ones((4, 2), np.float32)}
    model = compile_model(build(nodes, weights, (4,), (2,)), loss="mse")
    trainer = open_trainer(pack_bundle(dict(model.files)))
    with pytest.raises(EngineError, match="label-response is for classes"):
        prepare(trainer, trainer.theta, replace(order(), privacy=POLICY))
    with pytest.raises(ConfigError, match="label-response is for classes"):
        LabelCorrectedTrainer(trainer, EPSILON_MICRO)
