"""What a path holds, and what is wrong with it."""

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from starling.protocol.errors import ConfigError
from starling.records.data_options import DataOptions
from starling.records.errors import DataError
from starling.records.formats.sound import read_wav
from starling.records.runtime.media_files import found_in
from starling.records.runtime.source_check import check_source
from starling.records.runtime.sources import BLOCK_BYTES, read_source
from tests.unit.records.source_files import pgm, wav, write

ROWS = "a,b,y\n1,2,u\n3,4,v\n"


def test_single_table_names_no_boards(tmp_path: Path) -> None:
    write(tmp_path / "own.csv", ROWS)

    found = read_source(tmp_path / "own.csv", DataOptions())

    assert (found.name, len(found), found.boards) == ("own", 2, None)


def test_files_of_a_folder_are_the_boards(tmp_path: Path) -> None:
    write(tmp_path / "north.csv", ROWS)
    write(tmp_path / "south.csv", "a,b,y\n5,6,u\n7,8,v\n9,9,v\n")

    found = read_source(tmp_path, DataOptions())

    assert found.boards is not None
    assert found.boards.names == ("north", "south")
    np.testing.assert_array_equal(found.boards.codes, [0, 0, 1, 1, 1])
    np.testing.assert_array_equal(found.x[2], [5, 6])


def test_folders_of_a_folder_are_the_boards(tmp_path: Path) -> None:
    write(tmp_path / "north" / "1.csv", ROWS)
    write(tmp_path / "north" / "2.csv", ROWS)
    write(tmp_path / "south" / "1.csv", ROWS)

    found = read_source(tmp_path, DataOptions())

    assert found.boards is not None
    np.testing.assert_array_equal(found.boards.codes, [0, 0, 0, 0, 1, 1])


def test_arrays_of_a_folder_are_the_boards(tmp_path: Path) -> None:
    for name, count in (("a", 3), ("b", 2)):
        np.savez(tmp_path / f"{name}.npz", x=np.ones((count, 2)), y=np.arange(count))

    found = read_source(tmp_path, DataOptions())

    assert found.boards is not None
    np.testing.assert_array_equal(found.boards.codes, [0, 0, 0, 1, 1])


