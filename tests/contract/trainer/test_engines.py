"""The trainer: right numbers from every engine, and a real subprocess that may die."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from starling.agent import open_trainer
from starling.agent.privacy.noise_mechanisms import private_sum
from starling.agent.trainer.engines.engine_registry import ENGINES
from starling.agent.trainer.engines.ort_training_engine import is_available
from starling.agent.training.local_descent import gradient, local_steps
from starling.agent.training.local_training import prepare, train
from starling.agent.training.trainer_messages import ENGINE_NAMES, TrainingOrder
from starling.agent.training.training_inputs import Trainer, TrainingInputs
from starling.compiler import compile_model
from starling.protocol.errors import EngineError, NonFinite, OperationError
from starling.protocol.ids import H, TaskId, Version
from starling.protocol.learning.local_optimiser import (
    DescentPolicy,
    OptimiserKind,
    ScheduleKind,
)
from starling.protocol.learning.task import (
    MICRO,
    Q24,
    PrivacyPolicy,
    TrainingMode,
    TrainingPolicy,
)
from starling.protocol.learning.vector_codecs import CODECS
from starling.protocol.model.training_bundle import (
    MANIFEST,
    manifest_from_json,
    pack_bundle,
)
from starling.protocol.privacy.clipping_functions import (
    CLIPPINGS,
    GRAPH_DIMENSION_MAX,
    NORM,
    clip_scale,
)
from starling.protocol.privacy.mechanisms import NONE, RECORD_DPSGD, RECORD_GAUSSIAN
from tests.unit.compiler.small_models import build, node, weight

FEATURES, CLASSES, RECORDS = 5, 3, 40
RNG = np.random.default_rng(7)
X = RNG.normal(size=(RECORDS, FEATURES)).astype(np.float32)
Y = RNG.integers(0, CLASSES, RECORDS)
RUNS = range(5)


def linear_bundle(clipping: str = NORM) -> dict[str, bytes]:
    """Softmax regression from five features to three classes."""
    model = build(
        [node("Gemm", ["x", "w", "b"], ["out"])],
        {
            "w": weight(RNG, FEATURES, CLASSES),
            "b": np.zeros(CLASSES, np.float32),
        },
        (FEATURES,),
        (CLASSES,),
    )
    return dict(compile_model(model, loss="cross-entropy", clipping=clipping).files)


FILES = linear_bundle()
PACKED = pack_bundle(FILES)


def order(
    mode: TrainingMode = TrainingMode.GRADIENT,
    mechanism: int = NONE,
    codec: int = 0,
    pledge: int = 32,
) -> TrainingOrder:
    dimension = manifest_from_json(FILES[MANIFEST]).dimension
    training = TrainingPolicy(mode, 2, 10, Q24 // 10)
    privacy = PrivacyPolicy(mechanism, Q24, 4 * MICRO, 8 * MICRO, 10**7, 15)
    return TrainingOrder(
        TaskId(0),
        Version(0),
        H(PACKED),
        H(b"theta"),
        dimension,
        codec,
        pledge,
        training,
        privacy,
        1,
    )


def descending(batch: int, policy: DescentPolicy) -> TrainingOrder:
    """Two epochs of local steps."""
    wanted = order(TrainingMode.LOCAL)
    training = replace(wanted.training, batch=batch, descent=policy)
    return replace(wanted, training=training)


def softmax_gradient(theta: NDArray[np.float32], rows: slice) -> NDArray[np.float64]:
    """The slow, obvious twin of `gradient.onnx`."""
    w = theta[: FEATURES * CLASSES].reshape(FEATURES, CLASSES).astype(np.float64)
    b = theta[FEATURES * CLASSES :].astype(np.float64)
    scores = X[rows] @ w + b
    chances = np.exp(scores - scores.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    chances[np.arange(len(chances)), Y[rows]] -= 1
    return np.concatenate([(X[rows].T @ chances).reshape(-1), chances.sum(axis=0)])


@pytest.fixture(scope="module", params=sorted(ENGINES))
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine in turn."""
    if request.param == "ort-training" and not is_available():
        pytest.skip(
            "needs onnxruntime-training-cpu: starling-fl[ort-training] in place "
            "of starling-fl[agent], on x86-64 with Python 3.11 or 3.12"
        )
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def trainer(engine: str) -> Trainer:
    """Of each engine."""
    return open_trainer(PACKED, engine=engine)


def test_every_engine_can_be_chosen() -> None:
    assert tuple(ENGINES) == ENGINE_NAMES


@pytest.mark.parametrize("micro_batch", [1, 7, 64])
def test_gradient_is_the_sum_over_all_records(
    trainer: Trainer, micro_batch: int
) -> None:
    found = gradient(trainer, trainer.theta, X, Y, micro_batch)

    expected = softmax_gradient(trainer.theta, slice(None))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_gradient_of_no_records_is_zero(trainer: Trainer) -> None:
    assert not gradient(trainer, trainer.theta, X[:0], Y[:0], 8).any()


