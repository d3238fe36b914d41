"""What docs/privacy.md assumes of a compiled graph, on the reference network.

The proof needs that a record's part does not depend on the other rows of a micro-batch
of the same shape, and that one record moves the sum by no more than is charged.
"""

import numpy as np
import pytest
from numpy.typing import NDArray

from agent import open_trainer
from agent.mechanism import Step, clipped_sum
from compiler import compile_model
from protocol.noise import noise_grid
from tests.unit.compiler.small_models import cnn

B = 16
CLIP_Q24 = 1 << 20
SIGMA = 1_000_000

Images = NDArray[np.float32]
Labels = NDArray[np.int64]


@pytest.fixture(
    params=[(1, "norm"), (2, "norm"), (1, "automatic")],
    ids=["one thread", "two threads", "automatic"],
    scope="module",
)
def step(request: pytest.FixtureRequest) -> Step:
    """The private gradient as a board's engine runs it."""
    threads, clipping = request.param
    bundle = compile_model(cnn(), loss="cross-entropy", clipping=clipping)
    trainer = open_trainer(bundle.packed, threads)
    theta, clip = trainer.theta, CLIP_Q24 / 2**24
    return lambda x, y: trainer.private_gradient_sum(theta, x, y, clip)


def records(count: int, spread: float, seed: int) -> tuple[Images, Labels]:
    rng = np.random.default_rng(seed)
    x = rng.normal(0, spread, (count, 1, 28, 28)).astype(np.float32)
    return x, rng.integers(0, 10, count)


def test_row_does_not_depend_on_the_other_rows(step: Step) -> None:
    x, y = records(B, 1.0, 0)
    _, norms = step(x, y)
    for row in range(B):
        other_x, other_y = records(B, 10.0, 1 + row)
        other_x[row], other_y[row] = x[row], y[row]
        _, changed = step(other_x, other_y)
        assert changed[row] == norms[row]


def test_place_of_a_record_matters_by_less_than_its_margin(step: Step) -> None:
    # Rows start at memory of different alignment, where sums begin differently.
    for record in range(4):
        x, y = records(1, 1.0, 20 + record)
        moved = []
        for row in range(B):
            slots_x = np.zeros((B, *x.shape[1:]), np.float32)
            slots_y = np.zeros(B, np.int64)
            slots_x[row], slots_y[row] = x[0], y[0]
            moved.append(step(slots_x, slots_y)[0].astype(np.float64))
        spread = max(float(np.linalg.norm(total - moved[0])) for total in moved)
        assert spread < 2.0**-13 * CLIP_Q24 / 2**24


def test_one_record_moves_the_sum_by_no_more_than_charged(step: Step) -> None:
    x, y = records(40, 1.0, 5)
    whole = clipped_sum(step, x, y, B)
    grid = noise_grid(CLIP_Q24, SIGMA, whole.size)
    for index in (0, 15, 16, 39):
        emptied = x.copy()
        emptied[index] = np.nan
        without = clipped_sum(step, emptied, y, B)
        moved = [np.rint(np.ldexp(total, -grid.exponent)) for total in (whole, without)]
        assert np.linalg.norm(moved[0] - moved[1]) <= grid.sensitivity


def test_rounding_of_the_sum_is_far_below_its_margin(step: Step) -> None:
    x, y = records(B, 1.0, 6)
    together, _ = step(x, y)
    single = np.zeros(together.size)
    for row in range(B):
        repeated, _ = step(np.repeat(x[row : row + 1], B, 0), np.repeat(y[row], B))
        single += repeated.astype(np.float64) / B
    error = float(np.linalg.norm(together - single)) / (CLIP_Q24 / 2**24)
    assert error < B * B * 2.0**-24
