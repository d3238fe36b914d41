"""Rows of a table become records: numbers and one-hot codes, labels, windows.

Letters: `n` rows, `v` values of a row, `m` windows.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starling.protocol.model.table_schema import InputColumn, TableSchema
from starling.records.csv_cells import is_missing
from starling.records.data_options import DataOptions
from starling.records.errors import DataError
from starling.records.record_set import LABELS, Division, RecordSet, division
from starling.records.table import RecordTable, TextColumn
from starling.records.table_plan import TablePlan, plan_table


def table_records(
    table: RecordTable, asked: DataOptions, name: str, boards: Division | None = None
) -> RecordSet:
    """Makes records of a table.

    Args:
      table: All its rows.
      asked: What is to be learned.
      name: Of the set.
      boards: Whose each row is, where files or folders say so.

    Raises:
      DataError: Naming the first thing that stands in the way.
    """
    plan = plan_table(table, asked)
    file = table.file_names[0]
    if asked.board_column:
        boards = _divided(table, asked.board_column, file)
    groups = _divided(table, asked.group, file) if asked.group else None
    x, y = inputs(table, plan.schema), targets(table, plan)
    if plan.schema.window:
        parts = [d.codes for d in (boards, groups) if d is not None]
        ends = window_ends(
            np.stack([table.files, *parts]), plan.schema.window, plan.schema.stride
        )
        if not len(ends):
            raise DataError(
                f"no series has {plan.schema.window} rows: a shorter --window",
                file=file,
            )
        x, y = windows(x, ends, plan.schema.window), y[ends]
        boards = boards.take(ends) if boards else None
        groups = groups.take(ends) if groups else None
    notes = [
        f"column {name!r} holds one value and is left out" for name in plan.dropped
    ]
    return RecordSet(
        name,
        x,
        y,
        plan.loss,
        plan.classes,
        table=plan.schema,
        boards=boards,
        groups=groups,
        reuse=plan.schema.reuse,
        notes=tuple(notes),
    )


def _divided(table: RecordTable, column: str, file: str) -> Division:
    found = table.texts[column]
    lacking = np.flatnonzero(found.codes < 0)
    if len(lacking):
        raise table.fault(int(lacking[0]), column, "no value: whose row is this?")
    return division(found.codes, found.texts, column=column, file=file)


def inputs(table: RecordTable, schema: TableSchema) -> NDArray[np.float32]:
    """(n, v) float32 in the table's own units; missing cells filled."""
    x = np.zeros((len(table), schema.values), np.float32)
    start = 0
    for column in schema.columns:
        if column.categories:
            places = _places(table.texts[column.name], column)
            x[np.arange(len(table)), start + places] = 1.0
        else:
            x[:, start] = table.numbers[column.name]
            if column.fill is not None:
                lacking = np.isnan(x[:, start])
                x[lacking, start] = column.fill
        start += column.size
    _refuse_infinities(table, x)
    return x


def _refuse_infinities(table: RecordTable, values: NDArray[np.float32]) -> None:
    rows = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(rows):
        raise DataError(
            "a number beyond 3e38: mend the cell",
            file=table.file_names[table.files[rows[0]]],
            row=int(table.lines[rows[0]]),
        )


def _places(found: TextColumn, column: InputColumn) -> NDArray[np.int64]:
    """(n,) which category each row has."""
    known = [column.categories.index(text) for text in found.texts]
    fill = column.categories.index(str(column.fill)) if column.fill is not None else 0
    # A missing cell has the code -1: the last place.
    return np.array([*known, fill], np.int64)[found.codes]


def targets(table: RecordTable, plan: TablePlan) -> NDArray[Any]:
    """(n,) int64 labels, or (n, t) float32 numbers in the table's own units."""
    names = [item.name for item in plan.schema.targets]
    if plan.loss != LABELS:
        y = np.stack([table.numbers[name] for name in names], 1).astype(np.float32)
        _refuse_infinities(table, y)
        return y
    places = {text: place for place, text in enumerate(plan.classes)}
    if names[0] in table.texts:
        found = table.texts[names[0]]
        return np.array([places[text] for text in found.texts], np.int64)[found.codes]
    values = np.array([float(text) for text in plan.classes])
    return np.searchsorted(values, table.numbers[names[0]]).astype(np.int64)


def window_ends(keys: NDArray[Any], window: int, stride: int) -> NDArray[np.int64]:
    """Last rows of the windows of each series, in order.

    A series is a run of rows of the same keys: no window goes over from one file,
    board or group into another.

    Args:
      keys: (k, n) of any numbers.
      window: Rows of each; at least 1.
      stride: Rows from one to the next; at least 1.
    """
    changes = np.flatnonzero((keys[:, 1:] != keys[:, :-1]).any(axis=0)) + 1
    edges = [0, *changes.tolist(), keys.shape[1]]
    parts = [
        np.arange(start + window - 1, end, stride, dtype=np.int64)
        for start, end in pairwise(edges)
    ]
    return np.concatenate(parts)


def windows(
    x: NDArray[np.float32], ends: NDArray[np.int64], window: int
) -> NDArray[np.float32]:
    """(m, v, window) of rows (n, v), each window in order of time."""
    rows = ends[:, None] - np.arange(window - 1, -1, -1)
    return np.ascontiguousarray(x[rows].transpose(0, 2, 1))


@dataclass(frozen=True)
class RowCoder:
    """Makes records of single lines, as a board reads them: one decides over no other.

    Attributes:
      schema: Of the bundle; without windows.
      classes: Its label map; empty for numbers.
      places: Of the inputs, then the targets, in a line.
      width: Cells of a line.
    """

    schema: TableSchema
    classes: tuple[str, ...]
    places: tuple[int, ...]
    width: int

    def code(self, cells: list[str]) -> tuple[list[float], list[float]]:
        """Inputs and targets of a line, in the table's own units.

        Raises:
          ValueError: If a cell is none of its column, or there are more or less.
        """
        if len(cells) != self.width:
            raise ValueError("another width")
        picked = [cells[place] for place in self.places]
        x: list[float] = []
        for column, cell in zip(self.schema.columns, picked, strict=False):
            x += _coded(column, cell.strip())
        y = [self._target(cell.strip()) for cell in picked[len(self.schema.columns) :]]
        return x, y

    def _target(self, cell: str) -> float:
        if not self.classes:
            return float(cell)
        if cell in self.classes:
            return float(self.classes.index(cell))
        value = float(cell)
        if value != int(value):
            raise ValueError("no label")
        return float(self.classes.index(str(int(value))))


def _coded(column: InputColumn, cell: str) -> list[float]:
    if not column.categories:
        if column.fill is not None and is_missing(cell):
            return [float(column.fill)]
        return [float(cell)]
    text = str(column.fill) if column.fill is not None and is_missing(cell) else cell
    return [float(text == each) for each in _one_of(text, column.categories)]


def _one_of(text: str, categories: tuple[str, ...]) -> tuple[str, ...]:
    if text not in categories:
        raise ValueError("no category")
    return categories
