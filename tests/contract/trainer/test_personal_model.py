"""A model that a board trains for itself: drawn to the fleet's, and never sent."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from starling.agent import open_trainer
from starling.agent.trainer.personal_layers_file import head_bytes, personal_model
from starling.agent.training.local_descent import personal_steps
from starling.agent.training.local_training import train
from starling.agent.training.trainer_messages import (
    TrainerJob,
    TrainerJobKind,
    TrainerReportKind,
    TrainingOrder,
)
from starling.agent.training.training_inputs import TrainingInputs
from starling.protocol.learning.local_optimiser import PersonalPolicy
from starling.protocol.learning.task import Q24, TrainingMode
from starling.protocol.privacy.mechanisms import NONE, RECORD_GAUSSIAN
from tests.contract.trainer.asked_trainer import Process
from tests.contract.trainer.test_engines import (
    PACKED,
    X,
    Y,
    order,
    softmax_gradient,
)

TRAINER = open_trainer(PACKED)
OWN = (TRAINER.theta + np.float32(0.5)).astype(np.float32)
RATE = 0.1


def personal(
    epochs: int,
    pull: float,
    mode: TrainingMode = TrainingMode.GRADIENT,
    mechanism: int = RECORD_GAUSSIAN,
) -> TrainingOrder:
    """Steps of 32 records at rate 0.1."""
    wanted = order(mode, mechanism)
    training = replace(wanted.training, batch=32)
    policy = PersonalPolicy(epochs, round(pull * Q24))
    return replace(wanted, training=training, personal=policy)


def inputs(wanted: TrainingOrder, records: int = 32) -> TrainingInputs:
    return TrainingInputs(TRAINER.theta, X[:records], Y[:records], wanted, 32)


@pytest.mark.parametrize("pull", [0.0, 2.0])
def test_step_follows_the_exact_gradient_and_the_pull(pull: float) -> None:
    work = inputs(personal(1, pull))

    found = personal_steps(TRAINER, work, OWN, np.random.default_rng(1))

    slope = softmax_gradient(OWN, slice(0, 32)) / 32 + pull * (OWN - TRAINER.theta)
    np.testing.assert_allclose(found, OWN - RATE * slope, rtol=1e-4, atol=1e-5)


def test_records_that_crash_the_engine_are_in_no_step() -> None:
    work = replace(inputs(personal(2, 0.5)), skipped=frozenset({0, 31}))
    rest = replace(work, x=X[1:31], y=Y[1:31], skipped=frozenset())

    found = personal_steps(TRAINER, work, OWN, np.random.default_rng(1))

    expected = personal_steps(TRAINER, rest, OWN, np.random.default_rng(1))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("mode", "mechanism"),
    [(TrainingMode.GRADIENT, RECORD_GAUSSIAN), (TrainingMode.LOCAL, NONE)],
)
def test_update_is_the_same_whether_the_board_has_a_model_of_its_own(
    mode: TrainingMode, mechanism: int
) -> None:
    def sent(epochs: int) -> bytes:
        random = np.random.default_rng(5)
        work = inputs(personal(epochs, 0.1, mode, mechanism))
        return train(TRAINER, work, random.bytes, random)

    assert sent(3) == sent(0)


def job(process: Process, wanted: TrainingOrder) -> TrainerJob:
    asked = replace(process.job(wanted), kind=TrainerJobKind.PERSONALISE)
    return replace(asked, personal_path=str(process.folder / "own"))


def test_process_goes_on_from_the_kept_model_and_writes_nothing(
    process: Process,
) -> None:
    wanted = personal(1, 0.0)
    batches = -(-len(X) // 32)
    (process.folder / "own").write_bytes(head_bytes(OWN))
    before = sorted(process.folder.rglob("*"))

    process.trainer.ask(job(process, wanted))
    report = process.report()

    assert report.kind == TrainerReportKind.PERSONALISED
    assert not report.payload
    found = np.frombuffer(report.head, "<f4")
    way = np.abs(found - OWN).max()
    assert 0.0 < way < RATE * batches * np.abs(X).max() * 2
    assert (process.folder / "own").read_bytes() == head_bytes(OWN)
    left = {path.name for path in process.folder.rglob("*")}
    assert left - {path.name for path in before} <= {"trainer.log", "trainer.folder"}


def test_process_begins_at_the_version_where_nothing_is_kept(
    process: Process,
) -> None:
    still = replace(
        personal(1, 0.0),
        training=replace(personal(1, 0.0).training, learning_rate_q24=0),
    )

    process.trainer.ask(job(process, still))
    report = process.report()

    assert np.frombuffer(report.head, "<f4").tolist() == TRAINER.theta.tolist()


def test_process_without_records_trains_no_model(process: Process) -> None:
    (process.folder / "data" / "a.npz").write_bytes(b"no zip")

    process.trainer.ask(job(process, personal(1, 0.1)))
    report = process.report()

    assert report.kind == TrainerReportKind.FAILED_TRAINING
    assert not report.head


@pytest.mark.parametrize(
    "content",
    [None, b"abc", bytes(4), np.full(TRAINER.theta.size, np.nan, "<f4").tobytes()],
    ids=["missing", "torn", "short", "not finite"],
)
def test_kept_model_that_does_not_fit_counts_as_none(
    tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "own").write_bytes(content)

    assert personal_model(tmp_path / "own", TRAINER.theta) is TRAINER.theta
