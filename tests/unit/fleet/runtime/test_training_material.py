"""What a fleet starts from: data of one's own, and the compiler's doors."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from starling.agent.trainer.engines.engine_registry import open_trainer
from starling.compiler import compile_model, write_bundle
from starling.fleet.fronts.front_catalog import FONTS, PEN
from starling.fleet.fronts.head_model import with_metadata
from starling.fleet.learning_options import LearningOptions
from starling.fleet.plan import FleetPlan
from starling.fleet.presets import task_settings
from starling.fleet.reference_models import build_model
from starling.fleet.runtime.training_material import prepare
from starling.protocol.errors import ConfigError
from starling.protocol.model.training_bundle import BundleManifest
from starling.records.data_options import DataOptions

HOUSES = "rooms,site,kind,price\n" + "".join(
    f"{at % 7},{'abc'[at % 3]},{'flat' if at % 4 else 'hut'},{1000 + 50 * (at % 7)}.5\n"
    for at in range(120)
)


@pytest.fixture
def houses(tmp_path: Path) -> Path:
    path = tmp_path / "houses.csv"
    path.write_text(HOUSES)
    return path


def plan(
    path: Path,
    learning: LearningOptions | None = None,
    **asked: Any,  # noqa: ANN401 - fields of any type
) -> FleetPlan:
    wished = DataOptions(**{"categories": "one-hot", **asked})
    doors = learning or LearningOptions()
    return FleetPlan(
        devices=0, buffer=1, data=str(path), data_options=wished, learning=doors
    )


def manifest(of: FleetPlan) -> BundleManifest:
    return open_trainer(prepare(of).bundle).manifest


def test_prepare_makes_a_model_for_a_table_of_numbers(houses: Path) -> None:
    made = prepare(plan(houses, board_column="site", targets=("price",)))

    found = open_trainer(made.bundle).manifest
    assert (found.loss, found.input.shape, found.output.shape) == ("mse", (3,), (1,))
    assert found.table is not None
    assert [column.name for column in found.table.columns] == ["rooms", "kind"]
    assert found.table.targets[0].scale > 0
    assert len(found.preprocessing.scale) == 3
    assert (made.plan.devices, made.plan.split, len(made.boards)) == (3, "natural", 3)
    assert made.boards[0].y.max() > 1000


def test_prepare_puts_the_label_map_into_the_bundle(houses: Path) -> None:
    found = manifest(plan(houses, targets=("kind",)))

    assert found.classes == ("flat", "hut")
    assert found.loss == "cross-entropy"


def test_prepare_with_fewer_devices_joins_whole_boards(houses: Path) -> None:
    made = prepare(replace(plan(houses, board_column="site"), devices=2))

    assert sorted(map(len, made.boards)) == sorted(
        [len(made.data.training) - len(made.boards[1]), len(made.boards[1])]
    )
    assert len(made.boards) == 2


def test_prepare_opens_the_doors_of_the_compiler(houses: Path) -> None:
    doors = LearningOptions(loss="huber", freeze=("hidden.*",), local=("linear.bias",))
    found = manifest(replace(plan(houses, doors), model="mlp"))

    assert found.loss == "huber"
    trained = {item.name: item.local for item in found.parameters if item.trainable}
    assert trained == {"linear.weight": False, "linear.bias": True}


def test_prepare_measures_balanced_class_weights_and_says_so(houses: Path) -> None:
    doors = LearningOptions(balanced=True)
    made = prepare(plan(houses, doors, targets=("kind",)))

    flat, hut = open_trainer(made.bundle).manifest.loss_settings.class_weights
    assert hut / flat == pytest.approx(3, rel=0.2)
    measured, lost = made.data.notes[-2:]
    assert "class weights were measured" in measured
    assert "class weights above 1 are lost" in lost
    open_to_all = replace(plan(houses, doors, targets=("kind",)), privacy="none")
    assert "were measured" in prepare(open_to_all).data.notes[-1]


def test_steps_of_boards_are_as_they_were_asked_for(houses: Path) -> None:
    doors = LearningOptions(
        optimiser="adam", epochs=3, batch=7, local_learning_rate=0.01
    )
    asked = replace(plan(houses), privacy="none")
    made = prepare(replace(asked, learning=doors))

    section = task_settings(made.plan, made.shares).training
    assert (section.epochs, section.batch, section.learning_rate) == (3, 7, 0.01)
    assert section.descent.optimiser == "adam"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    model = build_model("mlp", (3,), 1, np.random.default_rng(77))
    (tmp_path / "other.onnx").write_bytes(model.SerializeToString())
    bundle = compile_model(model, loss="mse")
    write_bundle(bundle, tmp_path / "bundle")
    np.save(tmp_path / "theta.npy", bundle.theta)
    return tmp_path


@pytest.mark.parametrize("name", ["other.onnx", "bundle", "theta.npy"])
def test_warm_start_begins_from_the_weights_of_another(
    houses: Path, other: Path, name: str
) -> None:
    doors = LearningOptions(start=str(other / name))
    made = prepare(replace(plan(houses, doors, ignore=("site",)), model="mlp"))

    np.testing.assert_array_equal(
        open_trainer(made.bundle).theta, np.load(other / "theta.npy")
    )


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "labels with mse": (
        {"targets": ("kind",), "learning": LearningOptions(loss="mse")},
        "--loss mse: the data's targets are labels",
    ),
    "numbers are no shares": (
        {"learning": LearningOptions(loss="bce")},
        r"--loss bce: targets must lie in \[0, 1\]",
    ),
    "weights of numbers": (
        {"learning": LearningOptions(balanced=True)},
        "--class-weights: the targets are no labels",
    ),
    "too few weights": (
        {"targets": ("kind",), "learning": LearningOptions(class_weights=(1.0,))},
        "--class-weights: 1 weights for 2 classes",
    ),
    "pattern": (
        {"learning": LearningOptions(freeze=("tail.*",))},
        r"--freeze.*tail\.\*",
    ),
    "no start": (
        {"learning": LearningOptions(start="absent.npy")},
        "absent.npy: --start: No such file",
    ),
}


@pytest.mark.parametrize(("changes", "said"), BAD.values(), ids=BAD)
def test_prepare_refuses_by_flag(
    houses: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        prepare(plan(houses, **changes))


def test_start_of_another_shape_is_refused(houses: Path, other: Path) -> None:
    doors = LearningOptions(start=str(other / "theta.npy"))

    with pytest.raises(ConfigError, match=r"theta\.npy: --start: 161 values; the"):
        prepare(plan(houses, doors))


def test_more_devices_than_boards_are_refused(houses: Path) -> None:
    with pytest.raises(ConfigError, match="--devices: the data name 3 boards"):
        prepare(replace(plan(houses, board_column="site"), devices=4))


def test_board_with_too_few_records_is_named(tmp_path: Path) -> None:
    rows = [f"{at},{'b' if at == 9 else 'a'},{at}.5" for at in range(60)]
    (tmp_path / "own.csv").write_text("x,who,y\n" + "\n".join(rows))

    with pytest.raises(ConfigError, match=r"board 'b' has [01] examples|too few"):
        prepare(plan(tmp_path / "own.csv", board_column="who"))


def test_model_of_another_shape_is_refused(houses: Path, other: Path) -> None:
    of = replace(plan(houses), model=str(other / "other.onnx"))

    with pytest.raises(ConfigError, match=r"takes \(3,\).*the data are \(6,\) with 1"):
        prepare(of)


def test_head_stands_on_a_front_and_alone_is_trained() -> None:
    material = prepare(FleetPlan(model="head"))
    found = open_trainer(material.bundle).manifest
    assert found.dimension == 648 * 10 + 10
    assert found.origin == "made from no data"
    assert material.plan.learning.train == ("head.*",)
    assert any("front orientation" in note for note in material.data.notes)


def test_front_that_was_measured_on_the_data_is_refused() -> None:
    with pytest.raises(ConfigError, match="measured on these very records"):
        prepare(FleetPlan(front="whitened"))


def test_model_file_says_of_what_its_first_weights_were_made(tmp_path: Path) -> None:
    made = build_model("softmax", (64,), 10, np.random.default_rng(1))
    path = tmp_path / "start.onnx"
    onnx.save(with_metadata(made, PEN, "drawn by pen"), path)
    material = prepare(FleetPlan(model=str(path)))
    assert any("drawn by pen" in note for note in material.data.notes)
    assert open_trainer(material.bundle).manifest.origin == "drawn by pen"

    onnx.save(with_metadata(made, FONTS, "of UCI's digits, too"), path)
    with pytest.raises(ConfigError, match="measured on these very records"):
        prepare(FleetPlan(model=str(path)))
