"""Data sets: what is read, and that a wrong record is named and stops nothing."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.agent.trainer.dataset import READING_BYTES, read_dataset, records_max
from starling.agent.training.trainer_messages import COMPLAINTS_MAX
from starling.protocol.errors import ConfigError
from starling.protocol.ids import H
from starling.protocol.model.lookup_table import LookupTable
from starling.protocol.model.parameter_layout import ModelParameter
from starling.protocol.model.table_schema import TableSchema, TargetColumn
from starling.protocol.model.training_bundle import (
    CONTENT_FILES,
    BundleManifest,
    Preprocessing,
    TensorSpec,
)
from starling.records.bundle_rows import KnownPiece
from starling.records.runtime.bundle_files import known_pieces

MANIFEST = BundleManifest(
    "m",
    (ModelParameter("w", (2, 3), 0, trainable=True),),
    6,
    "cross-entropy",
    17,
    TensorSpec((2,), "float32"),
    TensorSpec((), "int64"),
    TensorSpec((3,), "float32"),
    (),
    Preprocessing(),
    {name: H(name.encode()) for name in CONTENT_FILES},
)
REGRESSION = replace(
    MANIFEST,
    loss="mse",
    target=TensorSpec((1,), "float32"),
    output=TensorSpec((1,), "float32"),
)


def npz(folder: Path, name: str, x: object, y: object) -> None:
    np.savez(folder / name, x=np.array(x), y=np.array(y))


def test_files_are_joined_in_order_of_name(tmp_path: Path) -> None:
    npz(tmp_path, "b.npz", [[3.0, 4.0]], [1])
    npz(tmp_path, "a.npz", [[1.0, 2.0]], [0])
    (tmp_path / "c.csv").write_text("5,6,2\n7,8,0\n")
    (tmp_path / "D.CSV").write_text("9,1,1\n")
    (tmp_path / "._a.csv").write_text("of another system")
    (tmp_path / "notes.txt").write_text("not data")

    data = read_dataset(tmp_path, MANIFEST)

    assert data.x.tolist() == [[9, 1], [1, 2], [3, 4], [5, 6], [7, 8]]
    assert data.y.tolist() == [1, 0, 1, 2, 0]
    assert data.complaints.unusable == 0
    assert [data.x.dtype.name, data.y.dtype.name] == ["float32", "int64"]


@pytest.mark.parametrize("bytes_max", [0, READING_BYTES + 5 * (2 * 32 + 16)])
def test_arrays_in_fortran_order_give_the_same_records(
    tmp_path: Path, bytes_max: int
) -> None:
    deep = replace(MANIFEST, input=TensorSpec((3, 2), "float32"))
    x = np.arange(54.0).reshape(9, 3, 2)
    found = []
    for order in ("C", "F"):
        folder = tmp_path / order
        folder.mkdir()
        np.savez(folder / "a.npz", x=np.array(x, order=order), y=np.arange(9) % 3)
        found.append(read_dataset(folder, deep, bytes_max=bytes_max))

    kept = 5 if bytes_max else 9
    assert found[0].x.tolist() == x[:kept].tolist()
    assert found[1].x.tolist() == found[0].x.tolist()
    assert found[1].y.tolist() == found[0].y.tolist()


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


# What is written, how many records can be used, and what is said of the others.
WRONG = [
    (
        write_csv("1,2,0\n1,secret77,0\n3,4,1\n"),
        2,
        ["a.csv: row 2, column '1': is no number"],
    ),
    (write_csv("1,2,0\n1,2\n3,4,1\n"), 2, ["a.csv: row 2: 2 cells where 3"]),
    (write_csv("1,2\n1,2,0\n3,4,1\n"), 2, ["a.csv: row 1: 2 cells where 3"]),
    (write_csv("1,2,0\n1,nan,0\n"), 1, ["a.csv: row 2, column '1': no value"]),
    (write_csv("1,2,0\n1,-inf,0\n"), 1, ["row 2, column '1': is an infinity"]),
    (write_csv("1,2,0\n1,1e39,0\n"), 1, ["row 2, column '1': a number beyond"]),
    (write_csv("1,2,77\n1,2,0\n"), 1, ["a.csv: row 1: y is none of the model's"]),
    (write_csv("1,2,-77\n"), 0, ["a.csv: row 1: y is none of the model's"]),
    (write_csv("1,2,0.77\n"), 0, ["a.csv: row 1: y is no finite number of its"]),
    (write_csv("1,2,7.7e300\n"), 0, ["row 1, column '2': a number beyond"]),
    (write_csv("a,b,c\n"), 0, []),
    (write_csv("1,,0\n1,2,0\n"), 1, ["a.csv: row 1, column '1': no value"]),
    (write_csv("0,1,label\n1,2,0\n"), 1, []),
    (write_csv("1,2,yes\n1,2,0\n"), 1, ["row 1, column '2': is no number"]),
    (write_csv("left,77,label\n1,2,0\n"), 1, []),
    (write_csv(""), 0, []),
    (write_csv('1,2,0\n"1,2,0\n3,4,1\n5,6,2"\n'), 2, ["row 2", "row 4"]),
    (write_csv('1,2,0\n"1"1,2,0\n3,4,1\n'), 2, ["row 2"]),
    (write_bytes("a.csv", b"1,2,0\n\xff,2,0\n3,4,1\n"), 2, ["row 2"]),
    (write_bytes("a.csv", b"1,2,0\n1\0,2,0\n3,4,1\n"), 2, ["row 2"]),
    (write_bytes("a.csv", b"\xff\xfe"), 0, []),
    (write_npz([[1.0, np.nan], [1, 2]], [0, 1]), 1, ["a.npz: record 1: x is no"]),
    (write_npz([["77x", "2"], ["1", "2"]], [0, 1]), 1, ["a.npz: record 1: x is no"]),
    (write_npz([[1.0, 2.0]], [0, 1]), 1, ["inputs and targets are not equally many"]),
    (write_npz([[1.0, 2.0, 77]], [0]), 0, ["x has records of another shape"]),
    (write_npz([[1j, 77j]], [0]), 0, ["record 1: x is no finite number"]),
    (write_npz([[1, 2], [1, 2]], [2**63, 1]), 1, ["record 1: y is no finite"]),
    (write_npz(1.0, 0), 0, ["x has records of another shape"]),
    (write_bytes("a.npz", b"not a zip, 77"), 0, ["a.npz: cannot be read"]),
    (write_bytes("a.npz", b""), 0, ["a.npz: cannot be read"]),
]


@pytest.mark.parametrize(("write", "usable", "said"), WRONG)
def test_wrong_record_is_left_out_and_named_and_decides_over_no_other(
    tmp_path: Path, write: Callable[[Path], None], usable: int, said: list[str]
) -> None:
    write(tmp_path)
    npz(tmp_path, "b.npz", [[7.0, 8.0]], [1])

    data = read_dataset(tmp_path, MANIFEST)

    assert len(data.x) == len(data.y) == usable + 1
    assert data.x[-1].tolist() == [7, 8]
    assert np.isfinite(data.x).all()
    found = data.complaints.first
    assert len(found) == len(said)
    for text, part in zip(found, said, strict=True):
        assert part in text
        assert "77" not in text


@given(st.lists(st.integers(0, 5), max_size=12), st.integers(0, 12), st.binary())
def test_no_line_of_a_csv_file_changes_what_others_give(
    labels: list[int], place: int, line: bytes
) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        rows = [b"%d,%d,%d" % (i, i * i, label) for i, label in enumerate(labels)]
        (folder / "a.csv").write_bytes(b"\n".join([b"a,b,c", *rows]))
        before = read_dataset(folder, MANIFEST).x.tolist()
        single = line.replace(b"\n", b"")
        rows.insert(place, single)
        (folder / "a.csv").write_bytes(b"\n".join([b"a,b,c", *rows]))
        after = read_dataset(folder, MANIFEST).x.tolist()
    assert len(after) - len(before) in (0, 1)
    assert [row for row in before if row not in after] == []


def test_pickled_arrays_are_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([{"evil": 1}], object), y=np.array([0]))

    data = read_dataset(tmp_path, MANIFEST)

    assert len(data.x) == 0
    assert data.complaints.first == ["a.npz: cannot be read (ValueError)"]


def test_what_stands_before_an_unforeseen_fault_of_a_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npz(tmp_path, "a.npz", [[1.0, 2.0], [3.0, 4.0]], [0, 1])
    whole = read_dataset(tmp_path, MANIFEST)

    def broken(
        path: Path, manifest: BundleManifest, label: str, room: int
    ) -> Iterator[KnownPiece]:
        yield from known_pieces(path, manifest, label, room)
        raise RuntimeError("of a library")

    monkeypatch.setattr("starling.agent.trainer.dataset.known_pieces", broken)
    data = read_dataset(tmp_path, MANIFEST)

    assert len(whole.x) == 2
    assert data.x.tolist() == whole.x.tolist()
    assert data.complaints.first == ["a.npz: cannot be read (RuntimeError)"]


def test_complaints_are_counted_in_full_and_named_in_part(tmp_path: Path) -> None:
    npz(tmp_path, "a.npz", np.full((500, 2), np.nan), [0] * 500)

    said = read_dataset(tmp_path, MANIFEST).complaints

    assert said.unusable == 500
    assert len(said.first) == COMPLAINTS_MAX


def test_equal_records_are_counted_wherever_they_stand(tmp_path: Path) -> None:
    npz(tmp_path, "a.npz", [[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]], [0, 1, 1])
    (tmp_path / "b.csv").write_text("3,4,1\n1,2,0\n")

    facts = read_dataset(tmp_path, MANIFEST).facts(thorough=True)

    assert (facts.records, facts.duplicates) == (5, 2)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_dataset(tmp_path / "nowhere", MANIFEST)


def test_folder_without_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no \.npz, \.csv"):
        read_dataset(tmp_path, MANIFEST)


def test_missing_label_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y,z\n1,2,0\n3,4,1\n")

    data = read_dataset(tmp_path, MANIFEST, "label")

    assert data.complaints.first == ["a.csv: lacks the column that data.label names"]
    assert data.complaints.unusable == 1


@pytest.mark.parametrize("value", [9.0, -1.0, 0.5], ids=["above", "below", "between"])
def test_value_that_is_no_row_of_its_table_is_left_out(
    value: float, tmp_path: Path
) -> None:
    tokens = replace(MANIFEST, tables=(LookupTable(1, 1, 9),))
    npz(tmp_path, "a.npz", [[7.5, 8.0], [7.5, value]], [0, 1])

    data = read_dataset(tmp_path, tokens)

    assert data.x.tolist() == [[7.5, 8.0]]
    assert data.complaints.first == ["a.npz: record 2: x is not in the model's table"]


def room_for(count: int) -> int:
    one = records_max(MANIFEST, READING_BYTES + (1 << 20))
    assert one is not None
    return READING_BYTES + (1 << 20) // one * count


def test_places_beyond_the_limit_are_none_in_order_of_name(tmp_path: Path) -> None:
    npz(tmp_path, "a.npz", [[1.0, 2.0], [3.0, 4.0]], [0, 1])
    (tmp_path / "b.csv").write_text("5,6,2\nnothing\n7,8,0\n")
    npz(tmp_path, "c.npz", [[9.0, 9.0]], [1])

    found = [read_dataset(tmp_path, MANIFEST, "", room_for(n)) for n in range(1, 8)]

    assert [len(data.x) for data in found] == [1, 2, 3, 3, 4, 5, 5]
    said = [data.complaints.first[:1] for data in found]
    assert said[1] == ["b.csv: beyond 2 records; raise training.memory_mb"]
    assert said[4] == ["c.npz: beyond 5 records; raise training.memory_mb"]
    assert all("beyond" not in "".join(data.complaints.first) for data in found[5:])


@pytest.mark.parametrize("cell", ["1", "nan", "much", "1,1", "9" * 100_000])
def test_what_a_record_holds_moves_no_other_across_the_limit(
    tmp_path: Path, cell: str
) -> None:
    lines = [f"{n},{n},0" for n in range(1, 8)]
    (tmp_path / "a.csv").write_text("\n".join([lines[0], f"{cell},2,0", *lines[2:]]))

    data = read_dataset(tmp_path, MANIFEST, "", room_for(4))

    assert [row for row in data.x[:, 1] if row != 2] == [1, 3, 4]


def test_mnist_sized_records_of_a_small_board_have_room() -> None:
    image = replace(MANIFEST, input=TensorSpec((1, 28, 28), "float32"))

    most = records_max(image, (192 << 20) // 4)

    assert most is not None
    assert most >= 5000


def test_pieces_of_a_file_are_joined_in_order(tmp_path: Path) -> None:
    x = np.arange(20_000, dtype=np.float64).reshape(-1, 2)
    np.savez(tmp_path / "a.npz", x=x, y=np.zeros(10_000, np.int8))
    (tmp_path / "b.csv").write_text("".join(f"{a},{b},0\n" for a, b in x))

    data = read_dataset(tmp_path, MANIFEST)

    assert data.x.tolist() == [*x.tolist(), *x.tolist()]


def test_targets_are_scaled_as_the_manifest_says(tmp_path: Path) -> None:
    npz(tmp_path, "a.npz", [[1.0, 2.0], [3.0, 4.0]], [[100.0], [300.0]])
    table = TableSchema((), (TargetColumn("price", 0.01, -2.0),))

    data = read_dataset(tmp_path, replace(REGRESSION, table=table))

    np.testing.assert_allclose(data.y, [[-1.0], [1.0]])
