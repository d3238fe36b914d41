"""Files that a board reads by the names of the bundle's columns."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from starling.agent.trainer.dataset import READING_BYTES, read_dataset
from starling.protocol.model.table_schema import (
    InputColumn,
    TableSchema,
    TargetColumn,
)
from starling.protocol.model.training_bundle import Preprocessing, TensorSpec
from starling.records.data_options import ColumnRule, DataOptions
from starling.records.runtime.sources import read_source
from starling.records.scaling import scaled_inputs, scaled_targets, with_scales
from tests.unit.agent.trainer.test_dataset import MANIFEST, REGRESSION

COLUMNS = InputColumn("age", fill=40.0), InputColumn("city", ("Bern", "Köln"))
LABELS = replace(
    MANIFEST,
    input=TensorSpec((3,), "float32"),
    classes=("no", "yes", "perhaps"),
    table=TableSchema(COLUMNS, (TargetColumn("buys"),)),
)
PRICES = replace(
    REGRESSION,
    input=TensorSpec((3,), "float32"),
    preprocessing=Preprocessing((0.1, 1.0, 1.0), (-4.0, 0.0, 0.0)),
    table=TableSchema(COLUMNS, (TargetColumn("price", 0.01, -1.0),)),
)


def test_columns_are_found_by_name_and_labels_by_the_label_map(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "id,city,buys,age\n1,Köln,yes,30\n2,Bern,no,\n3,Bern,perhaps,50\n"
    )

    data = read_dataset(tmp_path, LABELS)

    assert data.x.tolist() == [[30, 0, 1], [40, 1, 0], [50, 1, 0]]
    assert data.y.tolist() == [1, 0, 2]
    assert data.complaints.unusable == 0


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_delimiter_is_the_one_of_the_first_line(tmp_path: Path, delimiter: str) -> None:
    text = "age,city,price\n30,Bern,150\n"
    (tmp_path / "a.csv").write_text(text.replace(",", delimiter))

    data = read_dataset(tmp_path, PRICES)

    np.testing.assert_allclose(data.x, [[-1, 1, 0]])
    np.testing.assert_allclose(data.y, [[0.5]])


@pytest.mark.parametrize(
    "line",
    [
        "x,Bern,yes",
        "30,Ulm,yes",
        "30,Bern,often",
        "30,Bern",
        "30,,yes",
        '"30,Bern,yes',
        "30,Bern,inf",
        "30,Bern,nan",
        "inf,Bern,yes",
        "30,Bern,",
    ],
)
def test_line_that_does_not_fit_is_no_record_and_stops_nothing(
    tmp_path: Path, line: str
) -> None:
    (tmp_path / "a.csv").write_text(f"age,city,buys\n20,Bern,no\n{line}\n25,Bern,no\n")

    data = read_dataset(tmp_path, LABELS)

    assert data.x[:, 0].tolist() == [20, 25]
    assert data.complaints.unusable == 1
    assert data.complaints.first[0].startswith("a.csv: row 3")


@pytest.mark.parametrize(
    "text", ["age,town,buys\n1,Bern,no\n2,Bern,no\n", ""], ids=["others", "empty"]
)
def test_file_without_the_columns_is_complained_of(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text)

    data = read_dataset(tmp_path, LABELS)

    assert len(data.x) == 0
    assert data.complaints.unusable == 1
    assert "lacks a column of the model" in data.complaints.first[0]


def test_windows_are_not_made_of_lines(tmp_path: Path) -> None:
    table = TableSchema((InputColumn("age"),), (TargetColumn("buys"),), 3, 1)
    (tmp_path / "a.csv").write_text("age,buys\n1,no\n2,no\n3,no\n")

    data = read_dataset(tmp_path, replace(LABELS, table=table))

    assert "windows of a series are read from .npz" in data.complaints.first[0]


def test_only_so_many_lines_are_read(tmp_path: Path) -> None:
    rows = "".join(f"{at},Bern,no\n" for at in range(50))
    (tmp_path / "a.csv").write_text("age,city,buys\n" + rows)

    data = read_dataset(tmp_path, LABELS, bytes_max=READING_BYTES + 56 * 7)

    assert data.x[:, 0].tolist() == list(range(7))
    assert data.complaints.first[0].startswith("a.csv: beyond 7 records")


def test_board_gets_the_records_that_a_fleet_gets(tmp_path: Path) -> None:
    rows = [f"{at % 7},{'Köln' if at % 3 else 'Bern'},{at / 8}" for at in range(9000)]
    (tmp_path / "a.csv").write_text("\n".join(["age,city,price", *rows]))
    asked = DataOptions(
        categories="one-hot", scale="declared", columns={"age": ColumnRule((0, 10))}
    )
    whole = with_scales(read_source(tmp_path, asked), asked, np.arange(9000))
    manifest = replace(PRICES, preprocessing=whole.preprocessing, table=whole.table)

    board = read_dataset(tmp_path, manifest)

    np.testing.assert_array_equal(board.x, scaled_inputs(whole.x, whole.preprocessing))
    np.testing.assert_array_equal(board.y, scaled_targets(whole.y, whole.table))


def test_faults_of_later_rows_move_no_row_across_the_limit(tmp_path: Path) -> None:
    rows = [f"{at},Bern,no" for at in range(9000)]
    rows[8000:] = ["wrong,Bern,no"] * 1000
    (tmp_path / "a.csv").write_text("age,city,buys\n" + "\n".join(rows))

    data = read_dataset(tmp_path, LABELS, bytes_max=READING_BYTES + 56 * 7900)

    assert data.x[:, 0].tolist() == list(range(7900))
