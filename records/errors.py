"""Faults of somebody's data: file, row, column, and the way out."""

from starling.protocol.errors import ConfigError

SHOWN_CHARS_MAX = 40


class DataError(ConfigError):
    """A place in the data from which nothing can be learned.

    Attributes:
      row: Line of the file, from 1; 0 where no line is meant.
      column: Its name, or empty.
    """

    def __init__(
        self, detail: str, *, file: str = "", row: int = 0, column: str = ""
    ) -> None:
        """Builds the one line; `detail` says what is wrong, and what to do."""
        place = f"row {row}" if row else ""
        if column:
            place += f"{', ' if place else ''}column {shown(column)}"
        super().__init__(detail, file=file, key=place)
        self.row = row
        self.column = column


def shown(text: str) -> str:
    """A cell or name as messages quote it: printable, and not long."""
    cut = text[:SHOWN_CHARS_MAX] + ("…" if len(text) > SHOWN_CHARS_MAX else "")
    return "'" + "".join(c if c.isprintable() else "?" for c in cut) + "'"


def counted(number: int, noun: str) -> str:
    """A number with its noun, which takes an s."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