def test_gradients_that_are_kept_are_not_written_again(trainer: Trainer) -> None:
    kept = [trainer.gradient_sum(trainer.theta, X[k:][:2], Y[k:][:2])[0] for k in RUNS]
    views = [
        trainer.gradient_sum(trainer.theta, X[k:][:2], Y[k:][:2])[0][1:] for k in RUNS
    ]

    for k in RUNS:
        expected = softmax_gradient(trainer.theta, slice(k, k + 2))
        np.testing.assert_allclose(kept[k], expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(kept[k][1:], views[k])


def test_theta_that_changes_in_place_is_read_anew(trainer: Trainer) -> None:
    theta = trainer.theta.copy()
    before = trainer.gradient_sum(theta, X, Y)[0]
    theta += 1.0
    theta[0] = -1.0

    after = trainer.gradient_sum(theta, X, Y)[0]

    assert not np.array_equal(before, after)
    expected = softmax_gradient(theta, slice(None))
    np.testing.assert_allclose(after, expected, rtol=1e-4, atol=1e-4)


def test_arrays_with_gaps_are_read_as_they_are(trainer: Trainer) -> None:
    theta = np.repeat(trainer.theta, 2)[::2]
    x, y = np.repeat(X, 2, axis=1)[:, ::2], np.repeat(Y, 2)[::2]
    first = trainer.gradient_sum(theta, x, y)[0]
    theta[:] = 2 * theta

    second = trainer.gradient_sum(theta, x, y)[0]

    for found, at in ((first, trainer.theta), (second, 2 * trainer.theta)):
        expected = softmax_gradient(at, slice(None))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_each_number_of_records_gets_as_many_losses(trainer: Trainer) -> None:
    for count in (3, 1, 7, 3):
        _, loss = trainer.gradient_sum(trainer.theta, X[:count], Y[:count])
        whole, _ = trainer.evaluate(trainer.theta, X[:count], Y[:count])
        np.testing.assert_allclose(loss, whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("theta", "x", "y"),
    [
        (np.zeros(3, np.float32), X, Y),
        (np.zeros(18, np.float64), X, Y),
        (np.zeros(18, np.float32), X[:, :4], Y),
        (np.zeros(18, np.float32), X.astype(np.float64), Y),
        (np.zeros(18, np.float32), X, Y[:5]),
        (np.zeros(18, np.float32), X, Y + CLASSES),
    ],
    ids=["short", "double", "narrow", "x_double", "few_labels", "label_outside"],
)
def test_arrays_that_do_not_fit_are_an_engine_error(
    trainer: Trainer, theta: NDArray[Any], x: NDArray[Any], y: NDArray[Any]
) -> None:
    with pytest.raises(EngineError):
        trainer.gradient_sum(theta, x, y)

    again = trainer.gradient_sum(trainer.theta, X, Y)[0]
    expected = softmax_gradient(trainer.theta, slice(None))
    np.testing.assert_allclose(again, expected, rtol=1e-4, atol=1e-4)


def test_evaluation_gives_a_loss_and_an_output_per_record(trainer: Trainer) -> None:
    loss, output = trainer.evaluate(trainer.theta, X, Y)

    assert loss.shape == (RECORDS,)
    assert output.shape == (RECORDS, CLASSES)


def test_inference_gives_an_output_per_record(trainer: Trainer) -> None:
    output = trainer.infer(trainer.theta, X)

    # A softmax changes no order, so that class and evaluation agree.
    evaluated = trainer.evaluate(trainer.theta, X, Y)[1]
    assert output.shape == (RECORDS, CLASSES)
    np.testing.assert_array_equal(output.argmax(axis=1), evaluated.argmax(axis=1))


def test_private_gradient_never_passes_the_clip(trainer: Trainer) -> None:
    for index in range(RECORDS):
        row = slice(index, index + 1)
        clipped, norm = trainer.private_gradient_sum(
            trainer.theta, X[row], Y[row], 0.25
        )
        assert np.linalg.norm(clipped) <= 0.25
        plain = np.linalg.norm(trainer.gradient_sum(trainer.theta, X[row], Y[row])[0])
        np.testing.assert_allclose(norm[0], plain, rtol=1e-4)


@pytest.mark.parametrize("clipping", CLIPPINGS)
def test_private_gradient_scales_as_the_manifest_says(
    engine: str, clipping: str
) -> None:
    trainer = open_trainer(pack_bundle(linear_bundle(clipping)), engine=engine)
    theta = trainer.theta
    rows = [slice(k, k + 1) for k in range(8)]
    singles = [softmax_gradient(theta, row) for row in rows]
    norms = [float(np.linalg.norm(single)) for single in singles]

    found, _ = trainer.private_gradient_sum(theta, X[:8], Y[:8], 0.5)

    scales = [clip_scale(norm, 0.5, theta.size, clipping) for norm in norms]
    expected = np.array(scales) @ np.array(singles)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def first_records(trainer: Trainer, wanted: TrainingOrder) -> TrainingInputs:
    return TrainingInputs(trainer.theta, X[:32], Y[:32], wanted, 64)


def test_local_steps_are_pledge_times_the_way_of_sgd(trainer: Trainer) -> None:
    wanted = order(TrainingMode.LOCAL)
    one_batch = replace(wanted.training, epochs=1, batch=32)
    wanted = replace(wanted, training=one_batch)
    rng = np.random.default_rng(1)

    found = local_steps(trainer, first_records(trainer, wanted), rng)

    expected = 0.1 * softmax_gradient(trainer.theta, slice(0, 32))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_accumulated_batches_make_the_step_of_one_large_batch(
    trainer: Trainer,
) -> None:
    found = [
        local_steps(
            trainer,
            first_records(
                trainer, descending(batch, DescentPolicy(accumulation=32 // batch))
            ),
            np.random.default_rng(1),
        )
        for batch in (32, 8)
    ]

    np.testing.assert_allclose(found[0], found[1], rtol=1e-3, atol=1e-3)


def test_local_steps_follow_optimiser_schedule_and_proximal_term(
    trainer: Trainer,
) -> None:
    policy = DescentPolicy(
        OptimiserKind.MOMENTUM,
        momentum_q24=Q24 // 2,
        prox_q24=Q24 * 3,
        schedule=ScheduleKind.STEP,
        decay_q24=Q24 // 4,
    )

    work = first_records(trainer, descending(32, policy))
    found = local_steps(trainer, work, np.random.default_rng(1))

    # Two steps at rates 0.1 and 0.025, of which the second remembers half the first.
    first = softmax_gradient(trainer.theta, slice(0, 32)) / 32
    between = (trainer.theta - 0.1 * first).astype(np.float32)
    slope = softmax_gradient(between, slice(0, 32)) / 32
    second = 0.5 * first + slope + 3.0 * (between - trainer.theta)
    expected = 32 * (0.1 * first + 0.025 * second)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_diverging_local_steps_are_refused(trainer: Trainer) -> None:
    wild = replace(order(TrainingMode.LOCAL).training, learning_rate_q24=1 << 32)
    wanted = replace(order(TrainingMode.LOCAL), training=wild)
    huge = (X * np.float32(1e37)).astype(np.float32)

    work = TrainingInputs(trainer.theta, huge, Y, wanted, 64)

    with pytest.raises(NonFinite), np.errstate(all="ignore"):
        local_steps(trainer, work, np.random.default_rng(1))


def trained(trainer: Trainer, wanted: TrainingOrder) -> NDArray[np.int64]:
    work = TrainingInputs(trainer.theta, X, Y, wanted, 8)
    rng = np.random.default_rng(1)
    payload = train(trainer, work, lambda count: bytes(count), rng)
    return CODECS[wanted.codec].decode(payload, wanted.dimension)


def test_update_counts_all_records_whatever_was_pledged(trainer: Trainer) -> None:
    found = trained(trainer, order(pledge=16)) / Q24

    expected = softmax_gradient(trainer.theta, slice(None))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def adam_in_noise() -> TrainingOrder:
    wanted = order(TrainingMode.LOCAL, RECORD_DPSGD)
    policy = DescentPolicy(OptimiserKind.ADAM)
    return replace(wanted, training=replace(wanted.training, descent=policy))


@pytest.mark.parametrize(
    "wanted",
    [
        order(TrainingMode.LOCAL, RECORD_GAUSSIAN),
        order(mechanism=99),
        order(codec=99),
        adam_in_noise(),
    ],
    ids=["local with noise", "unknown mechanism", "unknown codec", "noised Adam"],
)
def test_order_that_the_board_does_not_know_is_refused(
    trainer: Trainer, wanted: TrainingOrder
) -> None:
    with pytest.raises(OperationError, match="not known here"):
        trained(trainer, wanted)


def test_model_that_no_graph_clips_exactly_enough_is_refused(
    trainer: Trainer,
) -> None:
    wide = replace(order(mechanism=RECORD_GAUSSIAN), dimension=GRAPH_DIMENSION_MAX + 1)

    prepare(trainer, trainer.theta, wide)
    with pytest.raises(EngineError, match="no graph clips"):
        prepare(trainer, trainer.theta, wide, trusted=True)


@pytest.mark.parametrize("value", [np.nan, np.inf], ids=str)
def test_model_without_a_gradient_at_nothing_fails_before_it_is_paid_for(
    trainer: Trainer, value: float
) -> None:
    theta = np.full_like(trainer.theta, value)
    prepare(trainer, trainer.theta, order(mechanism=RECORD_GAUSSIAN))

    with pytest.raises(NonFinite), np.errstate(all="ignore"):
        prepare(trainer, theta, order(mechanism=RECORD_GAUSSIAN))


def test_noise_of_an_update_has_the_size_that_was_charged(trainer: Trainer) -> None:
    clean = np.zeros(4000, np.int64)
    draw = np.random.default_rng(3).bytes
    noised = private_sum(clean, Q24, 4 * MICRO, 32 * MICRO, draw)

    spread = float(noised.values.std()) * 2.0**noised.exponent
    # The relative error of a deviation from 4,000 draws is 1.1 %: five of them.
    assert abs(spread / 4.0 - 1) < 0.06
