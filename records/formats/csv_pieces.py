"""The records of a CSV file, a piece at a time, as columns.

The numbers of a piece are read as JSON by msgspec, which is several times as fast as
the csv module and rounds correctly; a piece where that does not do (other spellings of
numbers, quotes) is read cell by cell. Either way a row is what its line says, and one
that is out of place is a fault of the piece and changes no other.

Letters: `n` rows of a piece, `w` columns.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from starling.records.errors import DataError, counted
from starling.records.formats.csv_cells import (
    BYTE_ORDER_MARK,
    NOT_UTF_8,
    CsvHead,
    cells_of,
    is_missing,
    is_numeric,
    read_head,
)
from starling.records.formats.table_piece import (
    Reals,
    TableColumns,
    TablePiece,
    numbers_of,
    without_faults,
)

LINE_BYTES_MAX = 16 << 20
"""One line may be so long; a file that never ends a line is no CSV."""
_LOOKED_AT_BYTES = 1 << 18
_NUMBERS = msgspec.json.Decoder(list[float])
_NUMBERS_OR_NULL = msgspec.json.Decoder(list[float | None])
_NEWLINE, _SPACE, _COMMA, _BRACKET = b"\n ,]"
_NULL = b"null"
Bytes = NDArray[np.uint8]
Places = NDArray[np.int64]
_OVERLONG = "\0"
"""Stands for a line that is too long."""


@dataclass(frozen=True)
class CsvLayout:
    """Layout of a file: its first line, and as what its columns are read.

    Attributes:
      head: Its beginning.
      columns: As what its columns are read.
    """

    head: CsvHead
    columns: TableColumns


def whole_lines(
    blocks: Iterable[bytes], line_bytes_max: int = LINE_BYTES_MAX
) -> Iterator[bytes]:
    """Cuts blocks of a file anew, each behind the end of a line; no mark of order.

    A line of more than `line_bytes_max` bytes, its end among them, is one of a single
    byte of value 0 instead, wherever the blocks are cut.
    """
    rest, is_first, is_over = b"", True, False
    # Of a block no longer than a line may be, only the first line may be too long: it
    # alone began before.
    for block in _cut(blocks, line_bytes_max):
        held = rest + block
        if is_first:
            if len(held) < len(BYTE_ORDER_MARK) and BYTE_ORDER_MARK.startswith(held):
                rest = held
                continue
            held, is_first = held.removeprefix(BYTE_ORDER_MARK), False
        first = held.find(b"\n") + 1
        # What begins in an overlong line ends with it: the next line is read as ever.
        if first and (is_over or first > line_bytes_max):
            held, is_over = _OVERLONG.encode() + held[first - 1 :], False
        end = held.rfind(b"\n") + 1
        if end:
            yield held[:end]
        rest = held[end:]
        if is_over or len(rest) > line_bytes_max:
            rest, is_over = b"", True
    if rest or is_over:
        yield _OVERLONG.encode() if is_over else rest


def _cut(blocks: Iterable[bytes], size_max: int) -> Iterator[bytes]:
    for block in blocks:
        for at in range(0, len(block), size_max):
            yield block[at : at + size_max]


def open_csv(
    piece: bytes,
    file: str,
    *,
    as_text: frozenset[str] = frozenset(),
    unread: frozenset[str] = frozenset(),
    named: bool | None = None,
) -> CsvLayout:
    """Finds the columns of a file by its first piece.

    A column whose cells are mostly no numbers is one of texts.

    Args:
      piece: The first of `whole_lines`.
      file: For messages.
      as_text: Columns that are texts whatever they hold.
      unread: Columns of which nothing is wanted.
      named: See `csv_cells.read_head`.

    Raises:
      DataError: See `csv_cells.read_head`.
    """
    head = read_head(piece, file, named=named)
    start = piece
    # The first rows say what a column is; a whole piece would be parsed twice.
    if len(piece) > _LOOKED_AT_BYTES:
        start = piece[: piece.rfind(b"\n", 0, _LOOKED_AT_BYTES) + 1]
    lines = start.decode(errors="replace").split("\n")
    rows = [cells_of(line.rstrip("\r"), head.delimiter) for line in lines if line]
    sound = [
        row for row in rows[head.has_names :] if row and len(row) == len(head.names)
    ]
    texts, numbers = list[int](), list[int]()
    for place, name in enumerate(head.names):
        if name in unread:
            continue
        cells = [row[place] for row in sound if not is_missing(row[place])]
        strange = sum(not is_numeric([cell]) for cell in cells)
        # By the majority, so that one wrong cell is a fault of its row and not another
        # kind of column.
        is_text = name in as_text or 2 * strange > len(cells)
        (texts if is_text else numbers).append(place)
    columns = TableColumns(head.names, tuple(numbers), tuple(texts), head.delimiter)
    return CsvLayout(head, columns)


def csv_pieces(
    pieces: Iterable[bytes], layout: CsvLayout, file: str
) -> Iterator[TablePiece]:
    """The rows of a file; each piece with the faults of those that are none.

    Args:
      pieces: All of `whole_lines`.
      layout: By the first of them.
      file: For messages.
    """
    row = 1
    for content in pieces:
        body, first = content, row
        row += content.count(b"\n")
        if first == 1 and layout.head.has_names:
            body, first = content[content.find(b"\n") + 1 :], 2
            if b"\n" not in content:
                continue
        if b"\r" in body:
            body = body.replace(b"\r\n", b"\n")
        found = _regular(body, layout)
        if found is not None:
            numbers, texts = found
            lines = np.arange(first, first + len(numbers), dtype=np.int64)
            yield TablePiece(lines, numbers, texts)
            continue
        yield _by_cells(body, layout, file, first)


def _regular(
    body: bytes, layout: CsvLayout
) -> tuple[Reals, dict[str, list[str]]] | None:
    """(n, k) and the texts of a piece where nothing is out of the ordinary.

    Its rows are whole, without quotes and not the names again, and each cell of a
    column of numbers is empty or a number as JSON spells it; None if it is otherwise.
    """
    head, columns = layout.head, layout.columns
    if not body or b'"' in body or (head.has_names and head.line.encode() in body):
        return None
    # What is not read must be UTF-8, too.
    if not body.isascii() and not _is_utf_8(body):
        return None
    text = np.frombuffer(body if body[-1] == _NEWLINE else body + b"\n", np.uint8)
    cells = _grid(text, ord(head.delimiter), len(head.names))
    if cells is None:
        return None
    found = _json_numbers(text, cells, columns)
    if found is None:
        return None
    starts, ends = cells
    texts = {
        head.names[at]: _texts_between(text, starts[:, at], ends[:, at])
        for at in columns.texts
    }
    return found, texts


def _is_utf_8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _grid(text: Bytes, delimiter: int, width: int) -> tuple[Places, Places] | None:
    """(n, w) where each cell begins, and where it ends; None unless rows are whole."""
    is_end = text == _NEWLINE
    marks = np.flatnonzero((text == delimiter) | is_end)
    # In sum; that each row ends where it should is looked at next.
    if len(marks) != width * np.count_nonzero(is_end):
        return None
    ends = marks.reshape(-1, width)
    if not is_end[ends[:, -1]].all():
        return None
    return np.append(0, marks[:-1] + 1).reshape(-1, width), ends


def _json_numbers(
    text: Bytes, cells: tuple[Places, Places], columns: TableColumns
) -> Reals | None:
    """(n, k) of the columns of numbers, NaN where a cell is empty; None if one is none.

    All other cells are made blanks, each with one delimiter, and the rest is decoded.
    """
    starts, ends = cells
    count = len(columns.numbers)
    if not count:
        return np.empty((len(ends), 0), np.float64)
    left, last = text.copy(), columns.numbers[-1]
    for place in set(range(last)) - set(columns.numbers):
        left[_between(starts[:, place], ends[:, place] + 1)] = _SPACE
    left[_between(ends[:, last], ends[:, -1])] = _SPACE
    delimiter = ord(columns.delimiter)
    if delimiter != _COMMA:
        # It would look like the delimiter, once that is replaced.
        if (left == _COMMA).any():
            return None
        left[left == delimiter] = _COMMA
    left[ends[:, -1]] = _COMMA
    left[-1] = _BRACKET
    is_empty = starts == ends
    if is_empty.any():
        places = list(columns.numbers)
        empty = ends[:, places][is_empty[:, places]]
        left = np.insert(left, np.repeat(empty, len(_NULL)), [*_NULL] * len(empty))
    try:
        values = _NUMBERS_OR_NULL.decode(b"[" + left.tobytes())
    except msgspec.DecodeError:
        return None
    return np.array(values, np.float64).reshape(-1, count)


def _texts_between(text: Bytes, starts: Places, ends: Places) -> list[str]:
    """The cells of one column."""
    found = text[_between(starts, ends + 1)]
    found[np.cumsum(ends + 1 - starts) - 1] = _NEWLINE
    return found[:-1].tobytes().decode().split("\n")


def _between(starts: Places, ends: Places) -> Places:
    """All places from each start to before its end, in order."""
    sizes = ends - starts
    behind: Places = np.cumsum(sizes)
    found: Places = np.arange(behind[-1]) + np.repeat(starts - behind + sizes, sizes)
    return found


def _by_cells(body: bytes, layout: CsvLayout, file: str, first: int) -> TablePiece:
    head, faults = layout.head, list[DataError]()
    try:
        lines = body.decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError:
        raw = body.removesuffix(b"\n").split(b"\n")
        lines = [
            _text_of(line, file, first + at, faults) for at, line in enumerate(raw)
        ]
    numbers = np.arange(first, first + len(lines), dtype=np.int64)
    if "" in lines:
        kept = [place for place, line in enumerate(lines) if line]
        numbers, lines = numbers[kept], [lines[place] for place in kept]
    # With the right number of delimiters everywhere, joined lines part again rightly.
    joined, width = head.delimiter.join(lines), len(head.names)
    plain = '"' not in joined and all(
        line.count(head.delimiter) == width - 1 for line in lines
    )
    # One split for the whole piece, where no line needs a look of its own.
    if plain and not (head.has_names and head.line in lines):
        cells = joined.split(head.delimiter) if lines else []
    else:
        cells, numbers = _checked_cells(lines, numbers, head, file, faults)
    texts = {head.names[at]: cells[at::width] for at in layout.columns.texts}
    found = _number_columns(cells, numbers, layout, file, faults)
    return without_faults(numbers, found, texts, faults)


def _text_of(line: bytes, file: str, row: int, faults: list[DataError]) -> str:
    """A line; nothing, and a fault, if it is not UTF-8."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        faults.append(DataError(NOT_UTF_8, file=file, row=row))
        return ""


