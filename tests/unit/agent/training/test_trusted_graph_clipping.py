"""A graph that clips by itself, as our compiler makes it, keeps the bound."""

import numpy as np
import pytest

from starling.agent import open_trainer
from starling.compiler import compile_model
from starling.protocol.privacy.clipping_functions import CLIPPINGS
from starling.protocol.privacy.mechanisms import RECORD_GAUSSIAN
from starling.protocol.privacy.noise_grid import noise_grid
from tests.unit.agent.training.hostile_gradients import (
    CLIP_Q24,
    SIGMA,
    length,
    order,
    pictures,
    released,
)
from tests.unit.compiler.small_models import cnn

pytestmark = pytest.mark.usefixtures("exact_codec")


@pytest.mark.parametrize("clipping", CLIPPINGS)
def test_trusted_bundle_of_an_honest_compiler_keeps_the_bound(clipping: str) -> None:
    bundle = compile_model(cnn(), loss="cross-entropy", clipping=clipping)
    trainer = open_trainer(bundle.packed)
    size = trainer.theta.size
    x, y = pictures()
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
