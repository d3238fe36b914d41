from pathlib import Path

import numpy as np
import pytest

from starling.compiler import compile_model, started_from, write_bundle
from starling.protocol.errors import ConfigError
from starling.protocol.model.table_schema import (
    InputColumn,
    TableSchema,
    TargetColumn,
)
from starling.protocol.model.training_bundle import (
    CONTENT_FILES,
    MANIFEST,
    manifest_from_json,
    unpack_bundle,
)
from tests.unit.compiler.small_models import mlp

BUNDLE = compile_model(mlp(), loss="cross-entropy", classes=("a", "b", "c"))


def test_bundle_packed_unpacks_to_its_files() -> None:
    assert unpack_bundle(BUNDLE.packed) == dict(BUNDLE.files)


def test_bundle_manifest_read_back_is_equal() -> None:
    assert manifest_from_json(BUNDLE.files[MANIFEST]) == BUNDLE.manifest


def test_bundle_compiled_twice_has_one_digest() -> None:
    again = compile_model(mlp(), loss="cross-entropy", classes=("a", "b", "c"))

    assert again.digest == BUNDLE.digest


def test_theta_holds_the_weights_in_model_order() -> None:
    first = mlp().graph.initializer[0]
    array = np.frombuffer(first.raw_data, "<f4")

    np.testing.assert_array_equal(BUNDLE.theta[: array.size], array)


def test_pattern_trains_only_what_it_names() -> None:
    bundle = compile_model(mlp(), loss="cross-entropy", train=["head.*"])

    trained = [item.name for item in bundle.manifest.parameters if item.trainable]
    assert trained == ["head.weight", "head.bias"]
    assert bundle.manifest.dimension == bundle.theta.size == 21


def test_frozen_pattern_leaves_the_rest_trained() -> None:
    bundle = compile_model(mlp(), loss="cross-entropy", freeze=["head.*"])

    frozen = [item.name for item in bundle.manifest.parameters if not item.trainable]
    assert frozen == ["head.weight", "head.bias"]
    assert bundle.manifest.dimension == BUNDLE.manifest.dimension - 21


def test_warm_start_changes_theta_alone() -> None:
    warm = started_from(BUNDLE, BUNDLE.theta + np.float32(1))

    np.testing.assert_array_equal(warm.theta, BUNDLE.theta + np.float32(1))
    assert unpack_bundle(warm.packed)["gradient.onnx"] == BUNDLE.files["gradient.onnx"]


def test_warm_start_of_another_length_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--start: 3 values"):
        started_from(BUNDLE, np.zeros(3, np.float32))


def test_table_stands_in_the_manifest() -> None:
    width = BUNDLE.manifest.input.shape[0]
    columns = tuple([InputColumn(f"c{place}") for place in range(width)])
    table = TableSchema(columns, (TargetColumn("kind"),))

    bundle = compile_model(mlp(), loss="cross-entropy", table=table)

    assert manifest_from_json(bundle.files[MANIFEST]).table == table


def test_pattern_that_names_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"tail\.\*"):
        compile_model(mlp(), loss="cross-entropy", train=["head.*", "tail.*"])


def test_classes_of_another_number_are_refused() -> None:
    with pytest.raises(ConfigError, match="classes"):
        compile_model(mlp(), loss="cross-entropy", classes=("a", "b"))


def test_unknown_loss_is_refused() -> None:
    with pytest.raises(ConfigError, match="loss"):
        compile_model(mlp(), loss="hinge")


def test_folder_holds_exactly_the_files(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "bundle"

    write_bundle(BUNDLE, folder)

    assert {item.name for item in folder.iterdir()} == {*CONTENT_FILES, MANIFEST}
    assert {item.name: item.read_bytes() for item in folder.iterdir()} == BUNDLE.files
    assert [item.name for item in folder.parent.iterdir()] == ["bundle"]


def test_folder_of_an_earlier_bundle_is_replaced(tmp_path: Path) -> None:
    write_bundle(compile_model(mlp(1), loss="cross-entropy"), tmp_path / "bundle")

    write_bundle(BUNDLE, tmp_path / "bundle")

    assert (tmp_path / "bundle" / MANIFEST).read_bytes() == BUNDLE.files[MANIFEST]
    assert [item.name for item in tmp_path.iterdir()] == ["bundle"]


def test_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    with pytest.raises(ConfigError, match="other files"):
        write_bundle(BUNDLE, tmp_path)

    assert [item.name for item in tmp_path.iterdir()] == ["notes.txt"]


def test_folder_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(ConfigError, match="file"):
        write_bundle(BUNDLE, tmp_path / "file" / "bundle")

    assert [item.name for item in tmp_path.iterdir()] == ["file"]
