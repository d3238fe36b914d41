"""Parquet files: the same records as of CSV, and what is wrong with them."""

import builtins
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pyarrow import parquet

from starling.agent.trainer.dataset import read_dataset
from starling.protocol.errors import ConfigError
from starling.protocol.model.table_schema import (
    InputColumn,
    TableSchema,
    TargetColumn,
)
from starling.protocol.model.training_bundle import TensorSpec
from starling.records.data_options import DataOptions
from starling.records.errors import DataError
from starling.records.runtime import parquet_files
from starling.records.runtime.parquet_files import ParquetTable
from starling.records.runtime.source_check import check_source
from starling.records.runtime.sources import read_source
from tests.unit.records.runtime.test_bundle_files import LABELS

ASKED = DataOptions(
    targets=("kind",), board_column="who", missing="fill", categories="one-hot"
)
COLUMNS = {
    "age": [30, None, 50, 60],
    "city": ["Bern", "Basel", None, "Bern"],
    "who": [1, 1, 2, 2],
    "kind": ["yes", "no", "yes", "no"],
}


def write(path: Path, columns: dict[str, Any], **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table(columns), path, **options)
    return path


def test_texts_of_every_layout_are_texts(tmp_path: Path) -> None:
    kinds = (pa.string(), pa.large_string(), pa.string_view())
    found = [
        read_source(
            write(
                tmp_path / f"{at}.parquet",
                {"age": [1, 2], "kind": pa.array(["yes", "no"], kind)},
            ),
            DataOptions(),
        )
        for at, kind in enumerate(kinds)
    ]

    assert {records.classes for records in found} == {("no", "yes")}


def test_records_are_those_of_the_same_table_as_csv(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text(
        "age,city,who,kind\n30,Bern,1,yes\n,Basel,1,no\n50,,2,yes\n60,Bern,2,no\n"
    )
    write(tmp_path / "own.parquet", COLUMNS)

    csv, found = [
        read_source(tmp_path / name, ASKED) for name in ("own.csv", "own.parquet")
    ]

    np.testing.assert_array_equal(found.x, csv.x)
    np.testing.assert_array_equal(found.y, csv.y)
    assert (found.table, found.classes) == (csv.table, csv.classes)
    assert found.boards is not None
    assert csv.boards is not None
    assert found.boards.names == csv.boards.names


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1, 0, 2, 1], pa.int8()),
        pa.array([1, 0, 2, 1], pa.uint64()),
        pa.array([1.0, 0.0, 2.0, 1.0], pa.float32()),
        pa.array([1, 0, 2, 1], pa.decimal128(5, 2)),
        pa.array([1, 0, 2, 1]).dictionary_encode(),
    ],
    ids=lambda values: str(values.type),
)
def test_numbers_of_every_kind_are_numbers(tmp_path: Path, values: pa.Array) -> None:
    file = write(tmp_path / "own.parquet", {"a": values, "y": [0.5, 1.5, 2.5, 3.5]})

    found = read_source(file, DataOptions())

    assert found.x[:, 0].tolist() == [1, 0, 2, 1]


def test_texts_as_categories_and_truths_are_read(tmp_path: Path) -> None:
    columns = {
        "a": pa.array([True, False, True]),
        "city": pa.array(["x", "y", "x"]).dictionary_encode(),
        "y": [0.5, 1.5, 2.5],
    }
    file = write(tmp_path / "own.parquet", columns)

    found = read_source(file, DataOptions(categories="one-hot"))

    assert found.x.tolist() == [[1, 1, 0], [0, 0, 1], [1, 1, 0]]


def test_rows_are_counted_over_groups_and_pieces(tmp_path: Path) -> None:
    values = np.arange(200_000, dtype=np.float64)
    values[150_001] = np.inf
    file = write(
        tmp_path / "own.parquet", {"a": values, "y": values / 2}, row_group_size=70_000
    )

    with pytest.raises(DataError, match="row 150002, column 'a': an infinity"):
        read_source(file, DataOptions())


def test_board_reads_by_name_and_leaves_out_what_does_not_fit(tmp_path: Path) -> None:
    columns = {
        "buys": ["yes", "often", "no", "no"],
        "city": ["Bern", "Bern", "Ulm", "Köln"],
        "age": ["30", "40", "50", "secret"],
        "more": [[1], [2], [3], [4]],
    }
    write(tmp_path / "a.parquet", columns)
    write(tmp_path / "b.parquet", {"buys": ["no"], "city": ["Köln"], "age": [7]})
    write(tmp_path / "c.parquet", {"buys": ["no"], "city": ["Köln"]})

    data = read_dataset(tmp_path, LABELS)

    assert data.x.tolist() == [[30, 1, 0], [7, 0, 1]]
    said = data.complaints.first
    assert [text.partition(": is")[0] for text in said[:3]] == [
        "a.parquet: row 2, column 'buys'",
        "a.parquet: row 3, column 'city'",
        "a.parquet: row 4, column 'age'",
    ]
    assert said[3] == "c.parquet: lacks a column of the model"
    assert "secret" not in "".join(said)


