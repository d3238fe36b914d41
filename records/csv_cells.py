"""CSV text: lines, cells, the line of names; what boards and fleets agree on.

Each line is a record by itself: quotes keep a delimiter in a cell, and cannot join
lines. So one line never decides over another, and a file is read in pieces.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass

from starling.records.errors import DataError, counted, shown

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
COLUMNS_MAX = 4096
DELIMITERS = (",", ";", "\t", "|")
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
"""Cells, in small letters, that stand for no value."""
_FOREIGN = (
    (b"PK\x03\x04", "a zip archive or spreadsheet: save it as CSV"),
    (b"PAR1", "Parquet: write it as CSV first, as pandas' to_csv does"),
    (b"\x1f\x8b", "gzip: unpack it first"),
    (b"\xff\xfe", "UTF-16: save it as UTF-8"),
    (b"\xfe\xff", "UTF-16: save it as UTF-8"),
    (b"{", "JSON: write it as CSV"),
)


@dataclass(frozen=True)
class CsvHead:
    """Names and delimiter, from the beginning of a file.

    Attributes:
      names: Of the columns; "0", "1" and so on if no line names them.
      delimiter: One letter.
      has_names: Whether the first line names the columns.
      line: The first line as it stands there, without its end.
    """

    names: tuple[str, ...]
    delimiter: str
    has_names: bool
    line: str


def is_numeric(row: Sequence[str]) -> bool:
    """Tells if all cells are numbers."""
    try:
        _ = [float(cell) for cell in row]
    except ValueError:
        return False
    return True


def is_head(row: Sequence[str], label: str) -> bool:
    """Tells if a first row names columns, and is no record that lacks a value.

    Args:
      row: Its cells.
      label: A name that it has then; empty for any.
    """
    numbers = [(place, cell) for place, cell in enumerate(row) if is_numeric([cell])]
    if label and label in row:
        return True
    # Tables without names for their columns are written with their numbers.
    counted_up = all(cell.strip() == str(place) for place, cell in numbers)
    return len(numbers) < len(row) - 1 or (len(numbers) == len(row) - 1 and counted_up)


def is_missing(cell: str) -> bool:
    """Tells if a cell stands for no value."""
    return cell.strip().lower() in MISSING


def cells_of(line: str, delimiter: str = ",") -> list[str] | None:
    """The cells of one line; None if it is not a whole line of CSV."""
    if '"' not in line:
        return line.split(delimiter)
    try:
        return next(csv.reader([line], strict=True, delimiter=delimiter))
    except (csv.Error, StopIteration):
        return None


def read_head(start: bytes, file: str, *, named: bool | None = None) -> CsvHead:
    """Finds delimiter and names in a file's beginning.

    Args:
      start: Its first bytes; a whole line at least, or all there is.
      file: Its name, for messages.
      named: Whether the first line names the columns; None to see by its cells.

    Raises:
      DataError: If this is no CSV file, or its columns are not named apart.
    """
    first, second = _first_lines(start, file)
    delimiter = _delimiter(first, second)
    cells = cells_of(first, delimiter)
    if cells is None:
        raise DataError("a quote is not closed in this line", file=file, row=1)
    if len(cells) > COLUMNS_MAX:
        raise DataError(f"more than {COLUMNS_MAX} columns", file=file, row=1)
    if len(cells) < 2:
        raise DataError(
            "one column only: inputs and a target need two, parted by a comma, "
            "semicolon, tab or |",
            file=file,
            row=1,
        )
    has_names = _has_names(cells, file) if named is None else named
    if not has_names:
        return CsvHead(tuple(map(str, range(len(cells)))), delimiter, False, first)
    names = tuple([cell.strip() for cell in cells])
    for place, name in enumerate(names):
        if not name:
            raise DataError(f"column {place + 1} has no name", file=file, row=1)
        if name in names[:place]:
            raise DataError(
                "stands twice among the names: rename one",
                file=file,
                row=1,
                column=name,
            )
    return CsvHead(names, delimiter, True, first)


def _first_lines(start: bytes, file: str) -> tuple[str, str]:
    start = start.removeprefix(BYTE_ORDER_MARK)
    for magic, told in _FOREIGN:
        if start.startswith(magic):
            raise DataError(f"is no CSV file but {told}", file=file)
    if b"\0" in start:
        raise DataError("is no CSV file: it holds bytes of value 0", file=file)
    if not start.strip():
        raise DataError("is empty: write records, or take the file away", file=file)
    if b"\r" in start and b"\n" not in start:
        detail = "its lines end in CR alone: save it with LF or CRLF"
        raise DataError(detail, file=file, row=1)
    lines = start.replace(b"\r\n", b"\n").split(b"\n")[:2]
    return decoded(lines[0], file, 1), decoded(lines[1] if lines[1:] else b"", file, 2)


def decoded(content: bytes, file: str, row: int) -> str:
    """Bytes of whole lines as text.

    Args:
      content: The lines.
      file: For messages.
      row: Number of the first of them.

    Raises:
      DataError: Naming the line, if they are not UTF-8.
    """
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        row += content[: error.start].count(b"\n")
        raise DataError(
            f"byte 0x{content[error.start]:02X} is not UTF-8, as other lines may be; "
            "convert the file: iconv -f LATIN1 -t UTF-8",
            file=file,
            row=row,
        ) from error


def _delimiter(first: str, second: str) -> str:
    """The one that parts both lines into as many cells; else that of most cells."""

    def fitness(delimiter: str) -> tuple[bool, int]:
        count = len(cells_of(first, delimiter) or [])
        same = len(cells_of(second, delimiter) or []) == count or not second
        return same and count > 1, count

    return max(DELIMITERS, key=fitness)


def _has_names(cells: list[str], file: str) -> bool:
    numbers = [place for place, cell in enumerate(cells) if is_numeric([cell])]
    if len(numbers) == len(cells):
        return False
    if all(cells[place].strip() == str(place) for place in numbers):
        return True
    raise DataError(
        f"{counted(len(numbers), 'number')} among texts: neither names of columns nor "
        "a record of numbers; write names on top, or say --no-header",
        file=file,
        row=1,
        column=cells[numbers[0]],
    )


def about_cell(cell: str) -> str:
    """Complaint about a cell that should be a number, with the way out."""
    text = cell.strip()
    if is_numeric([text.replace(",", ".")]):
        return f"{shown(cell)} has a decimal comma: write a point"
    return f"{shown(cell)} is no number: mend the cell, or leave its row out"
