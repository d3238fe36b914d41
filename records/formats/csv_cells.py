"""CSV text: lines, cells, the line of names; what boards and fleets agree on.

Each line is a record by itself: quotes keep a delimiter in a cell, and cannot join
lines. So one line never decides over another, and a file is read in pieces.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass

from starling.records.errors import DataError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
COLUMNS_MAX = 4096
DELIMITERS = (",", ";", "\t", "|")
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
"""Cells, in small letters, that stand for no value."""
NOT_UTF_8 = (
    "a byte that is not UTF-8, as other lines may be; convert the file: "
    "iconv -f LATIN1 -t UTF-8"
)
_FOREIGN = (
    (b"PK\x03\x04", "a zip archive or spreadsheet: save it as CSV"),
    (b"PAR1", "Parquet: call the file .parquet"),
    (b"\x1f\x8b", "gzip: unpack it first"),
    (b"\xff\xfe", "UTF-16: save it as UTF-8"),
    (b"\xfe\xff", "UTF-16: save it as UTF-8"),
    (b"{", "JSON: write it as CSV"),
    (b"[{", "JSON: write it as CSV"),
    (b"[[", "JSON: write it as CSV"),
    (b"<!", "a page of a web server: fetch the file anew"),
    (b"<html", "a page of a web server: fetch the file anew"),
    (b"<?xml", "XML: save it as CSV"),
    (b"%PDF", "PDF: save the table as CSV"),
    (b"\xd0\xcf\x11\xe0", "an old spreadsheet: save it as CSV"),
    (b"SQLite format 3\0", "an SQLite database: export the table as CSV"),
    (b"version https://git-lfs", "the pointer of Git LFS: git lfs pull"),
)
_SEPARATOR_NOTE = "sep="
_COMMENT = "#"


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


def number(cell: str) -> float:
    """A cell's number, as every other reader of CSV would read it.

    Python alone takes 1_000 for a thousand, and digits of other scripts for digits;
    such cells are texts, as part numbers are.

    Raises:
      ValueError: If it is none.
    """
    if "_" in cell or not cell.isascii():
        raise ValueError(cell)
    return float(cell)


def is_numeric(row: Sequence[str]) -> bool:
    """Tells if all cells are numbers."""
    try:
        _ = [number(cell) for cell in row]
    except ValueError:
        return False
    return True


def is_head(row: Sequence[str]) -> bool:
    """Tells if a first row names columns, and is no record that lacks a value."""
    numbers = [(place, cell) for place, cell in enumerate(row) if is_numeric([cell])]
    # Tables without names for their columns are written with their numbers.
    counted_up = all(cell.strip() == str(place) for place, cell in numbers)
    return len(numbers) < len(row) - 1 or (len(numbers) == len(row) - 1 and counted_up)


def known_head(first: str, wanted: Sequence[str], width: int) -> CsvHead:
    """Head of a file whose columns are known; without names if it has not all of them.

    Only what stands in the first line decides, and it decides over no other line unless
    there are names that it must have.

    Args:
      first: The first line.
      wanted: Names that it must have; empty if it need not name anything.
      width: Cells of a line, then.
    """
    if not wanted:
        names = tuple(map(str, range(width)))
        cells = cells_of(first) or []
        return CsvHead(names, ",", is_head(cells), first)
    for delimiter in DELIMITERS:
        cells = [name.strip() for name in cells_of(first, delimiter) or ()]
        if set(wanted) <= set(cells):
            return CsvHead(tuple(cells), delimiter, True, first)
    return CsvHead((), ",", True, first)


def comma_in_number(cell: str) -> str:
    """Complaint about a number that has commas in it; empty if it is none."""
    if is_numeric([cell.replace(",", ".")]):
        return "has a decimal comma: write a point, and nothing between thousands"
    if "," in cell and is_numeric([cell.replace(",", "")]):
        return "has commas between thousands: write the number without"
    return ""


def is_missing(cell: str) -> bool:
    """Tells if a cell stands for no value."""
    return cell.strip().lower() in MISSING


def cells_of(line: str, delimiter: str = ",") -> list[str] | None:
    """The cells of one line; None if it is not a whole line of CSV."""
    # Nearly all lines, and several times as fast as the csv module.
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
    if first.lower().startswith(_SEPARATOR_NOTE) and len(first) <= 5:
        detail = "is no row but a note for spreadsheets: leave this line out"
        raise DataError(detail, file=file, row=1, cell=first)
    if len(cells) < 2 and first.startswith(_COMMENT):
        detail = "is a comment, which CSV does not have: leave out such lines"
        raise DataError(detail, file=file, row=1)
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
            raise DataError(_nameless(place, len(names)), file=file, row=1)
        if name in names[:place]:
            raise DataError(
                "stands twice among the names: rename one",
                file=file,
                row=1,
                column=name,
            )
    return CsvHead(names, delimiter, True, first)


def _nameless(place: int, count: int) -> str:
    """Complaint about a column, and the likely way out."""
    ways = {
        0: "write one, or leave the column out (pandas: to_csv(index=False))",
        count - 1: "write one, or leave out the delimiter at the end of each line",
    }
    return f"column {place + 1} has no name: {ways.get(place, 'write one')}"


def _first_lines(start: bytes, file: str) -> tuple[str, str]:
    start = start.removeprefix(BYTE_ORDER_MARK)
    # By what it begins with, since names of files lie.
    for magic, told in _FOREIGN:
        if start.startswith(magic):
            raise DataError(f"is no CSV file but {told}", file=file)
    if b"\0" in start:
        detail = "is no CSV file: it holds bytes of value 0, or too long a line"
        raise DataError(detail, file=file)
    if not start.strip():
        raise DataError("is empty: write records, or take the file away", file=file)
    if b"\r" in start and b"\n" not in start:
        detail = "its lines end in CR alone: save it with LF or CRLF"
        raise DataError(detail, file=file, row=1)
    lines = [line.removesuffix(b"\r") for line in start.split(b"\n", 2)[:2]]
    return decoded(lines[0], file, 1), decoded(lines[1] if lines[1:] else b"", file, 2)


def decoded(line: bytes, file: str, row: int) -> str:
    """A line as text.

    Raises:
      DataError: Naming the line, if it is not UTF-8.
    """
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise DataError(NOT_UTF_8, file=file, row=row) from error


def _delimiter(first: str, second: str) -> str:
    """The one that parts both lines into as many cells; else that of most cells."""

    def fitness(delimiter: str) -> tuple[bool, int]:
        count = len(cells_of(first, delimiter) or [])
        same = len(cells_of(second, delimiter) or []) == count or not second
        # Of two that fit, the one of more cells: a comma may stand in a text, or in a
        # number.
        return same and count > 1, count

    return max(DELIMITERS, key=fitness)


def _has_names(cells: list[str], file: str) -> bool:
    numbers = [place for place, cell in enumerate(cells) if is_numeric([cell])]
    if len(numbers) == len(cells):
        return False
    if all(cells[place].strip() == str(place) for place in numbers):
        return True
    among = "a number" if len(numbers) == 1 else f"one of {len(numbers):,} numbers"
    raise DataError(
        f"is {among} among texts: neither names of columns nor a record of numbers; "
        "write names on top, or say --no-header",
        file=file,
        row=1,
        cell=cells[numbers[0]],
    )
