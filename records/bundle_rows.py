"""Records of a file for a bundle that is known, a piece at a time.

What a bundle's columns, label map and fillings say decides how a row is read, and
nothing that stands in the data does: what is wrong with a row makes that row no record
and changes no other.

Letters: `n` records of a piece.
"""

import math
from bisect import bisect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import IO, Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from starling.protocol.model.table_schema import (
    InputColumn,
    TableSchema,
    TargetColumn,
)
from starling.protocol.model.training_bundle import BundleManifest
from starling.records.errors import DataError
from starling.records.formats.csv_cells import known_head
from starling.records.formats.csv_pieces import CsvLayout, csv_pieces, whole_lines
from starling.records.formats.npz_arrays import open_npz
from starling.records.formats.table_piece import TableColumns, TablePiece
from starling.records.record_set import LABELS
from starling.records.tables.table import TableBuilder
from starling.records.tables.table_records import RowFaults, inputs, targets

PIECE_BYTES = 1 << 20
"""Records are made in pieces of so many bytes, and of so many records:"""
PIECE_RECORDS = 4096
LINE_BYTES_MAX = 1 << 18
"""Of a CSV file; longer lines are no records."""


@dataclass(frozen=True)
class KnownPiece:
    """Some records of a file, in the data's own units.

    Attributes:
      x: (n, ...) of any kind of numbers, or texts that are.
      y: (n, ...) as x.
      places: (n,) int64 line or number of each in the file.
      faults: Of the rows, or files, that are no records.
    """

    x: NDArray[Any]
    y: NDArray[Any]
    places: NDArray[np.int64]
    faults: tuple[DataError, ...] = ()

    def first(self, count: int) -> "KnownPiece":
        """The first so many places of it, records or not."""
        rows = [fault.place for fault in self.faults]
        places = np.sort(np.concatenate([self.places, np.array(rows, np.int64)]))
        if len(places) <= count:
            return self
        kept = int(np.searchsorted(self.places, places[count]))
        faults = [fault for fault in self.faults if fault.place < places[count]]
        x, y, at = self.x[:kept], self.y[:kept], self.places[:kept]
        return KnownPiece(x, y, at, tuple(faults))

    def __len__(self) -> int:
        """Number of places, records or not."""
        return len(self.places) + len(self.faults)


@dataclass(frozen=True)
class KnownTable:
    """Reading of a table's rows as records of a bundle.

    Attributes:
      schema: What each column becomes.
      classes: The label map; empty for numbers.
      columns: As what the columns of a file are read.
    """

    schema: TableSchema
    classes: tuple[str, ...]
    columns: TableColumns

    def records(self, pieces: Iterable[TablePiece], file: str) -> Iterator[KnownPiece]:
        """Rows of a file as records."""
        # By values and not by cells: one column may become thousands of one-hot values.
        each = PIECE_BYTES // (4 * (self.schema.values + 1))
        each = max(1, min(PIECE_RECORDS, each))
        for piece in pieces:
            wrong, told, count = [it.row for it in piece.faults], 0, len(piece.lines)
            for start in range(0, count or 1, each):
                rows = slice(start, start + each)
                # Each fault goes with the rows before it, so that places rise.
                end = len(wrong)
                if rows.stop < count:
                    end = bisect(wrong, int(piece.lines[rows.stop - 1]))
                yield self._coded(piece, rows, piece.faults[told:end], file)
                told = end

    def _coded(
        self, piece: TablePiece, rows: slice, faults: tuple[DataError, ...], file: str
    ) -> KnownPiece:
        cut = TablePiece(
            piece.lines[rows],
            piece.numbers[rows],
            {name: cells[rows] for name, cells in piece.texts.items()},
        )
        # A piece of faults alone still tells them, and takes their places.
        if not len(cut.lines):
            x = np.zeros((0, self.schema.values), np.float32)
            y = np.zeros((0, len(self.schema.targets)), np.float32)
            return KnownPiece(x, y, cut.lines, faults)
        builder = TableBuilder()
        builder.add(self.columns, [cut], file)
        table = builder.build()
        odd = RowFaults(table)
        x = inputs(table, self.schema, odd)
        y = targets(table, self.schema, self.classes, odd)
        good = np.ones(len(table), np.bool_)
        # Left out here, where `table_records` refuses the whole table.
        good[list(odd.first)] = False
        told = sorted([*faults, *odd.first.values()], key=lambda fault: fault.row)
        return KnownPiece(x[good], y[good], cut.lines[good], tuple(told))


