"""The board's data set: a folder of `.npz` and `.csv` files, read in order of name.

An `.npz` file holds `x (n, *input)` and `y (n, *target)`. A `.csv` file holds one
record a line, numbers only but for an optional line of column names; one column is the
target (the last one, or the one configured), the others are the input. Files are
joined in the order of their names, which gives every record its fixed place. A value
that is no finite number is refused with file and row.
"""

import csv
import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol.bundle import Manifest, Preprocessing
from protocol.errors import ConfigError

FILES_MAX = 4096
SUFFIXES = (".npz", ".csv")


@dataclass(frozen=True)
class DataSet:
    """Records, ready for the graphs.

    Attributes:
      x: (n, *input), pre-processed, of the bundle's kind.
      y: (n, *target), of the bundle's kind.
    """

    x: NDArray[Any]
    y: NDArray[Any]


def data_files(folder: Path) -> list[Path]:
    """The data files of a folder, in order of name.

    Raises:
      ConfigError: If there is no such folder, or too many files.
    """
    try:
        found = sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES)
    except OSError as error:
        raise ConfigError(
            f"cannot be read: {error.strerror}", file=str(folder)
        ) from error
    if len(found) > FILES_MAX:
        raise ConfigError(f"more than {FILES_MAX} data files", file=str(folder))
    return found


def read_dataset(folder: Path, manifest: Manifest, label: str = "") -> DataSet:
    """Reads and checks all records.

    Args:
      folder: Where the files are.
      manifest: The bundle's; says what one record is.
      label: The target's column in CSV files; empty for the last one.

    Raises:
      ConfigError: Naming file and row of the first record that is wrong.
    """
    parts = [_read(path, manifest, label) for path in data_files(folder)]
    if not parts:
        raise ConfigError("has no .npz or .csv file", file=str(folder))
    x = np.concatenate([part.x for part in parts])
    y = np.concatenate([part.y for part in parts])
    return DataSet(_preprocessed(x, manifest.preprocessing), y)


def _read(path: Path, manifest: Manifest, label: str) -> DataSet:
    if path.suffix == ".npz":
        raw_x, raw_y = _read_npz(path)
    else:
        raw_x, raw_y = _read_csv(path, label)
    if len(raw_x) != len(raw_y):
        raise ConfigError(f"{len(raw_x)} inputs, {len(raw_y)} targets", file=str(path))
    x = _shaped(raw_x, manifest.input.shape, manifest.input.dtype, path, "x")
    y = _shaped(raw_y, manifest.target.shape, manifest.target.dtype, path, "y")
    _check_tables(x, manifest, path)
    if manifest.loss == "cross-entropy":
        _check_classes(y, math.prod(manifest.output.shape), path)
    return DataSet(x, y)


def _read_npz(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return np.atleast_1d(arrays["x"]), np.atleast_1d(arrays["y"])
    except KeyError as error:
        raise ConfigError(
            f"needs the arrays x and y: {error}", file=str(path)
        ) from error
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(f"is no .npz file: {error}", file=str(path)) from error


def _read_csv(path: Path, label: str) -> tuple[NDArray[Any], NDArray[Any]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(_csv_rows(csv.reader(file), path))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"is no CSV file: {error}", file=str(path)) from error
    names = rows.pop(0)[1] if rows and not _is_numeric(rows[0][1]) else []
    if label and label not in names:
        raise ConfigError(f"has no column {label!r}", file=str(path), key="data.label")
    if not rows:
        raise ConfigError("has no records", file=str(path))
    column = names.index(label) if label else len(rows[0][1]) - 1
    table = np.array([_numbers(row, line, path) for line, row in rows], np.float64)
    return np.delete(table, column, axis=1), table[:, column]


def _csv_rows(reader: Any, path: Path) -> Iterator[tuple[int, list[str]]]:  # noqa: ANN401 - the csv module names no type for it
    width = 0
    for row in reader:
        if not row:
            continue
        width = width or len(row)
        if len(row) != width:
            raise ConfigError(
                f"{len(row)} columns, {width} above",
                file=str(path),
                key=f"row {reader.line_num}",
            )
        yield reader.line_num, row


def _is_numeric(row: list[str]) -> bool:
    try:
        _ = [float(cell) for cell in row]
    except ValueError:
        return False
    return True


def _numbers(row: list[str], line: int, path: Path) -> list[float]:
    try:
        return [float(cell) for cell in row]
    except ValueError as error:
        raise ConfigError(str(error), file=str(path), key=f"row {line}") from error


def _shaped(
    raw: NDArray[Any], shape: tuple[int, ...], dtype: str, path: Path, name: str
) -> NDArray[Any]:
    if raw.dtype.kind not in "iufb":
        raise ConfigError(f"{name} is not numeric", file=str(path))
    if math.prod(raw.shape[1:]) != math.prod(shape):
        raise ConfigError(
            f"{name} has records of shape {raw.shape[1:]}, the model wants {shape}",
            file=str(path),
        )
    flat = raw.reshape(len(raw), -1)
    odd = ~np.isfinite(flat).all(axis=1)
    if dtype == "int64" and raw.dtype.kind == "f":
        odd |= (flat != np.rint(np.nan_to_num(flat))).any(axis=1)
    if odd.any():
        wanted = "a whole number" if dtype == "int64" else "a finite number"
        row = int(np.flatnonzero(odd)[0])
        raise ConfigError(
            f"{name} is not {wanted}", file=str(path), key=f"record {row}"
        )
    return raw.reshape(len(raw), *shape).astype(dtype)


def _check_tables(x: NDArray[Any], manifest: Manifest, path: Path) -> None:
    flat = x.reshape(len(x), -1)
    for table in manifest.tables:
        places = flat[:, table.start : table.start + table.size]
        whole = (places == np.rint(places)) & (places >= 0) & (places < table.rows)
        odd = np.argwhere(~whole)
        if odd.size:
            row, column = odd[0]
            raise ConfigError(
                f"x is {places[row, column]:g} at place {table.start + column}, the "
                f"model's table has the rows 0 to {table.rows - 1}",
                file=str(path),
                key=f"record {row}",
            )


def _check_classes(y: NDArray[Any], classes: int, path: Path) -> None:
    odd = np.flatnonzero((y.reshape(-1) < 0) | (y.reshape(-1) >= classes))
    if odd.size:
        raise ConfigError(
            f"y is {y.reshape(-1)[odd[0]]}, the model has {classes} classes",
            file=str(path),
            key=f"record {odd[0]}",
        )


def _preprocessed(x: NDArray[Any], step: Preprocessing) -> NDArray[Any]:
    if x.dtype.kind != "f" or (step.scale, step.offset) == ((1.0,), (0.0,)):
        return x
    trailing = (1,) * max(0, x.ndim - 2)
    scale = np.array(step.scale, np.float32).reshape(-1, *trailing)
    offset = np.array(step.offset, np.float32).reshape(-1, *trailing)
    return x * scale + offset
