"""An engine that does not start, and data that cannot be read, are rows."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from starling.agent.runtime.checks.subprocess_checks import data_checks, engine_checks
from starling.broker.health_checks import HealthCheck, Verdict

OK, WARN, FAIL = Verdict.OK, Verdict.WARN, Verdict.FAIL


def test_engine_here_starts_and_writes_nothing() -> None:
    started, telemetry = engine_checks()

    assert (started.name, started.verdict) == ("runtime.onnxruntime", OK)
    assert started.found.endswith(" starts")
    assert (telemetry.name, telemetry.verdict) == ("runtime.telemetry", OK)


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import os; os.kill(os.getpid(), 4)", "illegal instruction"),
        ("import os; os.kill(os.getpid(), 11)", "segmentation fault"),
        ("import no_such_engine", "No module named 'no_such_engine'"),
    ],
    ids=["another processor", "crash", "not installed"],
)
def test_engine_that_does_not_start_says_why(code: str, found: str) -> None:
    (row,) = engine_checks(code)

    assert (row.name, row.verdict) == ("runtime.onnxruntime", FAIL)
    assert found in row.found
    assert "pip install onnxruntime" in row.fix


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("print('1.31 None')", "not switched off"),
        (
            "import pathlib; (pathlib.Path.home() / 'device').write_text('x');"
            "print('1.31 1')",
            "writes device",
        ),
    ],
)
def test_engine_that_reports_to_somebody_is_found(code: str, found: str) -> None:
    _, row = engine_checks(code)

    assert (row.name, row.verdict) == ("runtime.telemetry", FAIL)
    assert found in row.found


def look(folder: Path, label: str = "", memory_mb: int = 0) -> HealthCheck:
    (row,) = data_checks(folder, label, memory_mb)
    assert row.name == "data.readable"
    return row


def test_sound_data_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("t,h,y\n1,2,0\n3,4,1\n")
    np.savez(tmp_path / "b.npz", x=np.zeros((5, 2), np.float32), y=np.zeros(5, int))

    row = look(tmp_path)

    assert (row.verdict, row.found) == (OK, "7 records in 2 files")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("t,h,y\n1,2,0\n3,nan,1\n", "row 3, column 'h': no value"),
        ("t,h,y\n1,,0\n", "row 2, column 'h': no value"),
        ("1,2,0\n1,secret,0\n", "row 2, column '1': is no number"),
        ("1,2,0\n1,2\n", "row 2: 2 cells where 3 columns are"),
        ("t,h,y\n1,2,inf\n", "row 2, column 'y': is an infinity"),
        ('t,h,y\n1,"2,0\n', "row 2: a quote is not closed"),
    ],
)
def test_first_fault_of_a_table_is_named_by_row_and_column(
    tmp_path: Path, text: str, where: str
) -> None:
    (tmp_path / "a.csv").write_text(text)

    row = look(tmp_path)

    assert f"1 unusable; the first: a.csv: {where}" in row.found
    assert row.verdict is (WARN if "1,2,0" in text else FAIL)
    assert "secret" not in row.found


@pytest.mark.parametrize(
    "table", ["t,h,kind\n1,2,cat\n3,4,dog\n", "t;h;y\n1;2;0\n3;4;1\n"]
)
def test_table_that_only_its_bundle_can_read_is_no_failure(
    tmp_path: Path, table: str
) -> None:
    (tmp_path / "a.csv").write_text(table)

    row = look(tmp_path)

    assert row.verdict is WARN
    assert "right if the task's bundle names the columns" in row.fix
    assert "cat" not in row.found


def test_what_stands_in_a_cell_is_not_quoted(tmp_path: Path) -> None:
    table = "Meier,positive,3\nHuber,negative,4\n"
    (tmp_path / "a\udcff\x1b.csv").write_text(table)

    said = look(tmp_path).found

    assert "a??.csv: row 1: is a number among texts" in said
    assert "Meier" not in said
    assert "3" not in said


def test_first_record_that_is_taken_for_names_is_not_quoted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Meier,yes,yes\nHuber,no,yes\n")

    said = look(tmp_path).found

    assert "a.csv: row 1, a column: stands twice among the names" in said
    assert "yes" not in said


def test_array_without_numbers_is_one_fault(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 2)), y=np.array(["a", "b", "c"]))

    said = look(tmp_path).found

    assert "1 unusable; the first: a.npz: y holds no numbers" in said


@pytest.mark.parametrize("is_turned", [False, True])
def test_first_fault_of_an_array_is_named_by_record_and_column(
    tmp_path: Path, is_turned: bool
) -> None:
    x = np.zeros((40, 3), np.float32)
    x[7, 2] = np.nan
    x[9, 0] = np.inf
    np.savez(
        tmp_path / "a.npz",
        x=np.asfortranarray(x) if is_turned else x,
        y=np.zeros(40, np.int64),
    )

    row = look(tmp_path)

    assert row.verdict is WARN
    assert "38 records in 1 files, 2 unusable" in row.found
    assert "a.npz: record 8, x, column 3: no finite number" in row.found


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.npz", b"no archive", "a.npz: cannot be read (BadZipFile)"),
        ("a.txt", b"1,2,3", "has no .npz, .csv"),
    ],
)
def test_what_is_no_data_is_told(
    tmp_path: Path, name: str, content: bytes, found: str
) -> None:
    (tmp_path / name).write_bytes(content)

    row = look(tmp_path)

    assert row.verdict is FAIL
    assert found in row.found


def test_arrays_that_do_not_fit_each_other_are_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((5, 2)), y=np.zeros(3, np.int64))
    np.savez(tmp_path / "b.npz", x=np.zeros((5, 2)))

    row = look(tmp_path)

    assert "3 records in 2 files, 2 unusable" in row.found
    assert "a.npz: 5 records of x, 3 of y" in row.found


def test_folder_that_is_missing_is_told(tmp_path: Path) -> None:
    row = look(tmp_path / "gone")

    assert (row.verdict, "cannot be read" in row.found) == (FAIL, True)


def test_label_that_no_column_has_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("t,h,y\n1,2,0\n")

    row = look(tmp_path, "species")

    assert "lacks the column that data.label names" in row.found


MEMORY_MB = 128
"""Less than a trainer of any profile has."""
HUGE = 1 << 28


def write_wide_line(folder: Path) -> None:
    with (folder / "a.csv").open("w") as file:
        file.write("t,h,y\n1,2,0\n3," + "4" * HUGE + ",1\n5,6,1\n")


def write_large_record(folder: Path) -> None:
    x = np.broadcast_to(np.float32(0), (2, HUGE // 4))
    np.savez_compressed(folder / "a.npz", x=x, y=np.zeros(2, np.int64))


def write_large_cell(folder: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    first = pyarrow.table({"note": ["a", "b"], "y": [0.5, 1.5]})
    with parquet.ParquetWriter(folder / "a.parquet", first.schema) as writer:
        writer.write_table(first)
        writer.write_table(pyarrow.table({"note": ["x" * HUGE], "y": [2.5]}))


@pytest.mark.parametrize(
    ("write", "records", "where"),
    [
        (write_wide_line, 2, "a.csv: row 3: is too long a line"),
        (write_large_record, 0, "a.npz: needs more memory than a trainer has"),
        (
            write_large_cell,
            2,
            "a.parquet: column 'note': row group 2 has 268,435,... bytes of it, more "
            "than memory holds .*: write smaller groups",
        ),
    ],
    ids=["csv", "npz", "parquet"],
)
def test_what_a_trainer_has_no_memory_for_is_one_fault(
    tmp_path: Path, write: Callable[[Path], None], records: int, where: str
) -> None:
    write(tmp_path)

    row = look(tmp_path, memory_mb=MEMORY_MB)

    assert re.search(
        f"^{records} records in 1 files, 1 unusable; the first: {where}", row.found
    )
    assert row.verdict is (WARN if records else FAIL)


def test_long_file_is_read_in_the_memory_of_a_trainer(tmp_path: Path) -> None:
    with (tmp_path / "a.csv").open("w") as file:
        file.write("t,h,y\n")
        for _ in range(64):
            file.write("1.25,2.5,1\n" * 50_000)

    row = look(tmp_path, memory_mb=MEMORY_MB)

    assert (row.verdict, row.found) == (OK, "3200000 records in 1 files")