def _checked_cells(
    lines: list[str],
    numbers: NDArray[np.int64],
    head: CsvHead,
    file: str,
    faults: list[DataError],
) -> tuple[list[str], NDArray[np.int64]]:
    """The cells of those lines that are whole rows, and which lines they are."""
    cells, kept = list[str](), list[int]()
    for number, line in zip(numbers.tolist(), lines, strict=True):
        row = cells_of(line, head.delimiter)
        if row is not None and len(row) == len(head.names) and not _again(line, head):
            cells += row
            kept.append(number)
            continue
        if line == _OVERLONG:
            detail = "is too long a line, or a single byte of value 0: is this CSV?"
        elif row is None:
            detail = "a quote is not closed in this line; a cell cannot go over lines"
        elif _again(line, head):
            detail = "the names of the columns stand here again: leave this line out"
        else:
            there = counted(len(row), "cell")
            detail = f"{there} where {len(head.names)} columns are; mend the row"
        faults.append(DataError(detail, file=file, row=number))
    return cells, np.array(kept, np.int64)


def _again(line: str, head: CsvHead) -> bool:
    return head.has_names and line == head.line


def _number_columns(
    cells: list[str],
    lines: NDArray[np.int64],
    layout: CsvLayout,
    file: str,
    faults: list[DataError],
) -> Reals:
    """(n, k) float64 of the columns of numbers."""
    names, places = layout.head.names, layout.columns.numbers
    found = np.empty((len(lines), len(places)), np.float64)
    for number, place in enumerate(places):
        column = cells[place :: len(names)]
        try:
            found[:, number] = _NUMBERS.decode(f"[{','.join(column)}]")
        except (msgspec.DecodeError, ValueError):
            found[:, number] = numbers_of(column, lines, names[place], file, faults)
    return found
