"""Rows of a table become records: numbers and one-hot codes, labels, windows.

Letters: `n` rows, `v` values of a row, `m` windows.
"""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starling.protocol.model.table_schema import InputColumn, TableSchema
from starling.records.data_options import DataOptions
from starling.records.errors import DataError, counted, shown
from starling.records.formats.csv_cells import number
from starling.records.record_set import Division, RecordSet, division
from starling.records.tables.table import RecordTable, TextColumn
from starling.records.tables.table_plan import none_of, plan_table


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
    faults = RowFaults(table)
    x = inputs(table, plan.schema, faults)
    y = targets(table, plan.schema, plan.classes, faults)
    faults.refuse()
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
    notes += odd_labels(plan.classes, y)
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


def odd_labels(classes: tuple[str, ...], y: NDArray[Any]) -> list[str]:
    """Notes on labels that are hardly meant as they stand.

    Args:
      classes: The label map; empty for numbers.
      y: (n,) places in it.
    """
    notes, alike = list[str](), dict[str, list[str]]()
    for label in classes:
        spelled = unicodedata.normalize("NFKC", label).casefold()
        alike.setdefault(spelled, []).append(label)
    notes += [
        f"labels {' and '.join(map(shown, labels[:4]))} are told apart by their "
        "spelling alone: mend the cells, if they mean the same"
        for labels in alike.values()
        if len(labels) > 1
    ]
    single = np.count_nonzero(np.bincount(y, minlength=1) == 1) if classes else 0
    if single:
        notes.append(
            f"{counted(int(single), 'label')} of {len(classes):,} with one record "
            "alone: it is learned or tested, never both; if these are no labels, "
            "--loss mse or another --target"
        )
    return notes


def _divided(table: RecordTable, column: str, file: str) -> Division:
    found = table.texts[column]
    lacking = np.flatnonzero(found.codes < 0)
    if len(lacking):
        raise table.fault(int(lacking[0]), column, "no value: whose row is this?")
    return division(found.codes, found.texts, column=column, file=file)


@dataclass
class RowFaults:
    """Rows that are no records.

    Attributes:
      table: In which they stand.
      first: Row, from 0, to the first thing that is wrong with it.
    """

    table: RecordTable
    first: dict[int, DataError] = field(default_factory=dict)

    def note(
        self,
        rows: NDArray[np.int64],
        column: str,
        detail: str,
        cells: Callable[[int], str] = lambda row: "",
    ) -> None:
        """Says the same of some rows; `cells` has what stands in each."""
        for row in rows.tolist():
            if row not in self.first:
                fault = self.table.fault(row, column, detail, cells(row))
                self.first[row] = fault

    def refuse(self) -> None:
        """Raises what is wrong with the first such row, if there is any."""
        if self.first:
            raise self.first[min(self.first)]


def inputs(
    table: RecordTable, schema: TableSchema, faults: RowFaults
) -> NDArray[np.float32]:
    """(n, v) float32 in the table's own units; missing cells filled.

    Args:
      table: All columns of the schema.
      schema: Says what each becomes.
      faults: Takes what does not fit; the values of such a row mean nothing.
    """
    x = np.zeros((len(table), schema.values), np.float32)
    start = 0
    for column in schema.columns:
        if column.categories:
            codes = _codes(table.texts[column.name], column)
            known = codes >= 0
            x[np.flatnonzero(known), start + codes[known]] = 1.0
            _note_strange(table, column.name, codes, faults, column.categories)
        else:
            values = table.numbers[column.name]
            if column.fill is not None:
                values = np.where(np.isnan(values), np.float32(column.fill), values)
            x[:, start] = values
            _note_odd(values, column.name, faults, "and none is declared to fill it")
        start += column.size
    return x


def _note_odd(
    values: NDArray[np.float32], name: str, faults: RowFaults, why: str
) -> None:
    if np.isfinite(values).all():
        return
    lacking = np.flatnonzero(np.isnan(values))
    faults.note(lacking, name, f"no value, {why}")
    huge = np.flatnonzero(np.isinf(values))
    faults.note(huge, name, "a number beyond 3e38: mend the cell")


def _note_strange(
    table: RecordTable,
    name: str,
    codes: NDArray[np.int64],
    faults: RowFaults,
    known: tuple[str, ...],
) -> None:
    found = table.texts[name]
    rows = np.flatnonzero(codes < 0)
    lacking = found.codes[rows] < 0
    faults.note(rows[lacking], name, "no value, and none is declared to fill it")
    faults.note(rows[~lacking], name, none_of(known), lambda row: found.cell(row))


def _codes(found: TextColumn, column: InputColumn) -> NDArray[np.int64]:
    """(n,) which category each row has; -1 for none."""
    places = {text: place for place, text in enumerate(column.categories)}
    fill = places[str(column.fill)] if column.fill is not None else -1
    # A missing cell has the code -1: the last place.
    known = [places.get(text, -1) for text in found.texts]
    return np.array([*known, fill], np.int64)[found.codes]


def targets(
    table: RecordTable, schema: TableSchema, classes: tuple[str, ...], faults: RowFaults
) -> NDArray[Any]:
    """(n,) int64 labels, or (n, t) float32 numbers in the table's own units.

    Args:
      table: All columns of the schema.
      schema: Names the targets.
      classes: The label map; empty for numbers.
      faults: See `inputs`.
    """
    names = [item.name for item in schema.targets]
    if not classes:
        y = np.stack([table.numbers[name] for name in names], 1).astype(np.float32)
        for place, name in enumerate(names):
            _note_odd(y[:, place], name, faults, "which the target needs")
        return y
    if names[0] in table.texts:
        found = table.texts[names[0]]
        known = [label_of(text, classes) for text in found.texts]
        codes = np.array([*known, -1], np.int64)[found.codes]
        _note_strange(table, names[0], codes, faults, classes)
        return codes
    values = np.array([float(text) for text in classes])
    # The label map of numbers rises, and was made of this very column.
    return np.searchsorted(values, table.numbers[names[0]]).astype(np.int64)


def label_of(text: str, classes: tuple[str, ...]) -> int:
    """Place of a label in the label map, also where 2 is written 2.0; -1 for none."""
    if text in classes:
        return classes.index(text)
    try:
        value = number(text)
        whole = str(int(value)) if value == int(value) else ""
    except (ValueError, OverflowError):
        return -1
    return classes.index(whole) if whole in classes else -1


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
