"""Threads that train for virtual boards."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from starling.agent.trainer.engines.engine_registry import open_trainer
from starling.agent.training.trainer_messages import TrainingOrder
from starling.coordinator.task_file.task_settings import publication
from starling.engine.opened_bundle import open_packed
from starling.fleet.datasets.partition import Examples
from starling.fleet.learning_options import LearningOptions
from starling.fleet.plan import FleetPlan
from starling.fleet.presets import DataShares, task_settings
from starling.fleet.reference_models import build_model
from starling.fleet.runtime.dataset_catalog import FleetDataSet
from starling.fleet.runtime.training_material import TrainingMaterial, prepare
from starling.fleet.runtime.training_pool import TrainingPool
from starling.protocol.errors import ConfigError
from starling.protocol.ids import TaskId, Version
from starling.protocol.learning.task import TrainingMode
from starling.protocol.privacy.mechanisms import NONE
from tests.contract.trainer.test_engines import CLASSES, X, Y, order
from tests.contract.trainer.test_personal_layers import LOCAL_PACKED, TRAINER

DATA = Examples(X, Y)
PLAN = FleetPlan(devices=2, buffer=1)
THETA = TRAINER.theta.tobytes()
ORDER = replace(
    order(TrainingMode.LOCAL, NONE), dimension=TRAINER.theta.size, pledge=len(X)
)


@pytest.fixture
def workers() -> Iterator[TrainingPool]:
    data = FleetDataSet("small", DATA, DATA, DATA, CLASSES)
    shares = DataShares(X.shape[1:], len(X), len(X))
    made = TrainingPool(
        TrainingMaterial(data, [DATA, DATA], shares, LOCAL_PACKED, PLAN), 1, 1
    )
    yield made
    made.close()


def test_workers_begin_with_the_parameters_that_a_board_kept(
    workers: TrainingPool,
) -> None:
    first = workers.train(0, ORDER, THETA)()
    again = workers.train(0, ORDER, THETA)()

    assert again != first


def test_workers_keep_nothing_of_a_training_that_nobody_took(
    workers: TrainingPool,
) -> None:
    untaken = workers.train(0, ORDER, THETA)
    workers.train(1, ORDER, THETA)()

    taken = workers.train(0, ORDER, THETA)()

    assert taken == untaken()


def test_boards_own_models_are_compared_on_what_they_kept_aside() -> None:
    plan = FleetPlan(
        devices=4,
        buffer=2,
        split="shards:2",
        privacy="none",
        learning=LearningOptions(personal=0.1),
    )
    material = prepare(plan)
    sizes = [len(board) for board in material.boards]
    aside = [len(test) for test in material.own_tests]
    assert aside == [pytest.approx(size / 4, abs=1) for size in sizes]
    assert len(material.data.training) == sum(sizes) + sum(aside)
    spec = publication(
        task_settings(plan, material.shares), material.bundle, "task"
    ).spec
    theta = open_packed(material.bundle).theta
    with closing(TrainingPool(material, 1, 1)) as workers:
        before = workers.metrics(theta.tobytes())
        for board in range(2):
            asked = TrainingOrder(
                TaskId(0),
                Version(0),
                spec.bundle,
                spec.initial.training,
                spec.dimension,
                spec.codec,
                spec.pledges[0],
                spec.training,
                spec.privacy,
                1,
                spec.personal,
            )
            workers.train(board, asked, theta.tobytes())()
        after = workers.metrics(theta.tobytes())

    assert before is not None
    assert before.personal is None
    assert after is not None
    assert after.personal is not None
    own, fleets = after.personal.own["accuracy"], after.personal.fleets["accuracy"]
    assert own.count == fleets.count == 2
    assert own.least > fleets.most


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = build_model("mlp", (3,), 4, np.random.default_rng(1))
    file = tmp_path_factory.mktemp("model") / "mine.onnx"
    file.write_bytes(made.SerializeToString())
    return file


def _plan(folder: Path, model_file: Path, shape: tuple[int, ...]) -> FleetPlan:
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((40, *shape)), rng.integers(0, 4, 40)
    np.savez(folder / "own.npz", x=x.astype(np.float32), y=y)
    return FleetPlan(
        devices=2, buffer=1, data=str(folder / "own.npz"), model=str(model_file)
    )


def test_prepare_compiles_the_model_of_a_file(tmp_path: Path, model_file: Path) -> None:
    plan = _plan(tmp_path, model_file, (3,))

    material = prepare(plan)

    assert open_trainer(material.bundle).manifest.output.shape == (4,)
    assert task_settings(plan, material.shares).name.startswith("mine-")


def test_prepare_refuses_a_model_that_does_not_fit(
    tmp_path: Path, model_file: Path
) -> None:
    with pytest.raises(ConfigError, match=r"--model.*takes \(3,\).*data are \(5,\)"):
        prepare(_plan(tmp_path, model_file, (5,)))
