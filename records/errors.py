"""Faults of somebody's data: file, row, column, and the way out."""

from collections.abc import Iterable

from starling.protocol.errors import ConfigError
from starling.protocol.model.table_schema import CELL_CHARS_MAX

SHOWN_CHARS_MAX = 40


class DataError(ConfigError):
    """A place in the data from which nothing can be learned.

    Attributes:
      row: Line of the file, from 1; 0 where no line is meant.
      place: Of the record among those that are read with it; its row, where it has one.
      column: Its name, or empty.
      unquoted: The same line without what stands in the cell, for a board's reports.
    """

    def __init__(
        self,
        detail: str,
        *,
        file: str = "",
        row: int = 0,
        column: str = "",
        cell: str = "",
        at: int = 0,
    ) -> None:
        """Builds the one line; `detail` says what is wrong, and what to do.

        Args:
          detail: Holds nothing that stands in the data.
          file: Its name.
          row: See the class.
          column: See the class.
          cell: Quoted before the detail; empty for nothing.
          at: The place of a record that has no row.
        """
        place = f"row {row}" if row else ""
        if column:
            place += f"{', ' if place else ''}column {shown(column)}"
        quoted = f"{shown(cell)} {detail}" if cell else detail
        super().__init__(quoted, file=file, key=place)
        self.row = row
        self.place = row or at
        self.column = column
        # Reports of a board name a place, and never what stands there.
        self.unquoted = ": ".join(filter(None, (file, place, detail)))


def shown(text: str) -> str:
    """A cell or name as messages quote it: printable, and not long."""
    cut = text[:SHOWN_CHARS_MAX] + ("…" if len(text) > SHOWN_CHARS_MAX else "")
    return "'" + "".join(c if c.isprintable() else "?" for c in cut) + "'"


def counted(number: int, noun: str) -> str:
    """A number with its noun, which takes an s."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def refuse_unprintable(texts: Iterable[str], file: str) -> None:
    """Refuses names of columns and labels that a bundle's manifest does not hold.

    Raises:
      DataError: Naming the file, and the first of them.
    """
    for text in texts:
        if not text:
            raise DataError("a label is an empty text: give it a name", file=file)
        if not text.isprintable():
            at = next(at for at, sign in enumerate(text) if not sign.isprintable())
            raise DataError(
                f"the name or label {shown(text)} holds the character U+"
                f"{ord(text[at]):04X}, which does not print: write it without",
                file=file,
            )
        if len(text) > CELL_CHARS_MAX:
            raise DataError(
                f"the name or label {shown(text)} has over {CELL_CHARS_MAX} letters: "
                "shorten it",
                file=file,
            )
