"""Tables in Parquet files, read by pyarrow a few thousand rows at a time.

A null is a missing cell; a row's number is its place in the file, from 1.

Source: https://parquet.apache.org/docs/file-format/
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starling.protocol.errors import ConfigError
from starling.records.errors import DataError, counted, shown
from starling.records.formats.csv_cells import COLUMNS_MAX
from starling.records.formats.table_piece import (
    Reals,
    TableColumns,
    TablePiece,
    numbers_of,
    without_faults,
)

SUFFIXES = (".parquet",)
ROW_GROUP_BYTES_MAX = 1 << 30
_PIECE_VALUES = 1 << 17
_READ_BYTES = 1 << 20
_NESTED = (
    "holds lists or structures, where a cell is one value: spread it over columns, or "
    "--ignore it"
)
_OTHER = "holds {kind}: write it as numbers or texts, or --ignore it"


class ParquetTable:
    """An open file.

    Attributes:
      names: Of its columns.
    """

    def __init__(self, pyarrow: Any, parquet: Any, file: str) -> None:  # noqa: ANN401 - pyarrow brings no types
        """Checks what the file says of itself.

        Args:
          pyarrow: The library.
          parquet: Its `ParquetFile`.
          file: For messages.

        Raises:
          DataError: Naming the column or the group of rows that cannot be read.
        """
        self._pyarrow, self._parquet, self._file = pyarrow, parquet, file
        self._schema = parquet.schema_arrow
        self.names = tuple(self._schema.names)
        if not 2 <= len(self.names) <= COLUMNS_MAX:
            there = counted(len(self.names), "column")
            detail = f"{there}: a table has 2 to {COLUMNS_MAX}"
            raise DataError(detail, file=file)
        for place, name in enumerate(self.names):
            if not name.strip() or name in self.names[:place]:
                wrong = "stands twice among the names" if name else "has no name"
                detail = f"column {place + 1}, {shown(name)}, {wrong}: rename it"
                raise DataError(detail, file=file)
        # From the footer, before a page is read: a group is what pyarrow may hold at
        # once.
        for group in range(parquet.metadata.num_row_groups):
            size = parquet.metadata.row_group(group).total_byte_size
            if size > ROW_GROUP_BYTES_MAX:
                raise self._too_large(group, self.names, "more than 1 GiB")

    def columns(
        self, as_text: frozenset[str], unread: frozenset[str] = frozenset()
    ) -> TableColumns:
        """As what the columns are read: by their types, but for those named.

        Raises:
          DataError: Naming a column of a type that is not read.
        """
        texts, numbers = list[int](), list[int]()
        for place, name in enumerate(self.names):
            if name in unread:
                continue
            is_text = self._is_text(name) or name in as_text
            (texts if is_text else numbers).append(place)
        return TableColumns(self.names, tuple(numbers), tuple(texts))

    def pieces(self, columns: TableColumns) -> Iterator[TablePiece]:
        """The rows; each piece with the faults of those that are none.

        Raises:
          DataError: If the file is damaged, or a wanted column of another type.
        """
        names = self.names
        numbers = [names[at] for at in columns.numbers]
        texts = [names[at] for at in columns.texts]
        for name in (*numbers, *texts):
            self._is_text(name)
        first = 1
        for group in range(self._parquet.metadata.num_row_groups):
            try:
                for batch in self._batches(group, [*numbers, *texts]):
                    yield self._piece(batch, numbers, texts, first)
                    first += len(batch)
            except MemoryError as error:
                why = "more than memory holds with what it becomes"
                raise self._too_large(group, (*numbers, *texts), why) from error

    def _batches(self, group: int, wanted: list[str]) -> Iterator[Any]:
        """Rows of a group, some at a time."""
        # By values and not by rows: a table may have thousands of columns.
        rows = max(1, min(1 << 16, _PIECE_VALUES // len(self.names)))
        found: Iterator[Any] = self._parquet.iter_batches(
            rows, row_groups=[group], columns=wanted, use_threads=False
        )
        return found

    def _piece(
        self,
        batch: Any,  # noqa: ANN401 - as above
        numbers: list[str],
        texts: list[str],
        first: int,
    ) -> TablePiece:
        """Rows from number `first` on, with the faults of those that are none."""
        lines = np.arange(first, first + len(batch), dtype=np.int64)
        faults = list[DataError]()
        found = np.empty((len(batch), len(numbers)), np.float64)
        for place, name in enumerate(numbers):
            found[:, place] = self._numbers(batch, name, lines, faults)
        cells = {name: self._texts(batch, name, lines, faults) for name in texts}
        return without_faults(lines, found, cells, faults)

    def _too_large(self, group: int, names: Sequence[str], why: str) -> DataError:
        """Fault of a group of rows, by the largest of these columns in it."""
        chunks = self._parquet.metadata.row_group(group)
        sizes = {
            chunk.path_in_schema.partition(".")[0]: chunk.total_uncompressed_size
            for chunk in map(chunks.column, range(chunks.num_columns))
        }
        largest = max(names, key=lambda name: sizes.get(name, 0))
        return DataError(
            f"row group {group + 1} has {sizes.get(largest, 0):,} bytes of it, {why}: "
            "write smaller groups, as to_parquet(..., row_group_size=100_000) does, or "
            "shorten its cells",
            file=self._file,
            column=largest,
        )

    def _is_text(self, name: str) -> bool:
        """Tells if a column holds texts, and not numbers.

        Raises:
          DataError: If it holds neither.
        """
        types = self._pyarrow.types
        kind = self._schema.field(name).type
        # A way to store texts, and no other kind of column: pandas writes categories
        # so.
        if types.is_dictionary(kind):
            kind = kind.value_type
        if types.is_nested(kind):
            raise DataError(_NESTED, file=self._file, column=name)
        if kind in self._text_types():
            return True
        known = types.is_integer, types.is_floating, types.is_boolean, types.is_decimal
        if any(fits(kind) for fits in (*known, types.is_null)):
            return False
        raise DataError(_OTHER.format(kind=kind), file=self._file, column=name)

    def _text_types(self) -> list[Any]:
        library = self._pyarrow
        return [library.string(), library.large_string(), library.string_view()]

    def _column(self, batch: Any, name: str) -> Any:  # noqa: ANN401 - as above
        found = batch.column(batch.schema.get_field_index(name))
        if self._pyarrow.types.is_dictionary(found.type):
            return found.dictionary_decode()
        return found

    def _numbers(
        self,
        batch: Any,  # noqa: ANN401 - as above
        name: str,
        lines: NDArray[np.int64],
        faults: list[DataError],
    ) -> Reals:
        if self._is_text(name):
            cells = self._texts(batch, name, lines, faults)
            return np.array(numbers_of(cells, lines, name, self._file, faults))
        # Unsafe, since whole numbers beyond 2^53 are rounded as they are in a CSV file.
        column = self._column(batch, name).cast(self._pyarrow.float64(), safe=False)
        found: Reals = column.to_numpy(zero_copy_only=False)
        for row in np.flatnonzero(np.isinf(found)).tolist():
            detail = "an infinity: mend the cell, or leave its row out"
            place = int(lines[row])
            faults.append(DataError(detail, file=self._file, row=place, column=name))
        return found

    def _texts(
        self,
        batch: Any,  # noqa: ANN401 - as above
        name: str,
        lines: NDArray[np.int64],
        faults: list[DataError],
    ) -> list[str]:
        library, column = self._pyarrow, self._column(batch, name)
        if not self._is_text(name):
            if library.types.is_boolean(column.type):
                # 0 and 1, as where it is read as numbers.
                column = column.cast(library.int8())
            column = column.cast(library.string())
        cells = []
        # Bytes, since a file may hold others than UTF-8 there.
        for cell, line in zip(
            column.cast(library.large_binary()).to_pylist(), lines.tolist(), strict=True
        ):
            try:
                cells.append((cell or b"").decode())
            except UnicodeDecodeError:
                cells.append("")
                detail = "a text that is not UTF-8: write the file anew"
                faults.append(DataError(detail, file=self._file, row=line, column=name))
        return cells


@contextmanager
def open_parquet(path: Path, file: str) -> Iterator[ParquetTable]:
    """Opens a file until the context ends, within which it is read.

    Args:
      path: Where it is.
      file: As messages name it.

    Raises:
      ConfigError: If pyarrow is missing, or the file cannot be opened.
      DataError: If it is no such file, or is damaged.
    """
    pyarrow, parquet = _library(file)
    try:
        with path.open("rb") as content:
            opened = parquet.ParquetFile(
                content, buffer_size=_READ_BYTES, pre_buffer=False
            )
            yield ParquetTable(pyarrow, opened, file)
    except MemoryError as error:
        raise DataError("holds more than memory does", file=file) from error
    except pyarrow.ArrowException as error:
        raise DataError(_damaged(error), file=file) from error
    # pyarrow says OSError of a damaged file, without a number.
    except OSError as error:
        detail = f"cannot be read: {error.strerror}" if error.errno else _damaged(error)
        raise DataError(detail, file=file) from error


def _damaged(error: Exception) -> str:
    said = str(error).partition("\n")[0][:120]
    return f"is no Parquet file, or is damaged: copy it anew ({said})"


def _library(file: str) -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise ConfigError(
            "Parquet needs pyarrow, which the extra [parquet] brings: pip install "
            "pyarrow; or write the table as CSV",
            file=file,
        ) from error
    return pa, parquet
