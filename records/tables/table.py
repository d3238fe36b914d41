"""A whole table in memory, put together from pieces of files.

Letters: `n` rows.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from starling.records.errors import DataError
from starling.records.formats.csv_cells import is_missing
from starling.records.formats.table_piece import TableColumns, TablePiece

TEXTS_MAX = 1 << 16
"""Different texts of one column."""


@dataclass(frozen=True)
class TextColumn:
    """A column of texts.

    Attributes:
      codes: (n,) int32 places in `texts`; -1 where the cell is missing.
      texts: Those that occur, in order of appearance.
    """

    codes: NDArray[np.int32]
    texts: tuple[str, ...]

    def cell(self, row: int) -> str:
        """Text of a row that is not missing."""
        return self.texts[int(self.codes[row])]


@dataclass(frozen=True)
class RecordTable:
    """Rows of one or several files.

    Attributes:
      names: Of the columns, in the first file's order.
      numbers: Name to (n,) float32, NaN where missing, of each column of numbers.
      texts: Name to each column of texts.
      lines: (n,) line of each row in its file.
      files: (n,) place in `file_names` of each row's file.
      file_names: As messages name them.
    """

    names: tuple[str, ...]
    numbers: dict[str, NDArray[np.float32]]
    texts: dict[str, TextColumn]
    lines: NDArray[np.int64]
    files: NDArray[np.int32]
    file_names: tuple[str, ...]

    def __len__(self) -> int:
        """Number of rows: n."""
        return len(self.lines)

    def fault(self, row: int, column: str, detail: str, cell: str = "") -> DataError:
        """An error about a cell.

        Args:
          row: From 0, over all files.
          column: Its name.
          detail: What is wrong, and what to do.
          cell: What stands there, to be quoted; empty for nothing.
        """
        file, line = self.file_names[self.files[row]], int(self.lines[row])
        return DataError(detail, file=file, row=line, column=column, cell=cell)


@dataclass
class TableBuilder:
    """Gathers pieces of one file after the other."""

    columns: TableColumns | None = None
    _numbers: list[NDArray[np.float32]] = field(default_factory=list)
    _codes: dict[str, list[NDArray[np.int32]]] = field(default_factory=dict)
    _spellings: dict[str, dict[str, int]] = field(default_factory=dict)
    _vocabularies: dict[str, dict[str, int]] = field(default_factory=dict)
    _lines: list[NDArray[np.int64]] = field(default_factory=list)
    _files: list[NDArray[np.int32]] = field(default_factory=list)
    _names: list[str] = field(default_factory=list)

    def add(
        self, columns: TableColumns, pieces: Iterable[TablePiece], file: str
    ) -> None:
        """Takes all of a file.

        Raises:
          DataError: If its columns are not those of the files before, it holds no
            record, a row is none, or a column holds too many different texts.
        """
        held = _sound(pieces)
        first = next(held, None)
        if first is None:
            raise DataError(
                "holds no record: write some, or take the file away", file=file
            )
        self.columns = self.columns or columns
        self._same(columns, self.columns, file)
        # Before a later piece may be refused: what was taken by then has its file.
        place = len(self._names)
        self._names.append(file)
        for piece in chain([first], held):
            # Models take float32; half the memory.
            with np.errstate(over="ignore"):
                self._numbers.append(piece.numbers.astype(np.float32))
            self._lines.append(piece.lines)
            self._files.append(np.full(len(piece.lines), place, np.int32))
            for name, cells in piece.texts.items():
                self._take_texts(name, cells, file)

    def _same(self, columns: TableColumns, first: TableColumns, file: str) -> None:
        mine, theirs = columns.names, first.names
        if mine != theirs:
            odd = sorted(set(mine) ^ set(theirs)) or ["their order"]
            raise DataError(
                f"other columns than in {self._names[0]}: {', '.join(odd)[:80]}",
                file=file,
                row=1,
            )
        if columns.texts != first.texts:
            place = min(set(columns.texts) ^ set(first.texts))
            raise DataError(
                f"texts in one file and numbers in {self._names[0]}: mend one, declare "
                "its categories, or --ignore it",
                file=file,
                column=mine[place],
            )

    def _take_texts(self, name: str, cells: list[str], file: str) -> None:
        spellings = self._spellings.setdefault(name, {})
        vocabulary = self._vocabularies.setdefault(name, {})
        # Each spelling once: texts repeat, and to strip and compare them takes the
        # time.
        for cell in dict.fromkeys(cells):
            if cell not in spellings:
                text = cell.strip()
                spellings[cell] = (
                    -1
                    if is_missing(text)
                    else vocabulary.setdefault(text, len(vocabulary))
                )
        # Names and free text: a one-hot code of them would fill the memory.
        if len(vocabulary) > TEXTS_MAX:
            raise DataError(
                f"over {TEXTS_MAX:,} different texts: --ignore it, or give numbers",
                file=file,
                column=name,
            )
        codes = np.fromiter(map(spellings.__getitem__, cells), np.int32, len(cells))
        self._codes.setdefault(name, []).append(codes)

    def build(self) -> RecordTable:
        """The table; the builder is spent."""
        assert self.columns is not None
        whole = np.concatenate(self._numbers)
        self._numbers.clear()
        names, places = self.columns.names, self.columns.numbers
        numbers = {names[at]: whole[:, column] for column, at in enumerate(places)}
        texts = {
            name: TextColumn(np.concatenate(parts), tuple(self._vocabularies[name]))
            for name, parts in self._codes.items()
        }
        return RecordTable(
            names,
            numbers,
            texts,
            np.concatenate(self._lines),
            np.concatenate(self._files),
            tuple(self._names),
        )


def _sound(pieces: Iterable[TablePiece]) -> Iterator[TablePiece]:
    """Those that hold rows; the first fault is raised."""
    for piece in pieces:
        if piece.faults:
            raise piece.faults[0]
        if len(piece.lines):
            yield piece


def missing_rows(table: RecordTable, column: str) -> NDArray[np.int64]:
    """Rows, from 0, where a column lacks its value."""
    if column in table.texts:
        return np.flatnonzero(table.texts[column].codes < 0)
    return np.flatnonzero(np.isnan(table.numbers[column]))
