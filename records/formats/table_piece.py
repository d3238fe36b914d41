"""Rows of a table's file, a piece at a time, whatever kind of file it is.

Letters: `n` rows of a piece, `k` columns of numbers.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from starling.records.errors import DataError
from starling.records.formats.csv_cells import comma_in_number, is_missing, number

Reals = NDArray[np.float64]


@dataclass(frozen=True)
class TableColumns:
    """Columns of a file, and as what each is read.

    Attributes:
      names: All of them, in the order of the file.
      numbers: Places of those that are read as numbers, rising.
      texts: Places of those that are read as texts, rising; all others are not read.
      delimiter: Of a CSV file's cells.
    """

    names: tuple[str, ...]
    numbers: tuple[int, ...]
    texts: tuple[int, ...]
    delimiter: str = ","


@dataclass(frozen=True)
class TablePiece:
    """Some rows of a file.

    Attributes:
      lines: (n,) int64 number of each row's line, from 1.
      numbers: (n, k) float64 in the order of the file; NaN where the cell is missing.
      texts: Name to the n cells, of each column of texts.
      faults: Of the rows that are none, in order; those are in nothing of the above.
    """

    lines: NDArray[np.int64]
    numbers: Reals
    texts: dict[str, list[str]]
    faults: tuple[DataError, ...] = ()


def without_faults(
    lines: NDArray[np.int64],
    numbers: Reals,
    texts: dict[str, list[str]],
    faults: Iterable[DataError],
) -> TablePiece:
    """A piece without the rows at fault; of several faults of a row, the first."""
    first: dict[int, DataError] = {}
    for fault in faults:
        first.setdefault(fault.row, fault)
    found = tuple([first[row] for row in sorted(first)])
    kept = ~np.isin(lines, list(first))
    if found and not kept.all():
        texts = {
            name: [cell for cell, is_kept in zip(cells, kept, strict=True) if is_kept]
            for name, cells in texts.items()
        }
        lines, numbers = lines[kept], numbers[kept]
    return TablePiece(lines, numbers, texts, found)


def numbers_of(
    cells: Sequence[str],
    lines: NDArray[np.int64],
    column: str,
    file: str,
    faults: list[DataError],
) -> list[float]:
    """Numbers of a column's n cells, NaN where one is missing; adds what is wrong."""
    found = []
    for cell, line in zip(cells, lines.tolist(), strict=True):
        value, wrong = _number_of(cell)
        found.append(value)
        if wrong:
            faults.append(
                DataError(wrong, file=file, row=line, column=column, cell=cell.strip())
            )
    return found


def _number_of(cell: str) -> tuple[float, str]:
    """A cell's number, NaN if it has none, and what is wrong with it."""
    try:
        value = number(cell)
    except ValueError:
        if is_missing(cell):
            return math.nan, ""
        # Last, since only who is at fault pays for finding out why.
        comma = comma_in_number(cell)
        if comma:
            return math.nan, comma
        return math.nan, "is no number: mend the cell, or leave its row out"
    if math.isinf(value):
        return value, "is an infinity: mend the cell, or leave its row out"
    return value, ""