def test_board_knows_truth_values_as_labels(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"x": [1.5, 2.5], "y": [True, False]})
    table = TableSchema((InputColumn("x"),), (TargetColumn("y"),))
    bundle = replace(
        LABELS, input=TensorSpec((1,), "float32"), classes=("0", "1", "2"), table=table
    )

    data = read_dataset(tmp_path, bundle)

    assert data.y.tolist() == [1, 0]


def test_text_that_is_not_utf_8_is_a_fault_of_its_row(tmp_path: Path) -> None:
    raw = pa.array([b"Bern", b"\xff", b"Bern"]).view(pa.string())
    columns = {"age": [1, 2, 3], "city": raw, "buys": ["no", "no", "yes"]}
    write(tmp_path / "a.parquet", columns)

    data = read_dataset(tmp_path, LABELS)

    assert data.x[:, 0].tolist() == [1, 3]
    assert "row 2, column 'city': a text that is not UTF-8" in data.complaints.first[0]


def nested(root: Path) -> Path:
    return write(root / "a.parquet", {"a": [[1], [2]], "y": [1.5, 2.5]})


def structure(root: Path) -> Path:
    return write(root / "a.parquet", {"a": [{"b": 1}, {"b": 2}], "y": [1.5, 2.5]})


def times(root: Path) -> Path:
    days = pa.array([0, 1], pa.timestamp("s"))
    return write(root / "a.parquet", {"day": days, "y": [1.5, 2.5]})


def cut_short(root: Path) -> Path:
    file = write(root / "a.parquet", COLUMNS)
    file.write_bytes(file.read_bytes()[:-9])
    return file


def damaged(root: Path) -> Path:
    values = np.arange(5000.0)
    file = write(root / "a.parquet", {"a": values, "y": values}, compression="zstd")
    content = bytearray(file.read_bytes())
    content[40:4000] = bytes(3960)
    file.write_bytes(content)
    return file


def no_parquet(root: Path) -> Path:
    file = root / "a.parquet"
    file.write_text("a,y\n1,2\n")
    return file


def empty(root: Path) -> Path:
    return write(
        root / "a.parquet", {"a": pa.array([], "int8"), "y": pa.array([], "int8")}
    )


def alone(root: Path) -> Path:
    return write(root / "a.parquet", {"a": [1, 2]})


def named_twice(root: Path) -> Path:
    file = root / "a.parquet"
    table = pa.Table.from_arrays([pa.array([1, 2]), pa.array([3, 4])], ["a", "a"])
    parquet.write_table(table, file)
    return file


def no_value(root: Path) -> Path:
    return write(root / "a.parquet", {"a": [1.0, None, 2.0], "y": [1.5, 2.5, 3.5]})


BAD: dict[Callable[[Path], Path], str] = {
    nested: "column 'a': holds lists or structures.*--ignore it",
    structure: "column 'a': holds lists or structures.*--ignore it",
    times: "column 'day': holds timestamp.*: write it as numbers",
    cut_short: "is no Parquet file, or is damaged: copy it anew",
    damaged: "is no Parquet file, or is damaged: copy it anew",
    no_parquet: "is no Parquet file, or is damaged",
    empty: "holds no record",
    alone: "1 column: a table has 2",
    named_twice: "column 2, 'a', stands twice among the names",
    no_value: "row 2, column 'a': no value",
}


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_bad_file_is_named_in_one_line(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    file = make(tmp_path)

    records, faults = check_source(file, DataOptions())

    assert records is None
    assert len(faults) == 1
    with pytest.raises(DataError, match=rf"a\.parquet: {BAD[make]}") as caught:
        read_source(file, DataOptions())
    assert "\n" not in str(caught.value)


def test_column_that_is_ignored_may_be_of_any_kind(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.parquet", {"a": [1, 2], "more": [[1], []], "y": [1.5, 2.5]}
    )

    assert len(read_source(file, DataOptions(ignore=("more",)))) == 2


def test_huge_group_of_rows_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_files, "ROW_GROUP_BYTES_MAX", 100)
    file = write(tmp_path / "a.parquet", COLUMNS)

    with pytest.raises(DataError, match=r"row group 1 has .*row_group_size"):
        read_source(file, DataOptions())


def test_group_of_rows_beyond_memory_is_named_by_its_largest_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "".join(map(str, range(999)))
    table = pa.table({"a": [1, 2, 3], "note": ["x", long, "z"], "y": [1, 2, 3]})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=1)
    known = ParquetTable._texts

    def texts(
        self: ParquetTable,
        batch: pa.RecordBatch,
        name: str,
        lines: NDArray[np.int64],
        faults: list[DataError],
    ) -> list[str]:
        if batch.column("note")[0].as_py() == long:
            raise pa.ArrowMemoryError("malloc of size 999 failed")
        return known(self, batch, name, lines, faults)

    monkeypatch.setattr(ParquetTable, "_texts", texts)

    with pytest.raises(
        DataError, match=r"column 'note': row group 2 has .* smaller groups"
    ):
        read_source(tmp_path / "a.parquet", DataOptions(categories="one-hot"))


def test_missing_library_is_named_with_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "a.parquet", COLUMNS)
    known = builtins.__import__

    def without(name: str, *words: object) -> object:
        if name.partition(".")[0] == "pyarrow":
            raise ModuleNotFoundError(name)
        return known(name, *words)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)

    with pytest.raises(ConfigError, match="pip install pyarrow"):
        read_source(file, DataOptions())