def test_pictures_are_labelled_by_their_folder(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        pgm(tmp_path / label / "1.pgm")

    found = read_source(tmp_path, DataOptions())

    assert found.x.shape == (2, 1, 2, 3)
    assert found.classes == ("cat", "dog")
    np.testing.assert_array_equal(found.x[1, 0], [[0, 1, 2], [3, 4, 5]])
    assert found.preprocessing.scale == (1 / 255,)


def test_pictures_two_folders_deep_belong_to_boards(tmp_path: Path) -> None:
    for board in ("hall", "yard"):
        for label in ("cat", "dog"):
            pgm(tmp_path / board / label / "1.pgm")

    found = read_source(tmp_path, DataOptions())

    assert found.boards is not None
    assert found.boards.names == ("hall", "yard")


def test_what_lies_deeper_than_two_folders_is_not_walked_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pgm(tmp_path / "north/fox/a.pgm")
    pgm(tmp_path / "north/fox/deep/deeper/b.pgm")
    walked = list[str]()

    def listed(folder: str) -> Any:  # noqa: ANN401 - os.scandir's own iterator
        walked.append(Path(folder).name)
        return scandir(folder)

    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", listed)

    found = [file.shown for file in found_in(tmp_path)]

    assert found == ["fox/a.pgm"]
    assert walked[-1] == "fox"


@pytest.mark.parametrize("width", [1, 2])
def test_sounds_are_labelled_by_their_folder(tmp_path: Path, width: int) -> None:
    wav(tmp_path / "no" / "1.wav", width=width)
    wav(tmp_path / "yes" / "1.wav", width=width)

    found = read_source(tmp_path, DataOptions())

    assert found.x.shape == (2, 1, 8)
    first = {1: -128 * 256, 2: 1 << 8}[width]
    assert found.x[0, 0, 0] == first


@pytest.mark.parametrize(
    ("form", "samples", "said"),
    [(3, 8, "no plain whole numbers: convert it, as sox"), (1, 0, "holds no sample")],
)
def test_sound_of_another_form_is_told_with_the_way_out(
    form: int, samples: int, said: str
) -> None:
    head = struct.pack("<IHHIIHH", 16, form, 1, 8000, 16000, 2, 16)
    data = b"data" + struct.pack("<I", 2 * samples) + bytes(2 * samples)
    body = b"WAVEfmt " + head + data

    with pytest.raises(DataError, match=said):
        read_wav(b"RIFF" + struct.pack("<I", len(body)) + body, "a.wav")


def test_windows_of_a_sound_are_a_group(tmp_path: Path) -> None:
    for label in ("no", "yes"):
        wav(tmp_path / label / "1.wav")

    found = read_source(tmp_path, DataOptions(window=4, stride=2))

    assert found.x.shape == (6, 1, 4)
    assert found.groups is not None
    assert (len(found.groups.names), found.reuse) == (2, 2)


def bad_image(root: Path) -> None:
    pgm(root / "cat" / "1.pgm")
    pgm(root / "dog" / "2.pgm", 4, 4)


def bad_wav(root: Path) -> None:
    wav(root / "no" / "1.wav")
    wav(root / "yes" / "1.wav")
    whole = (root / "yes" / "1.wav").read_bytes()
    write(root / "yes" / "1.wav", whole[:-5])


def cut_pgm(root: Path) -> None:
    pgm(root / "cat" / "1.pgm")
    whole = (root / "cat" / "1.pgm").read_bytes()
    write(root / "dog" / "2.pgm", whole[:-1])


def no_wav(root: Path) -> None:
    wav(root / "no" / "1.wav")
    write(root / "yes" / "1.wav", b"RIFF")


def other_rate(root: Path) -> None:
    wav(root / "no" / "1.wav")
    wav(root / "yes" / "1.wav", rate=16000)


def other_length(root: Path) -> None:
    wav(root / "no" / "1.wav")
    wav(root / "yes" / "1.wav", samples=9)


def empty_board(root: Path) -> None:
    write(root / "a.csv", ROWS)
    write(root / "b.csv", "a,b,y\n")


def empty_folder(root: Path) -> None:
    write(root / "a" / "1.csv", ROWS)
    (root / "b").mkdir()


def empty_class(root: Path) -> None:
    for label in ("cat", "dog"):
        pgm(root / label / "1.pgm")
    (root / "eel").mkdir()


def other_columns(root: Path) -> None:
    write(root / "a.csv", ROWS)
    write(root / "b.csv", ROWS.replace("b", "c"))


def text_in_one(root: Path) -> None:
    write(root / "a.csv", ROWS)
    write(root / "b.csv", "a,b,y\nx,2,u\nz,4,v\n")


def one_class(root: Path) -> None:
    pgm(root / "cat" / "1.pgm")


def two_kinds(root: Path) -> None:
    write(root / "a.csv", ROWS)
    np.savez(root / "b.npz", x=np.ones((2, 2)), y=np.arange(2))


def two_depths(root: Path) -> None:
    pgm(root / "cat" / "1.pgm")
    pgm(root / "hall" / "cat" / "1.pgm")


def folder_beside_files(root: Path) -> None:
    write(root / "a.csv", ROWS)
    write(root / "more" / "b.csv", ROWS)


def folder_below_a_board(root: Path) -> None:
    for board in "ab":
        write(root / board / "own.csv", ROWS)
    np.savez(made(root / "b" / "old") / "more.npz", x=np.ones((2, 2)), y=np.arange(2))


def made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def nothing(root: Path) -> None:
    write(root / "notes.md", "x")


def other_shape(root: Path) -> None:
    for name, width in (("a", 2), ("b", 3)):
        np.savez(root / f"{name}.npz", x=np.ones((2, width)), y=np.arange(2))


BAD = {
    bad_image: r"2\.pgm: 4 x 4 pixels grey, where 1\.pgm has 3 x 2 pixels grey",
    cut_pgm: r"2\.pgm: is cut short",
    bad_wav: r"yes/1\.wav: is cut short: 5 of 8 samples",
    no_wav: r"yes/1\.wav: is no WAV file",
    other_rate: r"yes/1\.wav: 16000 .* has 8000: bring all to one rate",
    other_length: r"yes/1\.wav: 9 samples on 1 channel, where 1\.wav has 8",
    empty_board: r"b\.csv: holds no record",
    empty_folder: r"/b: holds no table or \.npz file",
    empty_class: "/eel: holds no pictures",
    other_columns: r"b\.csv: row 1: other columns than in .*a\.csv: b, c",
    text_in_one: r"b\.csv: column 'a': texts in one file and numbers in",
    one_class: "one class alone, 'cat'",
    two_kinds: r"holds both tables and \.npz files",
    two_depths: r"cat/1\.pgm: is not in a class's folder of a board",
    folder_beside_files: "/more: holds files that are not read: .* in one folder",
    folder_below_a_board: "/b/old: holds files that are not read",
    nothing: "holds no .csv, .tsv, .parquet or .npz file",
    other_shape: r"b\.npz: x: records of \(3,\) numbers, where a\.npz has \(2,\) ",
}


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_source_at_fault_is_named_in_one_line(make, tmp_path: Path) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    make(tmp_path)

    with pytest.raises(ConfigError, match=BAD[make]) as caught:
        read_source(tmp_path, DataOptions())

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"1", "is none of .csv, .tsv, .parquet, .npz"),
        ("absent.csv", None, "No such file|cannot be read|no such file"),
        ("absent.npz", None, "no such file"),
        ("broken.npz", b"no zip", "is no .npz file, or is damaged: copy it anew"),
        ("sheet.csv", b"PK\x03\x04", "spreadsheet"),
    ],
)
def test_file_at_fault_is_named(
    tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(ConfigError, match=said):
        read_source(tmp_path / name, DataOptions())


def test_path_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="absent: no such file or folder"):
        read_source(tmp_path / "absent", DataOptions())


def test_label_of_a_folder_prints(tmp_path: Path) -> None:
    for label in ("cat", "d\u00a0g"):
        pgm(tmp_path / label / "1.pgm")

    with pytest.raises(DataError, match=r"'d\?g' holds the character U\+00A0"):
        read_source(tmp_path, DataOptions())


def test_fault_in_a_later_piece_of_a_file_is_told_like_any(tmp_path: Path) -> None:
    rows = BLOCK_BYTES // len("1,2,u\n") + 100
    write(tmp_path / "own.csv", "a,b,y\n" + "1,2,u\n3,4,v\n" * rows + "5,6\n")

    records, faults = check_source(tmp_path / "own.csv", DataOptions())

    assert records is None
    assert f"row {2 * rows + 2}: 2 cells where 3" in str(faults[0])
