"""Data sets are read from files, and what is missing or broken is named."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from starling.fleet.datasets.mnist_idx import read_idx
from starling.fleet.datasets.partition import Examples
from starling.fleet.runtime.dataset_catalog import (
    MNIST_FILES,
    open_data_set,
    read_mnist,
    write_examples,
)
from starling.protocol.errors import ConfigError, StorageError
from starling.records.data_options import DataOptions


def idx(values: np.ndarray) -> bytes:
    shape = struct.pack(f">{values.ndim}I", *values.shape)
    return bytes((0, 0, 8, values.ndim)) + shape + values.tobytes()


def write_mnist(folder: Path, *, compress: bool) -> None:
    for name in MNIST_FILES:
        count = 40 if name.startswith("train") else 10
        pictures = np.full((count, 28, 28), 255, np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        content = idx(pictures if "images" in name else labels)
        if compress:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)


def test_open_digits_holds_out_a_part() -> None:
    opened = open_data_set("digits", np.random.default_rng(1))
    assert (len(opened.training), len(opened.held_out)) == (1437, 360)
    assert opened.training.x.shape[1:] == (64,)
    assert (opened.classes, opened.test) == (10, None)
    assert 0.9 < opened.training.x.max() <= 1.0


@pytest.mark.parametrize("compress", [True, False], ids=["gz", "raw"])
def test_read_mnist_complete_folder_gives_pictures(
    tmp_path: Path, compress: bool
) -> None:
    write_mnist(tmp_path, compress=compress)
    training, test = read_mnist([tmp_path])
    assert training.x.shape == (40, 1, 28, 28)
    assert (training.x.max(), len(test)) == (1.0, 10)


def test_open_mnist_from_environment_finds_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mnist").mkdir()
    write_mnist(tmp_path / "mnist", compress=True)
    monkeypatch.setenv("STARLING_DATA", str(tmp_path))
    opened = open_data_set("mnist", np.random.default_rng(0))
    assert len(opened.training) + len(opened.held_out) == 40
    assert opened.test is not None


def test_read_mnist_missing_file_names_it_and_the_places(tmp_path: Path) -> None:
    write_mnist(tmp_path, compress=True)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(ConfigError) as caught:
        read_mnist([tmp_path / "absent", tmp_path])
    said = str(caught.value)
    assert "missing t10k-labels-idx1-ubyte (raw or .gz)" in said
    assert f"{tmp_path}/absent, {tmp_path};" in said
    assert "STARLING_DATA" in said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"", "not an IDX", id="empty"),
        pytest.param(b"\0\0\x0d\x01", "not an IDX", id="floats"),
        pytest.param(b"\0\0\x08\x02\0\0", "header", id="cut-header"),
        pytest.param(idx(np.zeros(5, np.uint8))[:-1], "holds 4", id="cut"),
        pytest.param(idx(np.zeros(5, np.uint8)) + b"x", "holds 6", id="tail"),
        pytest.param(gzip.compress(b"x" * 99)[:-4], "cut short", id="cut-gzip"),
        pytest.param(b"\x1f\x8bzzzzzzzzzzzz", "damaged gzip", id="bad-gzip"),
    ],
)
def test_read_idx_bad_bytes_name_the_file(content: bytes, said: str) -> None:
    with pytest.raises(ConfigError, match=rf"labels: .*{said}"):
        read_idx(content, "labels")


def test_write_examples_where_no_folder_can_be_is_the_disk_s_refusal(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("in the way")
    one = Examples(np.zeros((1, 3), np.float32), np.zeros(1, np.int64))

    with pytest.raises(StorageError, match="Not a directory"):
        write_examples(tmp_path / "file" / "data" / "examples.npz", one)


def test_write_examples_reads_back_as_a_data_set(tmp_path: Path) -> None:
    x = np.arange(60, dtype=np.float32).reshape(20, 3)
    path = tmp_path / "board-000" / "examples.npz"
    write_examples(path, Examples(x, np.arange(20) % 3))
    opened = open_data_set(str(path), np.random.default_rng(0))
    assert (len(opened.training), len(opened.held_out)) == (18, 2)
    assert (opened.name, opened.classes) == ("examples", 3)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"", "a.csv: is empty"),
        ("absent.npz", None, "absent.npz: no such file"),
        ("broken.npz", b"no zip", "is no .npz file, or is damaged"),
    ],
)
def test_open_data_set_unusable_file_is_named(
    tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        open_data_set(str(tmp_path / name), np.random.default_rng(0))


def test_open_data_set_npz_without_labels_says_what_it_found(tmp_path: Path) -> None:
    path = tmp_path / "half.npz"
    np.savez(path, x=np.zeros((4, 2)))
    with pytest.raises(ConfigError, match=r"x and y, found \['x'\]"):
        open_data_set(str(path), np.random.default_rng(0))


TABLE = "a,who,y\n" + "".join(
    f"{at},p{at % 5},{'yes' if at % 3 else 'no'}\n" for at in range(100)
)


def test_open_own_table_by_group_tests_on_nobody_that_was_learned_from(
    tmp_path: Path,
) -> None:
    (tmp_path / "own.csv").write_text(TABLE)

    opened = open_data_set(
        str(tmp_path / "own.csv"), np.random.default_rng(3), DataOptions(group="who")
    )

    tested = {int(value) % 5 for value in opened.held_out.x[:, 0]}
    learned = {int(value) % 5 for value in opened.training.x[:, 0]}
    assert tested
    assert not tested & learned
    assert opened.labels == ("no", "yes")
    assert opened.owners is not None
    assert len(opened.owners.names) == 5 - len(tested)
    assert "simulation only" in opened.notes[0]


@pytest.mark.parametrize(("classes", "noted"), [(1, 1), (2, 0)])
def test_open_says_that_what_is_learned_from_is_of_one_class(
    tmp_path: Path, classes: int, noted: int
) -> None:
    labels = ("no", "yes")
    rows = [f"{n},{n % 2},{labels[(n % 2 + n // 2 % classes) % 2]}" for n in range(40)]
    (tmp_path / "own.csv").write_text("\n".join(["x,who,label", *rows]) + "\n", "utf-8")

    opened = open_data_set(
        str(tmp_path / "own.csv"), np.random.default_rng(0), DataOptions(group="who")
    )

    said = [note[:23] for note in opened.notes[1:]]
    assert said == ["all records to learn fr"] * noted


def test_open_single_record_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", x=np.ones((1, 2)), y=np.full(1, 0.5))

    with pytest.raises(ConfigError, match="holds one record"):
        open_data_set(str(tmp_path / "own.npz"), np.random.default_rng(0))
