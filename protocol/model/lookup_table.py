"""Places of an example that name rows of a table, such as an embedding's tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

from starling.protocol.errors import DecodeError
from starling.protocol.schema.json_document import integer, items

TABLES_MAX = 256
ROWS_MAX = 1 << 31


@dataclass(frozen=True)
class LookupTable:
    """Places of x that name rows of a table.

    Attributes:
      start: The first such place in an example, flattened.
      size: How many; at least 1.
      rows: Of the table; what stands there is a whole number in [0, rows).
    """

    start: int
    size: int
    rows: int


def read_tables(value: object, place: str) -> tuple[LookupTable, ...]:
    """Reads the tables of a manifest.

    Raises:
      DecodeError: If one is malformed or out of bounds.
    """
    rows = []
    for entry in items(value, place, TABLES_MAX):
        found = items(entry, place, 3)
        if len(found) != 3:
            raise DecodeError(f"{place}: expected start, size and rows")
        start, size, height = [
            integer(number, place, least, ROWS_MAX)
            for number, least in zip(found, (0, 1, 1), strict=True)
        ]
        rows.append(LookupTable(start, size, height))
    return tuple(rows)


def check_tables(tables: Sequence[LookupTable], inputs: int) -> None:
    """Refuses tables that overlap or lie beyond an example.

    Args:
      tables: Of a manifest.
      inputs: Values of one example.

    Raises:
      DecodeError: If they do.
    """
    end = 0
    for table in tables:
        if table.start < end:
            raise DecodeError("manifest.tables: not ascending and apart")
        end = table.start + table.size
    if end > inputs:
        raise DecodeError("manifest.tables: beyond the input")
