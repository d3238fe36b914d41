"""The files of a data set, read a piece at a time, so that memory is for records.

How far is read depends on places alone, usable or not (`RecordQuota`), so that what a
record holds decides over no other one.
"""

import csv
import math
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from starling.agent.training.trainer_messages import COMPLAINT_CHARS_MAX, COMPLAINTS_MAX
from starling.protocol.model.training_bundle import BundleManifest
from starling.records.csv_cells import is_head, is_numeric

PIECE_BYTES = 1 << 20
"""A file is read and converted in pieces of so many bytes, and of so many records:"""
PIECE_RECORDS = 4096
LINE_BYTES, CELL_BYTES = 1 << 16, 64
"""The longest line of a CSV file, and what each of its cells adds to that."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
Table = tuple[NDArray[Any], NDArray[Any], Callable[[int], str]]
"""Inputs, targets, and what a row is called."""


@dataclass
class Complaints:
    """Unusable records: a count, and the first few reasons.

    Attributes:
      unusable: How many records cannot be used.
      first: Why, of the first few.
      unclear: Files and first rows that are neither names nor a record.
    """

    unusable: int = 0
    first: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)

    def about(self, text: str, count: int = 1) -> None:
        """Notes so many records that cannot be used; nothing for 0."""
        self.unusable += count
        if len(self.first) < COMPLAINTS_MAX:
            shown = "".join(c if c.isprintable() else "?" for c in text)
            self.first.append(shown[:COMPLAINT_CHARS_MAX])


@dataclass
class RecordQuota:
    """Number of records that may still be read; None for any number.

    Attributes:
      left: Places.
      passed: The first file with more than that.
    """

    left: int | None
    passed: str = ""

    def take(self, wanted: int) -> int:
        """So many of the places wanted, which are gone then."""
        if self.left is None:
            return wanted
        taken = min(wanted, self.left)
        self.left -= taken
        return taken

    def give_back(self, count: int) -> None:
        """Places that were not needed."""
        self.left = None if self.left is None else self.left + count


def npz_pieces(
    path: Path,
    manifest: BundleManifest,
    label: str,
    said: Complaints,
    room: RecordQuota,
) -> Iterator[Table]:
    """The records of an `.npz` file as they stand there, while there is room.

    Raises:
      Exception: Of any kind, if it is no such file.
    """
    del label
    with (
        zipfile.ZipFile(path) as file,
        file.open("x.npy") as x_file,
        file.open("y.npy") as y_file,
    ):
        x, y = _Column(x_file), _Column(y_file)
        for name, column, port in (
            ("x", x, manifest.input),
            ("y", y, manifest.target),
        ):
            if math.prod(column.shape) != math.prod(port.shape):
                text = (
                    f"{path.name}: {name} has records of another shape than the model's"
                )
                said.about(text, max(x.count, y.count))
                return
        if x.count != y.count:
            text = f"{path.name}: inputs and targets are not equally many"
            said.about(text, abs(x.count - y.count))
        count = min(x.count, y.count)
        for column in (x, y):
            column.gather(count if room.left is None else min(count, room.left))
        each = max(1, min(PIECE_RECORDS, PIECE_BYTES // max(1, x.bytes, y.bytes)))
        start = 0
        while start < count and (rows := room.take(min(each, count - start))):
            name_of = partial(name_of_row, f"{path.name}: record", range(start, count))
            yield x.next(rows), y.next(rows), name_of
            start += rows
        if start < count:
            room.passed = room.passed or path.name


def name_of_row(what: str, places: Sequence[int], row: int) -> str:
    """Name of a row in messages: of what it is one, and its place in the file."""
    return f"{what} {places[row]}"


class _Column:
    """An array of an `.npz` file, read record after record."""

    def __init__(self, file: IO[bytes]) -> None:
        """Reads what stands before the values."""
        version = np.lib.format.read_magic(file)
        reads = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        shape, is_fortran, self._dtype = reads[version](file)
        if self._dtype.hasobject:
            raise ValueError("objects")
        shape = shape or (1,)
        self.count, self.shape = shape[0], shape[1:]
        self.bytes = math.prod(self.shape) * self._dtype.itemsize
        self._file = file
        self._is_apart = is_fortran and math.prod(self.shape) > 1
        self._gathered: NDArray[Any] | None = None

    def gather(self, rows: int) -> None:
        """Puts the first records together whose values stand apart in the file.

        Arrays in Fortran order are written so, as a table of pandas gives them.
        """
        if not self._is_apart:
            return
        item = self._dtype.itemsize
        found = np.empty((rows, math.prod(self.shape)), self._dtype)
        for place in range(found.shape[1]):
            content = self._file.read(rows * item)
            found[:, place] = np.frombuffer(content, self._dtype, rows)
            rest = (self.count - rows) * item
            while rest and (passed := len(self._file.read(min(rest, PIECE_BYTES)))):
                rest -= passed
        axes = range(len(self.shape), 0, -1)
        turned = found.reshape(rows, *self.shape[::-1])
        self._gathered = turned.transpose(0, *axes)

    def next(self, rows: int) -> NDArray[Any]:
        """(rows, *shape), those after the last ones."""
        if self._gathered is not None:
            part, self._gathered = self._gathered[:rows], self._gathered[rows:]
            return part
        content = self._file.read(rows * self.bytes)
        return np.frombuffer(content, self._dtype).reshape(rows, *self.shape)


def csv_pieces(
    path: Path,
    manifest: BundleManifest,
    label: str,
    said: Complaints,
    room: RecordQuota,
) -> Iterator[Table]:
    """The rows of a CSV file that are numbers, while there is room."""
    width = math.prod(manifest.input.shape) + 1
    with path.open("rb") as file:
        lines = lines_of(file, LINE_BYTES + CELL_BYTES * width)
        head = next(lines, None)
        first = cells_of(head[1]) if head else None
        names = first if first is None or is_head(first, label) else []
        if head and names == []:
            lines = chain([head], lines)
            if not is_numeric(first or []) and len(said.unclear) < COMPLAINTS_MAX:
                said.unclear.append(f"{path.name}: row {head[0]}")
        column = _column(names or [], label, width)
        if column is None:
            said.about(f"{path.name}: has no such column as data.label", _count(lines))
            return
        if math.prod(manifest.target.shape) != 1:
            said.about(f"{path.name}: CSV has one target a record", _count(lines))
            return
        each = max(1, min(PIECE_RECORDS, PIECE_BYTES // (8 * width)))
        line = next(lines, None)
        while line is not None and (places := room.take(each)):
            piece = islice(chain([line], lines), places)
            table, found, read = _csv_table(path.name, piece, width, said)
            room.give_back(places - read)
            name_of = partial(name_of_row, f"{path.name}: row", found)
            yield np.delete(table, column, axis=1), table[:, column], name_of
            line = next(lines, None)
        if line is not None:
            room.passed = room.passed or path.name


def _csv_table(
    name: str, lines: Iterator[tuple[int, bytes]], width: int, said: Complaints
) -> tuple[NDArray[np.float64], list[int], int]:
    """The rows of some lines, what lines they are, and how many were read."""
    rows, places, read = [], [], 0
    for number, line in lines:
        read += 1
        row = _row(line, width)
        if row is None:
            said.about(f"{name}: row {number}: not {width} numbers")
        else:
            rows.append(np.array(row, np.float64))
            places.append(number)
    return np.array(rows, np.float64).reshape(len(rows), width), places, read


def _count(lines: Iterator[tuple[int, bytes]]) -> int:
    return sum(1 for _ in lines)


def _column(names: list[str], label: str, width: int) -> int | None:
    """Index of the target column; None if the label is not among the names."""
    if not label:
        return width - 1
    return names.index(label) if label in names[:width] else None


def lines_of(file: IO[bytes], most: int) -> Iterator[tuple[int, bytes]]:
    """Lines that hold something, with their numbers from 1; a line feed parts them.

    One that is longer than `most` stands there as a line that is no whole one.
    """
    number = 0
    while line := file.readline(most):
        number += 1
        is_whole = len(line) < most or line.endswith(b"\n")
        while not line.endswith(b"\n") and (rest := file.readline(most)):
            line = rest
        if not is_whole:
            yield number, b'"'
            continue
        if number == 1:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if stripped := line.removesuffix(b"\n").removesuffix(b"\r"):
            yield number, stripped


def cells_of(line: bytes) -> list[str] | None:
    """The cells of one line; None if it is not a whole line of CSV."""
    try:
        return next(csv.reader([line.decode("utf-8")], strict=True))
    except (UnicodeDecodeError, csv.Error, StopIteration):
        return None


def _row(line: bytes, width: int) -> list[float] | None:
    cells = cells_of(line)
    if cells is None or len(cells) != width:
        return None
    try:
        return [float(cell) for cell in cells]
    except ValueError:
        return None
