"""Finds out what a path holds, and reads it: tables, arrays, pictures, sound.

| path | records | boards |
|---|---|---|
| a `.csv`, `.tsv` or `.parquet` file | its rows | by `--board-column` |
| an `.npz` file | x and y | by an array of that name |
| a folder of such files | of all of them | each file is one |
| a folder of folders of such files | of all of them | each folder is one |
| a folder of folders of pictures or WAV files | a file each, its folder the label | |
| a folder of folders of folders of these | the same | the outer folders |
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.lib.format import MAGIC_PREFIX
from numpy.typing import NDArray

from starling.protocol.errors import ConfigError
from starling.records.arrays import array_records
from starling.records.data_options import DataOptions
from starling.records.errors import DataError
from starling.records.formats import sound
from starling.records.formats.csv_pieces import (
    LINE_BYTES_MAX,
    csv_pieces,
    open_csv,
    whole_lines,
)
from starling.records.formats.npz_arrays import open_npz
from starling.records.formats.table_piece import TableColumns, TablePiece
from starling.records.record_set import Division, RecordSet
from starling.records.runtime import media_files
from starling.records.runtime.parquet_files import SUFFIXES as PARQUET
from starling.records.runtime.parquet_files import open_parquet
from starling.records.tables.table import RecordTable, TableBuilder
from starling.records.tables.table_records import table_records

TEXT_TABLES = (".csv", ".tsv")
TABLES = (*TEXT_TABLES, *PARQUET)
ARRAYS = (".npz",)
BLOCK_BYTES = 1 << 20
_UNREADABLE = (
    *(OSError, ValueError, EOFError, BadZipFile, zlib.error),
    # zipfile says these of what it cannot unpack, numpy those of an odd head.
    *(RuntimeError, KeyError, TypeError, OverflowError),
)
FILES_MAX = 1 << 20
_OTHERS = {
    ".xlsx": "save it as CSV",
    ".xls": "save it as CSV",
    ".json": "write it as CSV",
    ".gz": "unpack it first",
    ".zip": "unpack it first",
}


@dataclass(frozen=True)
class SourceFiles:
    """Files of one kind.

    Attributes:
      paths: In order of name.
      boards: Whose each file is; empty if nothing says so.
    """

    paths: tuple[Path, ...]
    boards: tuple[str, ...] = ()

    @property
    def suffix(self) -> str:
        """Of all of them."""
        return self.paths[0].suffix.lower()


def read_source(path: Path, asked: DataOptions) -> RecordSet:
    """Reads all records of a path.

    Args:
      path: See the module's text.
      asked: What is to be learned from it.

    Raises:
      ConfigError: Naming file, row and column of what stands in the way, and the way
        out.
    """
    files = find_files(path)
    if files.suffix in TABLES:
        table = read_tables(files, asked)
        return table_records(table, asked, path.stem, _boards_of(files, table.files))
    if files.suffix in ARRAYS:
        return _read_arrays(files, asked, path.stem)
    if files.suffix in sound.SUFFIXES:
        return media_files.read_sounds(path, asked)
    return media_files.read_pictures(path, asked)


def find_files(path: Path) -> SourceFiles:
    """The files of a path.

    Raises:
      ConfigError: If there are none that are known, or kinds are mixed.
    """
    if not path.is_dir():
        return _single(path)
    plain = [entry for entry in _entries(path) if entry.is_file()]
    files = _known(plain, (*TABLES, *ARRAYS))
    folders = [entry for entry in _entries(path) if entry.is_dir()]
    if files:
        _require_no_data_in(folders)
        names = tuple([file.stem for file in files])
        return _of_one_kind(files, names if len(files) > 1 else (), path)
    held = [
        (folder.name, _known(_entries(folder), (*TABLES, *ARRAYS)))
        for folder in folders
    ]
    if any(found for _, found in held):
        empty = [name for name, found in held if not found]
        if empty:
            raise DataError(
                "holds no table or .npz file, as the other boards' folders do: put its "
                "data there, or take it away",
                file=str(path / empty[0]),
            )
        for folder in folders:
            below = [entry for entry in _entries(folder) if entry.is_dir()]
            _require_no_data_in(below)
        pairs = [(file, name) for name, found in held for file in found]
        boards = tuple([name for _, name in pairs]) if len(held) > 1 else ()
        return _of_one_kind([file for file, _ in pairs], boards, path)
    media = list(media_files.found_in(path))
    if not media:
        raise DataError(
            "holds no .csv, .tsv, .parquet or .npz file, and no folders of pictures or "
            ".wav files by class",
            file=str(path),
        )
    return SourceFiles((media[0].path,))


def _require_no_data_in(folders: list[Path]) -> None:
    """Refuses data that would be left out without a word."""
    for folder in folders:
        if _known(_entries(folder), (*TABLES, *ARRAYS)):
            raise DataError(
                "holds files that are not read: all are to stand in one folder, or in "
                "one folder for each board; move them there, or take them away",
                file=str(folder),
            )


def _single(path: Path) -> SourceFiles:
    suffix = path.suffix.lower()
    if not path.exists():
        raise ConfigError("no such file or folder", file=str(path))
    if suffix in _OTHERS:
        raise DataError(f"{suffix} is not read: {_OTHERS[suffix]}", file=str(path))
    if suffix not in (*TABLES, *ARRAYS):
        raise DataError(
            "is none of .csv, .tsv, .parquet, .npz, and no folder of these, of "
            "pictures or of .wav files",
            file=str(path),
        )
    if not path.is_file():
        raise ConfigError("is no plain file", file=str(path))
    return SourceFiles((path,))


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if entry.name[0] != ".")
    except OSError as error:
        raise ConfigError(
            f"cannot be read: {error.strerror}", file=str(folder)
        ) from error


def _known(entries: list[Path], suffixes: tuple[str, ...]) -> list[Path]:
    return [entry for entry in entries if entry.suffix.lower() in suffixes]


def _of_one_kind(files: list[Path], boards: tuple[str, ...], path: Path) -> SourceFiles:
    kinds = sorted({file.suffix.lower() in ARRAYS for file in files})
    if len(kinds) > 1:
        raise DataError("holds both tables and .npz files: keep one", file=str(path))
    if len(files) > FILES_MAX:
        raise DataError(f"more than {FILES_MAX} files", file=str(path))
    return SourceFiles(tuple(files), boards)


def _boards_of(files: SourceFiles, codes: NDArray[np.int32]) -> Division | None:
    """Owner of each record, from the file that it is in."""
    if len(set(files.boards)) < 2:
        return None
    names = tuple(dict.fromkeys(files.boards))
    of_file = np.array([names.index(board) for board in files.boards], np.int32)
    return Division(of_file[codes], names)


def read_tables(
    files: SourceFiles, asked: DataOptions, faults: list[DataError] | None = None
) -> RecordTable:
    """Puts the tables of some files together.

    Args:
      files: CSV files.
      asked: Say which columns are texts whatever they hold.
      faults: Takes what stands in the way of single files; None to stop at the first.

    Raises:
      DataError: Naming file, row and column.
    """
    builder = TableBuilder()
    for path in files.paths:
        try:
            _add_table(builder, path, asked)
        except DataError as fault:
            if faults is None:
                raise
            faults.append(fault)
            # Without one sound file there is no table to look into.
            if builder.columns is None or len(faults) > len(files.paths):
                raise
    return builder.build()


def _add_table(builder: TableBuilder, path: Path, asked: DataOptions) -> None:
    with open_table(path, str(path), asked) as (columns, pieces):
        builder.add(columns, pieces, str(path))


@contextmanager
def open_table(
    path: Path, file: str, asked: DataOptions, line_bytes_max: int = LINE_BYTES_MAX
) -> Iterator[tuple[TableColumns, Iterator[TablePiece]]]:
    """Columns of a table's file and its rows, until the context ends.

    Args:
      path: Where it is.
      file: As messages name it.
      asked: Says which columns are texts whatever they hold, and which are not read.
      line_bytes_max: A longer line of a CSV file is a fault.

    Raises:
      ConfigError: If it cannot be read.
      DataError: If it is no table.
    """
    if path.suffix.lower() in PARQUET:
        with open_parquet(path, file) as table:
            columns = table.columns(asked.as_text, asked.unread)
            yield columns, table.pieces(columns)
        return
    lines = whole_lines(file_blocks(path, BLOCK_BYTES), line_bytes_max)
    # The first piece decides how all columns are read, and is read with the rest.
    first = next(lines, b"")
    layout = open_csv(
        first, file, as_text=asked.as_text, unread=asked.unread, named=asked.named
    )
    yield layout.columns, csv_pieces(chain([first], lines), layout, file)


def file_blocks(path: Path, size: int) -> Iterator[bytes]:
    """A file's bytes, so many at a time.

    Raises:
      ConfigError: If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            while block := file.read(size):
                yield block
    except OSError as error:
        raise ConfigError(
            f"cannot be read: {error.strerror}", file=str(path)
        ) from error