def known_table(
    names: tuple[str, ...], manifest: BundleManifest, label: str, file: str
) -> KnownTable:
    """Decides how rows under these names are read.

    Args:
      names: Of the file's columns.
      manifest: The bundle's.
      label: Name of the target where the bundle knows no columns; empty for the last.
      file: For messages.

    Raises:
      DataError: If rows are no records of this bundle.
    """
    schema = manifest.table
    if not set(_required_columns(manifest, label)) <= set(names):
        what = (
            "a column of the model"
            if _by_name(schema)
            else "the column that data.label names"
        )
        raise DataError(f"lacks {what}", file=file)
    if not _by_name(schema):
        schema = _numbers_only(names, manifest, label or names[-1], file)
    if schema.window:
        raise DataError("windows of a series are read from .npz files", file=file)
    classes = manifest.classes if manifest.loss == LABELS else ()
    texts = {item.name for item in schema.columns if item.categories}
    texts |= {schema.targets[0].name} if classes else set()
    places = sorted([names.index(name) for name in _column_names(schema)])
    columns = TableColumns(
        names,
        tuple([at for at in places if names[at] not in texts]),
        tuple([at for at in places if names[at] in texts]),
    )
    return KnownTable(schema, classes, columns)


def _by_name(schema: TableSchema | None) -> TypeGuard[TableSchema]:
    return schema is not None and bool(schema.columns)


def _numbers_only(
    names: tuple[str, ...], manifest: BundleManifest, target: str, file: str
) -> TableSchema:
    if math.prod(manifest.target.shape) != 1:
        raise DataError("a table has one target a record", file=file)
    columns = tuple([InputColumn(name) for name in names if name != target])
    if len(columns) != math.prod(manifest.input.shape):
        there = f"{len(columns)} columns beside the target"
        raise DataError(f"{there}, another number than the model's", file=file)
    return TableSchema(columns, (TargetColumn(target),))


def _required_columns(manifest: BundleManifest, label: str) -> tuple[str, ...]:
    """Columns that a file must name; empty if it need not name any."""
    if _by_name(manifest.table):
        return _column_names(manifest.table)
    return (label,) if label else ()


def _column_names(schema: TableSchema) -> tuple[str, ...]:
    names = [column.name for column in schema.columns]
    return (*names, *[target.name for target in schema.targets])


def csv_records(
    blocks: Iterable[bytes], manifest: BundleManifest, label: str, file: str
) -> Iterator[KnownPiece]:
    """Records of a CSV file.

    Args:
      blocks: Of the file.
      manifest: See `known_table`.
      label: See `known_table`.
      file: See `known_table`.

    Raises:
      DataError: If its first line does not name the columns that are wanted.
    """
    pieces = whole_lines(blocks, LINE_BYTES_MAX)
    first = next(pieces, b"")
    line = first.split(b"\n", 1)[0].removesuffix(b"\r").decode("utf-8", "replace")
    width = math.prod(manifest.input.shape) + 1
    head = known_head(line, _required_columns(manifest, label), width)
    known = known_table(head.names, manifest, label, file)
    found = csv_pieces(chain([first], pieces), CsvLayout(head, known.columns), file)
    yield from known.records(found, file)


def npz_records(
    content: IO[bytes], manifest: BundleManifest, places_max: int | None, file: str
) -> Iterator[KnownPiece]:
    """Records of an `.npz` file.

    Args:
      content: The file, open.
      manifest: Says what shape they have.
      places_max: How many are wanted at most; None for all.
      file: For messages.

    Raises:
      Exception: Of any kind, if it is no such file.
    """
    with open_npz(content, ("x", "y"), file) as arrays:
        x, y = arrays["x"], arrays["y"]
        for name, port in (("x", manifest.input), ("y", manifest.target)):
            if math.prod(arrays[name].shape) != math.prod(port.shape):
                detail = f"{name} has records of another shape than the model's"
                raise DataError(detail, file=file)
        # Records that have both are used before the rest is complained of: a longer y
        # does not take them away.
        count = min(x.count, y.count)
        for array in (x, y):
            array.gather(count if places_max is None else min(count, places_max))
        each = max(1, min(PIECE_RECORDS, PIECE_BYTES // max(1, x.bytes, y.bytes)))
        for start in range(0, count, each):
            rows = min(each, count - start)
            # Counted from 1, as lines and rows are.
            places = np.arange(start + 1, start + rows + 1, dtype=np.int64)
            yield KnownPiece(x.next(rows), y.next(rows), places)
        if x.count != y.count:
            raise DataError("inputs and targets are not equally many", file=file)
