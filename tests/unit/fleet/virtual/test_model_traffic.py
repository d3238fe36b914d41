"""What boards of a whole fleet pull, with differences of models and without."""

import numpy as np
import pytest

from starling.agent.training.trainer_messages import TrainingOrder
from starling.coordinator.loop.storage import delta_cache
from starling.fleet.virtual.workload import Result, ZeroWorkload
from starling.protocol.learning.vector_codecs import CODECS, GridVector
from tests.unit.fleet.virtual.idle_fleet import drive, fleet_of

VERSIONS = 6


class Wanderers(ZeroWorkload):
    """Boards whose updates move every parameter a little, by what they train from."""

    def train(self, board: int, order: TrainingOrder, theta: bytes) -> Result:
        rng = np.random.default_rng([*theta[:64], board])
        values = rng.integers(-900, 900, order.dimension)
        payload = CODECS[order.codec].encode(GridVector(values, -16), rng.bytes)
        return lambda: payload


def pulled() -> tuple[int, bytes]:
    """Bytes that boards received in some versions, and the model that they came to."""
    fleet = fleet_of(1, labour=Wanderers(143))
    drive(fleet, lambda: fleet.version >= VERSIONS, 3600.0)
    return fleet.snapshot(fleet.elapsed_s).bytes_down, fleet.inference


def test_fleet_pulls_less_and_learns_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    shorter, model = pulled()
    monkeypatch.setattr(delta_cache, "difference", lambda older, newer: None)
    longer, same = pulled()

    # The bundle, proofs and leases are in it, too.
    assert shorter < 0.9 * longer
    assert model == same
