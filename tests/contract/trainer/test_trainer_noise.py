"""The noise that a real trainer process makes: as much as is charged for, and new."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from starling.agent.training.trainer_messages import TrainerReportKind, TrainingOrder
from starling.protocol.learning.task import MICRO, Q24, TrainingMode
from starling.protocol.learning.vector_codecs import CODECS
from starling.protocol.privacy.mechanisms import (
    DEVICE_GAUSSIAN,
    DEVICE_LAPLACE,
    RECORD_DPSGD,
    RECORD_GAUSSIAN,
)
from starling.protocol.privacy.noise_grid import laplace_grid, noise_grid
from tests.contract.trainer.asked_trainer import Process
from tests.contract.trainer.test_engines import X, Y, order

TRAININGS = 120
SIGMA, CLIP_Q24, STEPS = 4 * MICRO, Q24, 3
DEVIATIONS = 5.0
"""A right trainer fails once in 1.7 million runs of one of these tests."""
MECHANISMS = {
    "record-gaussian": RECORD_GAUSSIAN,
    "record-dpsgd": RECORD_DPSGD,
    "device-gaussian": DEVICE_GAUSSIAN,
    "device-laplace": DEVICE_LAPLACE,
}


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    """A trainer on one record, which leaves the noise alone to vary."""
    found = Process(tmp_path)
    np.savez(tmp_path / "data" / "a.npz", x=X[:1], y=Y[:1])
    yield found
    found.trainer.stop()


def wanted(mechanism: int) -> TrainingOrder:
    """An order whose update shows the noise of each of its draws."""
    local = mechanism == RECORD_DPSGD
    asked = order(TrainingMode.LOCAL if local else TrainingMode.GRADIENT, mechanism)
    steps = STEPS if local else 1
    privacy = replace(
        asked.privacy,
        clip_q24=CLIP_Q24,
        sigma_micro=SIGMA,
        sampling_micro=MICRO,
        steps=steps,
    )
    return replace(asked, pledge=1, privacy=privacy)


def updates(process: Process, asked: TrainingOrder, count: int) -> NDArray[np.float64]:
    """(count, d) what so many trainings from the same base gave."""
    found = []
    for _ in range(count):
        assert process.answer(asked).kind == TrainerReportKind.READY
        process.trainer.resume()
        result = process.report()
        assert result.kind == TrainerReportKind.RESULT, result.detail
        process.trainer.answered()
        found.append(CODECS[asked.codec].decode(result.payload, asked.dimension))
    return np.array(found) / Q24


def charged_deviation(asked: TrainingOrder) -> float:
    """Standard deviation of one coordinate of the update, by the public figures."""
    mechanism, d = asked.privacy.mechanism, asked.dimension
    if mechanism == DEVICE_LAPLACE:
        grid = laplace_grid(2 * CLIP_Q24, SIGMA, d)
        # Of the discrete Laplace law, which is all but sqrt(2) times its scale.
        ratio = math.exp(-1 / grid.scale)
        return math.ldexp(math.sqrt(2 * ratio) / (1 - ratio), grid.exponent)
    if mechanism == DEVICE_GAUSSIAN:
        return noise_grid(2 * CLIP_Q24, SIGMA, d).deviation
    deviation = noise_grid(CLIP_Q24, SIGMA, d).deviation
    if mechanism == RECORD_DPSGD:
        rate = asked.training.learning_rate_q24 / Q24
        return deviation * rate * math.sqrt(asked.privacy.steps)
    return deviation


@pytest.mark.slow
@pytest.mark.parametrize("mechanism", MECHANISMS.values(), ids=MECHANISMS)
def test_noise_of_the_process_is_what_the_charge_says(
    process: Process, mechanism: int
) -> None:
    asked = wanted(mechanism)

    found = updates(process, asked, TRAININGS)

    degrees = (TRAININGS - 1) * asked.dimension
    kurtosis = 6.0 if mechanism == DEVICE_LAPLACE else 3.0
    ratio = found.var(axis=0, ddof=1).mean() / charged_deviation(asked) ** 2
    assert abs(ratio - 1) < DEVIATIONS * math.sqrt((kurtosis - 1) / degrees)


def test_noise_differs_from_training_to_training_and_process_to_process(
    tmp_path: Path,
) -> None:
    asked = wanted(RECORD_GAUSSIAN)
    found = []

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        process = Process(tmp_path / name)
        found += [*updates(process, asked, 2)]
        process.trainer.stop()

    # Noise has a deviation of four: that two of 18 coordinates agree to 10^-6, once in
    # the six pairs, happens once in 10^10 runs.
    for first in range(4):
        for second in range(first):
            assert (np.abs(found[first] - found[second]) < 1e-6).sum() < 2


def test_sample_of_each_training_is_drawn_anew(tmp_path: Path) -> None:
    process = Process(tmp_path)
    asked = wanted(RECORD_DPSGD)
    # All but no noise, one step: what is left to vary is who was drawn.
    privacy = replace(
        asked.privacy, sigma_micro=20_000, sampling_micro=MICRO // 2, steps=1
    )
    asked = replace(asked, privacy=privacy, pledge=32)

    found = updates(process, asked, 6)
    process.trainer.stop()

    noise = 0.02 * 0.1 * 2
    distances = [np.abs(found[i] - found[j]).max() for i in range(6) for j in range(i)]
    assert min(distances) > 10 * noise
