"""The records of a CSV file, a piece at a time, as columns.

Pieces of plain numbers are read as JSON by msgspec, which is several times as fast as
the csv module and rounds correctly; what is no JSON (other spellings of numbers, texts,
quotes, missing cells) is read cell by cell.

Letters: `n` rows of a piece, `w` columns.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import msgspec
import numpy as np
from numpy.typing import NDArray

from starling.records.csv_cells import (
    BYTE_ORDER_MARK,
    CsvHead,
    about_cell,
    cells_of,
    decoded,
    is_missing,
    is_numeric,
    read_head,
)
from starling.records.errors import DataError, counted

PIECE_BYTES_MAX = 16 << 20
"""One line may be so long; a file that never ends a line is no CSV."""
_LOOKED_AT_BYTES = 1 << 18
_NUMBERS = msgspec.json.Decoder(list[float])
_NEWLINE, _COMMA = 10, 44
Reals = NDArray[np.float64]


@dataclass(frozen=True)
class CsvPiece:
    """Some rows of a file.

    Attributes:
      lines: (n,) int64 number of each row's line, from 1.
      numbers: (n, k) float64, columns of numbers in the order of the file; NaN where
        the cell is missing.
      texts: Name to the n cells, of each column of texts.
    """

    lines: NDArray[np.int64]
    numbers: Reals
    texts: dict[str, list[str]]


@dataclass(frozen=True)
class CsvColumns:
    """Columns of texts; all others are numbers.

    Attributes:
      head: The file's beginning.
      texts: Places of columns of texts, rising.
    """

    head: CsvHead
    texts: tuple[int, ...]

    @property
    def numbers(self) -> tuple[str, ...]:
        """Names of the columns of numbers."""
        places = set(self.texts)
        return tuple(
            [name for at, name in enumerate(self.head.names) if at not in places]
        )


def whole_lines(blocks: Iterable[bytes], file: str) -> Iterator[bytes]:
    """Cuts blocks of a file anew, each behind the end of a line; no mark of order.

    Raises:
      DataError: If a line has more than `PIECE_BYTES_MAX` bytes.
    """
    rest, row, is_first = b"", 1, True
    for block in blocks:
        held = rest + block
        if is_first:
            held, is_first = held.removeprefix(BYTE_ORDER_MARK), False
        end = held.rfind(b"\n") + 1
        if not end and len(held) > PIECE_BYTES_MAX:
            raise DataError("a line of over 16 MiB: is this CSV?", file=file, row=row)
        if end:
            yield held[:end]
            row += held.count(b"\n")
        rest = held[end:]
    if rest:
        yield rest


def open_columns(
    piece: bytes,
    file: str,
    *,
    as_text: frozenset[str] = frozenset(),
    named: bool | None = None,
) -> CsvColumns:
    """Finds the columns of a file by its first piece.

    A column whose cells are mostly no numbers is one of texts.

    Args:
      piece: The first of `whole_lines`.
      file: For messages.
      as_text: Columns that are texts whatever they hold.
      named: See `csv_cells.read_head`.

    Raises:
      DataError: See `csv_cells.read_head`.
    """
    head = read_head(piece, file, named=named)
    start = piece
    if len(piece) > _LOOKED_AT_BYTES:
        start = piece[: piece.rfind(b"\n", 0, _LOOKED_AT_BYTES) + 1]
    lines = decoded(start, file, 1).split("\n")
    rows = [cells_of(line.rstrip("\r"), head.delimiter) for line in lines if line]
    sound = [
        row for row in rows[head.has_names :] if row and len(row) == len(head.names)
    ]
    texts = []
    for place, name in enumerate(head.names):
        cells = [row[place] for row in sound if not is_missing(row[place])]
        strange = sum(not is_numeric([cell]) for cell in cells)
        if name in as_text or 2 * strange > len(cells):
            texts.append(place)
    return CsvColumns(head, tuple(texts))


def csv_pieces(
    pieces: Iterable[bytes], columns: CsvColumns, file: str
) -> Iterator[CsvPiece]:
    """The rows of a file.

    Args:
      pieces: All of `whole_lines`.
      columns: By the first of them.
      file: For messages.

    Raises:
      DataError: Naming the row and column of the first cell that is out of place.
    """
    row = 1
    for content in pieces:
        body, first = content, row
        row += content.count(b"\n")
        if first == 1 and columns.head.has_names:
            body, first = content[content.find(b"\n") + 1 :], 2
            if b"\n" not in content:
                continue
        if b"\r" in body:
            body = body.replace(b"\r\n", b"\n")
        found = None if columns.texts else _plain(body, columns)
        if found is not None:
            lines = np.arange(first, first + len(found), dtype=np.int64)
            yield CsvPiece(lines, found, {})
            continue
        yield _by_cells(decoded(body, file, first), columns, file, first)


def _plain(body: bytes, columns: CsvColumns) -> Reals | None:
    """(n, w) of a piece that holds nothing but numbers; None if it does not."""
    width, delimiter = len(columns.head.names), columns.head.delimiter
    body = body.removesuffix(b"\n")
    if not body or b'"' in body:
        return None
    if delimiter != ",":
        if b"," in body:
            return None
        body = body.replace(delimiter.encode(), b",")
    text = np.frombuffer(body, np.uint8)
    marks = text[(text == _COMMA) | (text == _NEWLINE)]
    if (len(marks) + 1) % width:
        return None
    ends = np.append(marks, _NEWLINE).reshape(-1, width) == _NEWLINE
    if not ends[:, -1].all() or ends[:, :-1].any():
        return None
    try:
        values = _NUMBERS.decode(b"[" + body.replace(b"\n", b",") + b"]")
    except msgspec.DecodeError:
        return None
    return np.array(values, np.float64).reshape(-1, width)


def _by_cells(text: str, columns: CsvColumns, file: str, first: int) -> CsvPiece:
    head, width = columns.head, len(columns.head.names)
    lines = text.removesuffix("\n").split("\n")
    if head.has_names and head.line in lines:
        row = first + lines.index(head.line)
        raise DataError(
            "the names of the columns stand here again: leave this line out",
            file=file,
            row=row,
        )
    numbers = np.arange(first, first + len(lines), dtype=np.int64)
    if "" in lines:
        kept = [place for place, line in enumerate(lines) if line]
        numbers, lines = numbers[kept], [lines[place] for place in kept]
    # With the right number of delimiters everywhere, joined lines part again rightly.
    plain = '"' not in text and all(
        line.count(head.delimiter) == width - 1 for line in lines
    )
    if plain:
        cells = head.delimiter.join(lines).split(head.delimiter) if lines else []
    else:
        cells = _checked_cells(lines, numbers, columns, file)
    texts = {head.names[at]: cells[at::width] for at in columns.texts}
    return CsvPiece(numbers, _number_columns(cells, numbers, columns, file), texts)


def _checked_cells(
    lines: list[str], numbers: NDArray[np.int64], columns: CsvColumns, file: str
) -> list[str]:
    width, cells = len(columns.head.names), list[str]()
    for number, line in zip(numbers, lines, strict=True):
        row = cells_of(line, columns.head.delimiter)
        if row is None:
            raise DataError(
                "a quote is not closed in this line; a cell cannot go over lines",
                file=file,
                row=int(number),
            )
        if len(row) != width:
            raise DataError(
                f"{counted(len(row), 'cell')} where {width} columns are; mend the row",
                file=file,
                row=int(number),
            )
        cells += row
    return cells


def _number_columns(
    cells: list[str], lines: NDArray[np.int64], columns: CsvColumns, file: str
) -> Reals:
    """(n, k) float64 of the columns of numbers."""
    width = len(columns.head.names)
    places = [at for at in range(width) if at not in set(columns.texts)]
    found = np.empty((len(lines), len(places)), np.float64)
    for number, place in enumerate(places):
        column = cells[place::width]
        try:
            found[:, number] = _NUMBERS.decode(f"[{','.join(column)}]")
        except (msgspec.DecodeError, ValueError):
            name = columns.head.names[place]
            say = partial(DataError, file=file, column=name)
            found[:, number] = [
                _number(cell, int(line), say)
                for cell, line in zip(column, lines, strict=True)
            ]
    return found


def _number(cell: str, line: int, say: partial[DataError]) -> float:
    try:
        value = float(cell)
    except ValueError:
        if is_missing(cell):
            return float("nan")
        raise say(about_cell(cell), row=line) from None
    if value in (float("inf"), float("-inf")):
        raise say("an infinity: mend the cell, or leave its row out", row=line)
    return value
