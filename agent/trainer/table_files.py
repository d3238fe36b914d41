"""CSV files of a board, read by the names of the columns that the bundle knows.

The first line names columns, in any order, more than the bundle's if need be; it alone
says which delimiter the file has. Every other line is a record by itself: texts become
labels and one-hot codes by the bundle's own lists, missing cells are filled as it says,
and a line that does not fit is no record.
"""

from collections.abc import Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from starling.agent.trainer.dataset_files import (
    CELL_BYTES,
    LINE_BYTES,
    PIECE_BYTES,
    PIECE_RECORDS,
    Complaints,
    RecordQuota,
    Table,
    lines_of,
    name_of_row,
)
from starling.protocol.model.table_schema import TableSchema
from starling.protocol.model.training_bundle import BundleManifest
from starling.records.csv_cells import COLUMNS_MAX, DELIMITERS, cells_of
from starling.records.table_records import RowCoder

Lines = Iterator[tuple[int, bytes]]


def table_pieces(
    path: Path,
    manifest: BundleManifest,
    label: str,
    said: Complaints,
    room: RecordQuota,
) -> Iterator[Table]:
    """The rows of a CSV file that fit the bundle's columns, while there is room."""
    del label
    schema = manifest.table
    assert schema is not None
    with path.open("rb") as file:
        lines = lines_of(file, LINE_BYTES + CELL_BYTES * COLUMNS_MAX)
        if schema.window:
            text = "windows of a series are read from .npz files"
            said.about(f"{path.name}: {text}", _count(lines))
            return
        head = next(lines, None)
        found = _columns(head[1], schema) if head else None
        if found is None:
            text = "its first line does not name the columns of the model"
            said.about(f"{path.name}: {text}", _count(lines))
            return
        delimiter, places, width = found
        coder = RowCoder(schema, manifest.classes, places, width)
        each = max(1, min(PIECE_RECORDS, PIECE_BYTES // (8 * (schema.values + 1))))
        line = next(lines, None)
        while line is not None and (taken := room.take(each)):
            piece = islice(chain([line], lines), taken)
            x, y, rows, read = _coded(path.name, piece, delimiter, coder, said)
            room.give_back(taken - read)
            yield x, y, partial(name_of_row, f"{path.name}: row", rows)
            line = next(lines, None)
        if line is not None:
            room.passed = room.passed or path.name


def _columns(
    head: bytes, schema: TableSchema
) -> tuple[str, tuple[int, ...], int] | None:
    """Delimiter, places of the inputs and then the targets, and width of a row."""
    wanted = [item.name for item in schema.columns]
    wanted += [item.name for item in schema.targets]
    text = head.decode("utf-8", "replace")
    for delimiter in DELIMITERS:
        names = [name.strip() for name in cells_of(text, delimiter) or []]
        if set(wanted) <= set(names):
            places = tuple([names.index(name) for name in wanted])
            return delimiter, places, len(names)
    return None


def _coded(
    name: str,
    lines: Lines,
    delimiter: str,
    coder: RowCoder,
    said: Complaints,
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[int], int]:
    """Inputs and targets of some lines, what lines they are, how many were read."""
    xs, ys, places, read = list[list[float]](), list[list[float]](), list[int](), 0
    for number, line in lines:
        read += 1
        try:
            x, y = coder.code(cells_of(line.decode("utf-8"), delimiter) or [])
        # Of any cell; OverflowError of a label that is an infinity.
        except (ValueError, OverflowError):
            said.about(f"{name}: row {number}: does not fit the columns of the model")
            continue
        xs.append(x)
        ys.append(y)
        places.append(number)
    count, values = len(places), coder.schema.values
    x_rows = np.array(xs, np.float64).reshape(count, values)
    y_rows = np.array(ys, np.float64).reshape(count, len(coder.schema.targets))
    return x_rows, y_rows, places, read


def _count(lines: Lines) -> int:
    return sum(1 for _ in lines)
