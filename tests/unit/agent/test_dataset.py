"""Data sets: what is read, and how a wrong record is named."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.rim.dataset import read_dataset
from protocol.bundle import CONTENT_FILES, Manifest, Port, Preprocessing, Table
from protocol.errors import ConfigError
from protocol.ids import H
from protocol.parameters import Parameter

MANIFEST = Manifest(
    "m",
    (Parameter("w", (2, 3), 0, trainable=True),),
    6,
    "cross-entropy",
    17,
    Port((2,), "float32"),
    Port((), "int64"),
    Port((3,), "float32"),
    (),
    Preprocessing(),
    {name: H(name.encode()) for name in CONTENT_FILES},
)
REGRESSION = replace(
    MANIFEST, loss="mse", target=Port((1,), "float32"), output=Port((1,), "float32")
)


def npz(folder: Path, name: str, x: object, y: object) -> None:
    np.savez(folder / name, x=np.array(x), y=np.array(y))


def test_files_are_joined_in_order_of_name(tmp_path: Path) -> None:
    npz(tmp_path, "b.npz", [[3.0, 4.0]], [1])
    npz(tmp_path, "a.npz", [[1.0, 2.0]], [0])
    (tmp_path / "c.csv").write_text("5,6,2\n7,8,0\n")
    (tmp_path / "notes.txt").write_text("not data")

    data = read_dataset(tmp_path, MANIFEST)

    assert data.x.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]
    assert data.y.tolist() == [0, 1, 2, 0]
    assert [data.x.dtype.name, data.y.dtype.name] == ["float32", "int64"]


def test_csv_with_names_takes_the_configured_label(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("label,left,right\n2,0.5,1.5\n\n1,2,3\n")

    data = read_dataset(tmp_path, MANIFEST, "label")

    assert data.x.tolist() == [[0.5, 1.5], [2, 3]]
    assert data.y.tolist() == [2, 1]


def test_targets_get_the_shape_of_the_model(tmp_path: Path) -> None:
    npz(tmp_path, "a.npz", [[1.0, 2.0], [3.0, 4.0]], [0.5, 0.25])

    assert read_dataset(tmp_path, REGRESSION).y.tolist() == [[0.5], [0.25]]


def test_preprocessing_is_applied_by_channel(tmp_path: Path) -> None:
    step = Preprocessing((0.5, 2.0), (0.0, 1.0))
    npz(tmp_path, "a.npz", [[2, 3]], [0])

    data = read_dataset(tmp_path, replace(MANIFEST, preprocessing=step))

    assert data.x.tolist() == [[1.0, 7.0]]


def write_csv(text: str) -> Callable[[Path], None]:
    return write_bytes("a.csv", text.encode())


def write_npz(x: object, y: object) -> Callable[[Path], None]:
    return lambda folder: npz(folder, "a.npz", x, y)


def write_bytes(name: str, content: bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return write


@pytest.mark.parametrize(
    ("write", "named"),
    [
        (lambda folder: None, "no .npz or .csv"),
        (write_csv("1,2,0\n1,x,0\n"), "a.csv: row 2"),
        (write_csv("1,2,0\n1,2\n"), "a.csv: row 2: 2 columns, 3 above"),
        (write_csv("1,2,0\n1,nan,0\n"), "record 1: x is not a finite"),
        (write_csv("1,2,0\n1,inf,0\n"), "record 1: x is not a finite"),
        (write_csv("1,2,3\n"), "record 0: y is 3, the model has 3 classes"),
        (write_csv("1,2,-1\n"), "record 0: y is -1"),
        (write_csv("1,2,0.5\n"), "y is not a whole number"),
        (write_csv("a,b,c\n"), "has no records"),
        (write_csv("1,2,3,0\n"), "records of shape"),
        (write_npz([[1.0, np.nan]], [0]), "a.npz: record 0: x is not a finite"),
        (write_npz([[1.0, 2.0]], [0, 1]), "1 inputs, 2 targets"),
        (write_npz([["a", "b"]], [0]), "x is not numeric"),
        (write_bytes("a.npz", b"not a zip"), "is no .npz file"),
        (write_bytes("a.npz", b""), "is no .npz file"),
        (write_bytes("a.csv", b"\xff\xfe"), "is no CSV file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_data_are_refused_by_name(
    tmp_path: Path, write: Callable[[Path], None], named: str
) -> None:
    write(tmp_path)

    with pytest.raises(ConfigError, match=re.escape(named)):
        read_dataset(tmp_path, MANIFEST)


def test_pickled_arrays_are_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([{"evil": 1}], object), y=np.array([0]))

    with pytest.raises(ConfigError, match=r"is no \.npz file"):
        read_dataset(tmp_path, MANIFEST)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_dataset(tmp_path / "nowhere", MANIFEST)


def test_missing_label_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y,z\n1,2,0\n")

    with pytest.raises(ConfigError, match="no column 'label'"):
        read_dataset(tmp_path, MANIFEST, "label")


@pytest.mark.parametrize("value", [9.0, -1.0, 0.5], ids=["above", "below", "between"])
def test_value_that_is_no_row_of_its_table_is_named(
    value: float, tmp_path: Path
) -> None:
    tokens = replace(MANIFEST, tables=(Table(1, 1, 9),))
    npz(tmp_path, "a.npz", [[7.5, 8.0], [7.5, value]], [0, 1])

    with pytest.raises(ConfigError, match=r"a\.npz.*record 1.*place 1.*0 to 8"):
        read_dataset(tmp_path, tokens)
