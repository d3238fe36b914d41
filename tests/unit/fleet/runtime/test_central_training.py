"""The same model, trained on all data together."""

import numpy as np
import pytest

from starling.agent.trainer.engines.engine_registry import open_trainer
from starling.fleet.plan import FleetPlan
from starling.fleet.report.model_evaluation import as_fed, metrics_of
from starling.fleet.report.model_metrics import ModelMetrics
from starling.fleet.runtime.central_training import pooled_baseline
from starling.fleet.runtime.training_material import prepare


def test_pooled_model_is_better_than_its_start_and_compared_with_it() -> None:
    material = prepare(FleetPlan(devices=3, buffer=1))
    trainer = open_trainer(material.bundle)
    held_out = as_fed(material.data.held_out, trainer.manifest)
    start = ModelMetrics(metrics_of(trainer, trainer.theta, held_out))

    found = pooled_baseline(material, start)

    assert found is not None
    assert found.pooled > 0.9 > found.federated
    assert found.distance == pytest.approx(found.pooled - found.federated)
    assert np.isfinite(found.distance)


def test_nothing_is_compared_with_a_fleet_that_has_no_model() -> None:
    material = prepare(FleetPlan(devices=3, buffer=1))

    assert pooled_baseline(material, None) is None
