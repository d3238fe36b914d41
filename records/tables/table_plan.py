"""Decides what is learned from a table: inputs, targets, their kinds, what is filled.

The policies are of `records.data_options`; what is neither declared nor asked for is
refused by file, row and column.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from starling.protocol.model.table_schema import (
    CATEGORIES_MAX,
    InputColumn,
    TableSchema,
    TargetColumn,
)
from starling.records.data_options import DataOptions
from starling.records.errors import DataError, counted, refuse_unprintable, shown
from starling.records.formats.csv_cells import comma_in_number
from starling.records.record_set import LABELS, NUMBERS, SHARES
from starling.records.tables.table import RecordTable, missing_rows

LABELS_MAX = 32
"""Different whole numbers that are still taken for labels, unless it is said."""
RECORDS_A_LABEL = 5
_EXACT_MAX = 1 << 24


@dataclass(frozen=True)
class TablePlan:
    """Inputs, targets and label map of a table.

    Attributes:
      schema: Its columns; targets are not scaled yet.
      loss: `cross-entropy` for a label, `bce` for shares, else `mse`.
      classes: The label map; empty for numbers.
      dropped: Columns of one value that were left out.
    """

    schema: TableSchema
    loss: str
    classes: tuple[str, ...]
    dropped: tuple[str, ...] = ()


def plan_table(
    table: RecordTable, asked: DataOptions, faults: list[DataError] | None = None
) -> TablePlan:
    """Decides.

    Args:
      table: All its rows.
      asked: What is to be learned.
      faults: Takes what stands in the way of single columns, so that all of it is
        found; None to stop at the first.

    Raises:
      DataError: Naming the first thing that stands in the way, and the way out.
    """
    read = [name for name in table.names if name not in asked.unread]
    targets = asked.targets or tuple(read[-1:])
    _check_names(table, targets, asked)
    if not targets:
        raise DataError("leaves no column to learn from", file=table.file_names[0])
    # Before the inputs, and never gathered: without a target nothing else has a
    # meaning.
    loss, classes = _target_kind(table, targets, asked)
    inputs, dropped = [], []
    for name in table.names:
        if name in targets or asked.ignores(name):
            continue
        try:
            if _is_dropped(table, name, asked):
                dropped.append(name)
            else:
                inputs.append(_input(table, name, asked))
        except DataError as fault:
            if faults is None:
                raise
            faults.append(fault)
    texts = [*targets, *classes, *[name for item in inputs for name in _names(item)]]
    refuse_unprintable(texts, table.file_names[0])
    if not inputs and not faults:
        raise DataError("leaves no column to learn from", file=table.file_names[0])
    schema = TableSchema(
        tuple(inputs),
        tuple([TargetColumn(name) for name in targets]),
        asked.window,
        asked.step,
    )
    return TablePlan(schema, loss, classes, tuple(dropped))


def _check_names(
    table: RecordTable, targets: tuple[str, ...], asked: DataOptions
) -> None:
    """Refuses names that no column has, and a target that is named twice."""
    named = {
        "--target": targets,
        "--board-column": (asked.board_column,),
        "--group": (asked.group,),
        "--ignore": asked.ignore,
        "--bounds or --columns": tuple(asked.columns),
    }
    for flag, names in named.items():
        for name in filter(None, names):
            check_named(name, table.names, table.file_names[0], flag)
    for name in targets:
        if targets.count(name) > 1:
            file = table.file_names[0]
            raise DataError("--target names it twice", file=file, column=name)


def _names(column: InputColumn) -> tuple[str, ...]:
    return (column.name, *column.categories)


def check_named(name: str, names: Iterable[str], file: str, flag: str) -> None:
    """Refuses a name that no column has.

    Raises:
      DataError: With the columns there are, the likeliest first.
    """
    there = list(names)
    if name in there:
        return
    close = difflib.get_close_matches(name, there, 1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(there)}"
    raise DataError(
        f"{flag} names no column of it; {hint[:200]}", file=file, column=name
    )


def _is_dropped(table: RecordTable, name: str, asked: DataOptions) -> bool:
    """Tells if a column holds one value, and is to be left out then.

    Raises:
      DataError: If it holds one value, and is not.
    """
    if not _is_constant(table, name):
        return False
    if len(missing_rows(table, name)) == len(table) and asked.constant == "refuse":
        detail = "has no value in any row: --constant drop, or --ignore it"
        raise table.fault(0, name, detail)
    if asked.constant == "refuse":
        raise table.fault(
            0,
            name,
            "holds one value in every row, from which nothing is learned: "
            "--constant drop, or --ignore it",
        )
    return True


def _is_constant(table: RecordTable, name: str) -> bool:
    if name in table.texts:
        return len(table.texts[name].texts) == 1
    column = table.numbers[name]
    known = column[~np.isnan(column)]
    return not len(known) or bool((known == known[0]).all())


def _input(table: RecordTable, name: str, asked: DataOptions) -> InputColumn:
    categories = _categories(table, name, asked) if name in table.texts else ()
    fill = asked.rule(name).fill
    lacking = missing_rows(table, name)
    if len(lacking) and fill is None:
        if asked.missing == "refuse":
            raise table.fault(
                int(lacking[0]),
                name,
                f"no value, as in {counted(len(lacking), 'row')}: --missing fill, "
                "declare its fill, or leave the rows out",
            )
        fill = _usual(table, name, asked)
    if fill is not None and isinstance(fill, str) != bool(categories):
        raise table.fault(0, name, f"cannot be filled with {fill!r}: another kind")
    if isinstance(fill, str) and fill not in categories:
        raise table.fault(0, name, f"its fill {shown(fill)} is none of its categories")
    return InputColumn(name, categories, fill)


def _usual(table: RecordTable, name: str, asked: DataOptions) -> float | str:
    """Most usual value over all boards; the middle where bounds are declared."""
    bounds = asked.rule(name).bounds
    if bounds is not None:
        return (bounds[0] + bounds[1]) / 2
    # A median over all boards is a statistic that none of them paid for.
    if asked.scale == "declared":
        raise table.fault(
            int(missing_rows(table, name)[0]),
            name,
            "no value, and no fill or bounds declared for it: declare one",
        )
    if name in table.texts:
        column = table.texts[name]
        return column.texts[int(np.bincount(column.codes[column.codes >= 0]).argmax())]
    return float(np.nanmedian(table.numbers[name]))


def _categories(table: RecordTable, name: str, asked: DataOptions) -> tuple[str, ...]:
    column, declared = table.texts[name], asked.rule(name).categories
    if declared:
        _refuse_strange(table, name, declared)
        return declared
    first = column.texts[0]
    if asked.categories == "refuse":
        row = int(np.flatnonzero(column.codes == 0)[0])
        raise table.fault(
            row,
            name,
            f"{_oddity(first)}: --categories one-hot, declare its categories, or "
            "--ignore it",
        )
    if len(column.texts) > CATEGORIES_MAX:
        raise table.fault(
            0, name, f"over {CATEGORIES_MAX:,} categories: --ignore it, or group them"
        )
    return tuple(sorted(column.texts))


def _oddity(text: str) -> str:
    comma = comma_in_number(text)
    told = f"{comma}; or, if it is a text" if comma else "is no number"
    return f"{shown(text)} {told}"


def _refuse_strange(table: RecordTable, name: str, known: tuple[str, ...]) -> None:
    column = table.texts[name]
    for place, text in enumerate(column.texts):
        if text not in known:
            row = int(np.flatnonzero(column.codes == place)[0])
            raise table.fault(row, name, none_of(known), text)


def none_of(known: tuple[str, ...]) -> str:
    """Complaint about a text that was not declared."""
    return f"is none of {', '.join(known)[:120]}: mend the cell, or declare it"


def _target_kind(
    table: RecordTable, targets: tuple[str, ...], asked: DataOptions
) -> tuple[str, tuple[str, ...]]:
    for name in targets:
        lacking = missing_rows(table, name)
        if len(lacking):
            raise table.fault(
                int(lacking[0]),
                name,
                "the target has no value (empty, NA, none, ? and the like stand for "
                "none): leave the row out, or give it one",
            )
    if len(targets) > 1 or asked.kind in ("numbers", "shares"):
        if asked.kind == "classes":
            raise DataError(
                "one label is learned at a time: name one --target, or say --loss",
                file=table.file_names[0],
            )
        for name in targets:
            if name in table.texts:
                raise table.fault(
                    0, name, "holds texts, where numbers are to be learned"
                )
            if asked.kind == "shares":
                _refuse_beyond(table, name)
        return SHARES if asked.kind == "shares" else NUMBERS, ()
    name = targets[0]
    if name in table.texts:
        return LABELS, _text_labels(table, name, asked)
    return _number_labels(table, name, asked)


def _refuse_beyond(table: RecordTable, name: str) -> None:
    column = table.numbers[name]
    beyond = np.flatnonzero((column < 0) | (column > 1))
    if len(beyond):
        raise table.fault(
            int(beyond[0]),
            name,
            "is not from 0 to 1, which --loss bce learns; else --loss mse",
        )


def _text_labels(table: RecordTable, name: str, asked: DataOptions) -> tuple[str, ...]:
    declared = asked.rule(name).categories
    if declared:
        _refuse_strange(table, name, declared)
    labels = declared or tuple(sorted(table.texts[name].texts))
    if len(labels) < 2:
        raise table.fault(0, name, f"holds {labels[0]!r} alone: a label needs two")
    if len(labels) > CATEGORIES_MAX:
        raise table.fault(
            0, name, f"{len(labels):,} different texts; a label takes {CATEGORIES_MAX}"
        )
    return labels


def _number_labels(
    table: RecordTable, name: str, asked: DataOptions
) -> tuple[str, tuple[str, ...]]:
    column = table.numbers[name]
    values = np.unique(column)
    # Beyond, float32 does not tell whole numbers apart.
    exact = np.abs(values) <= _EXACT_MAX
    whole = bool((exact & (values == np.rint(values))).all())
    few = whole and 2 <= len(values) <= LABELS_MAX
    if asked.kind == "classes":
        if not whole:
            odd = (column != np.rint(column)) | (np.abs(column) > _EXACT_MAX)
            row = int(np.flatnonzero(odd)[0])
            raise table.fault(
                row, name, "a label is a text or a whole number of up to 2**24"
            )
        few = 2 <= len(values) <= CATEGORIES_MAX
        if not few:
            raise table.fault(0, name, f"{len(values):,} different labels")
    elif len(values) < 2:
        raise table.fault(0, name, "holds one value alone: nothing to learn")
    # Few rows of many whole numbers are counts or years rather than labels.
    elif len(column) < RECORDS_A_LABEL * len(values):
        few = False
    if not few:
        return NUMBERS, ()
    return LABELS, tuple([str(int(value)) for value in values])
