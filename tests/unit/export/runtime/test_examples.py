"""A version is tried on files as boards take them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from starling.export.provenance import ProvenModel
from starling.export.runtime.examples import BATCH, batches, metrics_of, tried
from starling.protocol.errors import ConfigError
from starling.protocol.learning.metrics import ClassMetrics, RegressionMetrics
from starling.protocol.model.table_schema import TableSchema, TargetColumn
from starling.protocol.model.training_bundle import TensorSpec


def test_csv_and_npz_of_the_same_records_give_the_same(
    model: ProvenModel, digits: Path, tmp_path: Path
) -> None:
    with np.load(digits) as arrays:
        x, y = arrays["x"], arrays["y"]
    names = ",".join([f"p{place}" for place in range(64)])
    rows = [
        ",".join([str(label), *map(repr, row.tolist())])
        for label, row in zip(y, x, strict=True)
    ]
    file = tmp_path / "digits.csv"
    file.write_text("\n".join([f"label,{names}", *rows]) + "\n")

    from_csv = tried(model, file, "label")

    assert from_csv.metrics == tried(model, digits, "").metrics
    assert isinstance(from_csv.metrics, ClassMetrics)
    assert from_csv.outputs.shape == (200, 10)


def test_records_that_cannot_be_used_are_counted(
    model: ProvenModel, tmp_path: Path
) -> None:
    x = np.zeros((5, 64), np.float32)
    x[1] = np.nan
    np.savez(tmp_path / "some.npz", x=x, y=np.zeros(5, np.int64))

    found = tried(model, tmp_path / "some.npz", "")

    assert (found.metrics.examples, found.unusable) == (4, 1)
    assert "some.npz" in found.complaints[0]
    assert found.document()["unusable"] == 1


def test_no_file_is_refused(model: ProvenModel, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.npz"):
        tried(model, tmp_path / "absent.npz", "")


def test_batches_cover_all_rows_once() -> None:
    count = 2 * BATCH + 3

    assert [i for rows in batches(count) for i in range(count)[rows]] == [*range(count)]


def test_errors_are_in_the_datas_own_units(model: ProvenModel) -> None:
    table = TableSchema((), (TargetColumn("price", scale=0.01, offset=-2.0),))
    port = TensorSpec((1,), "float32")
    manifest = replace(
        model.opened.manifest,
        loss="mse",
        classes=(),
        target=port,
        output=port,
        table=table,
    )
    y = np.array([[0.0], [1.0]], np.float32)

    found = metrics_of(manifest, y + 0.5, y, np.full(2, 0.25, np.float32))

    assert isinstance(found, RegressionMetrics)
    assert found.mae == pytest.approx(50.0)
