"""Schema of a table: the columns a model was made for, and a row as an example.

A column of numbers is one value of x; a column of categories is one value for each of
them, 1 where it is the row's and 0 elsewhere (one-hot), in the order of the columns.
`Preprocessing` then scales x, one factor for each value. A target is scaled by itself,
`y = raw * scale + offset`. Where the loss is cross-entropy the target is a label, and
`BundleManifest.classes` is the label map: label i is the text `classes[i]`.

With a window an example is the window's rows, (values, window) in order of time.
"""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

from starling.protocol.errors import DecodeError
from starling.protocol.schema.json_document import (
    check_fields,
    integer,
    items,
    numbers,
    text,
)

COLUMNS_MAX = 4096
CATEGORIES_MAX = 1024
TARGETS_MAX = 1024
WINDOW_MAX = 1 << 20
CELL_CHARS_MAX = 256
_COLUMN, _TARGET = ("name", "categories", "fill"), ("name", "scale", "offset")


@dataclass(frozen=True)
class InputColumn:
    """One column that the model reads.

    Attributes:
      name: As the table's first line has it.
      categories: Its texts; empty for a column of numbers.
      fill: What stands for a missing cell: a number, or one of the categories; None if
        a row that lacks it is no record.
    """

    name: str
    categories: tuple[str, ...] = ()
    fill: float | str | None = None

    def __post_init__(self) -> None:
        """Refuses a filling of another kind.

        Raises:
          DecodeError: Naming the column.
        """
        if len(set(self.categories)) != len(self.categories):
            raise DecodeError(f"column {self.name!r}: a category twice")
        if self.fill is None:
            return
        if self.categories:
            fits = self.fill in self.categories
        else:
            fits = not isinstance(self.fill, str) and math.isfinite(self.fill)
        if not fits:
            raise DecodeError(f"column {self.name!r}: cannot be filled so")

    @property
    def size(self) -> int:
        """Values of x that it takes."""
        return len(self.categories) or 1


@dataclass(frozen=True)
class TargetColumn:
    """One column that the model gives.

    Attributes:
      name: As the table's first line has it.
      scale: The graphs' y is `raw * scale + offset`; not 0.
      offset: See `scale`; both are plain, 1 and 0, for a label.
    """

    name: str
    scale: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        """Refuses a scale that cannot be undone.

        Raises:
          DecodeError: Naming the column.
        """
        if self.scale == 0 or not math.isfinite(self.scale + self.offset):
            raise DecodeError(f"target {self.name!r}: its scale cannot be undone")


@dataclass(frozen=True)
class TableSchema:
    """The columns of a table that make an example.

    Attributes:
      columns: Inputs, in the order of x; empty where x does not come from columns.
      targets: What y is made of, in its order; at least one.
      window: Rows of an example, in order of time; 0 where each row is one.
      stride: Rows from one window to the next; 0 without windows.
    """

    columns: tuple[InputColumn, ...]
    targets: tuple[TargetColumn, ...]
    window: int = 0
    stride: int = 0

    def __post_init__(self) -> None:
        """Refuses names that stand twice, and half a window.

        Raises:
          DecodeError: Naming the first.
        """
        seen = [item.name for item in self.columns]
        seen += [item.name for item in self.targets]
        twice = [name for name, times in Counter(seen).items() if times > 1]
        if twice:
            raise DecodeError(f"column {twice[0]!r} stands twice")
        if not self.targets:
            raise DecodeError("a table without a target")
        if (self.window > 0) != (self.stride > 0):
            raise DecodeError("a window and its stride go together")

    @property
    def values(self) -> int:
        """Values that one row's inputs become."""
        return sum(column.size for column in self.columns)

    @property
    def reuse(self) -> int:
        """Examples in which one row of the table may stand; 1 without windows."""
        # Rounded up: with a stride that does not divide the window, some rows stand in
        # one more.
        return -(-self.window // self.stride) if self.window else 1

    def check_ports(self, inputs: tuple[int, ...], targets: tuple[int, ...]) -> None:
        """Refuses ports that rows of this table do not fill.

        Raises:
          DecodeError: If they do not.
        """
        row = (self.values, self.window) if self.window else (self.values,)
        if self.columns and math.prod(inputs) != math.prod(row):
            raise DecodeError(f"manifest.table: rows of {row} values for {inputs}")
        if math.prod(targets) != len(self.targets):
            raise DecodeError(f"manifest.table: {len(self.targets)} targets")

    def document(self) -> dict[str, object]:
        """As it stands in a manifest."""
        return {
            "columns": [
                {
                    "name": column.name,
                    "categories": list(column.categories),
                    "fill": column.fill,
                }
                for column in self.columns
            ],
            "targets": [
                {"name": item.name, "scale": item.scale, "offset": item.offset}
                for item in self.targets
            ],
            "window": self.window,
            "stride": self.stride,
        }


def read_table(value: Any, place: str) -> TableSchema:  # noqa: ANN401 - from the JSON reader
    """Reads the columns of a manifest.

    Raises:
      DecodeError: If a field is missing, unknown or out of bounds.
    """
    check_fields(value, place, ("columns", "targets", "window", "stride"))
    columns = items(value["columns"], place, COLUMNS_MAX)
    targets = items(value["targets"], place, TARGETS_MAX)
    window, stride = [
        integer(value[key], place, 0, WINDOW_MAX) for key in ("window", "stride")
    ]
    return TableSchema(
        tuple([_column(row, f"{place}.columns") for row in columns]),
        tuple([_target(row, f"{place}.targets") for row in targets]),
        window,
        stride,
    )


def _column(row: Any, place: str) -> InputColumn:  # noqa: ANN401 - from the JSON reader
    check_fields(row, place, _COLUMN)
    found = items(row["categories"], place, CATEGORIES_MAX)
    categories = tuple([text(entry, place, CELL_CHARS_MAX) for entry in found])
    fill = row["fill"]
    if isinstance(fill, str):
        fill = text(fill, place, CELL_CHARS_MAX)
    elif fill is not None:
        (fill,) = numbers([fill], place, 1)
    return InputColumn(text(row["name"], place, CELL_CHARS_MAX), categories, fill)


def _target(row: Any, place: str) -> TargetColumn:  # noqa: ANN401 - from the JSON reader
    check_fields(row, place, _TARGET)
    scale, offset = numbers([row["scale"], row["offset"]], place, 2)
    return TargetColumn(text(row["name"], place, CELL_CHARS_MAX), scale, offset)