def _read_arrays(files: SourceFiles, asked: DataOptions, name: str) -> RecordSet:
    named = tuple(filter(None, [asked.board_column, asked.group]))
    parts = [read_arrays(path, named) for path in files.paths]
    # Each for itself, so that the file at fault is named.
    for part, path in zip(parts, files.paths, strict=True):
        for key, array in part.items():
            if array.shape[:1] == (0,):
                raise DataError("holds no record", file=str(path))
            if not array.shape or array.shape[:1] != part["y"].shape[:1]:
                raise DataError(
                    f"expected {key} of as many records as y, found {array.shape} and "
                    f"{part['y'].shape}",
                    file=str(path),
                )
            first = parts[0][key]
            if array.shape[1:] != first.shape[1:] or _kind(array) != _kind(first):
                raise DataError(
                    f"{key}: records of {array.shape[1:]} {_kind(array)}, where "
                    f"{files.paths[0].name} has {first.shape[1:]} {_kind(first)}",
                    file=str(path),
                )
    sizes = [len(part["y"]) for part in parts]
    whole = {
        key: np.concatenate([part[key] for part in parts]) if len(parts) > 1 else value
        for key, value in parts[0].items()
    }
    shown = str(files.paths[0]) if len(parts) == 1 else str(files.paths[0].parent)
    made = array_records(whole, asked, name, shown)
    boards = _boards_of(files, np.repeat(np.arange(len(sizes)), sizes))
    if boards is None:
        return made
    return replace(made, boards=made.boards or boards)


def _kind(array: NDArray[Any]) -> str:
    return "texts" if array.dtype.kind in "US" else "numbers"


def read_arrays(path: Path, named: tuple[str, ...] = ()) -> dict[str, NDArray[Any]]:
    """x, y and the arrays that are named; others may be of any kind.

    Raises:
      ConfigError: If the file has none of these, or is damaged.
    """
    file = str(path)
    try:
        with path.open("rb") as content:
            if content.read(len(MAGIC_PREFIX)) == MAGIC_PREFIX:
                detail = "is a single array: numpy.savez(file, x=x, y=y) writes both"
                raise DataError(detail, file=file)
            with open_npz(content, ("x", "y", *named), file) as arrays:
                return {key: array.whole() for key, array in arrays.items()}
    except BadZipFile as odd:
        detail = f"is no .npz file, or is damaged: copy it anew ({odd})"
        raise DataError(detail, file=file) from odd
    except _UNREADABLE as odd:
        raise DataError(f"cannot be read: {odd}", file=file) from odd
    except MemoryError as error:
        raise DataError("holds more than memory does", file=file) from error
