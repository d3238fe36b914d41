"""Choices of what is learned from data, and declarations about them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from starling.protocol.errors import ConfigError

MISSING_POLICIES = ("refuse", "fill")
CONSTANT_POLICIES = ("refuse", "drop")
CATEGORY_POLICIES = ("refuse", "one-hot")
SCALES = ("pooled", "declared")
KINDS = ("auto", "classes", "numbers", "shares")
_COLUMN_KEYS = ("bounds", "fill", "categories", "ignore")


@dataclass(frozen=True)
class ColumnRule:
    """Declarations about one column.

    Attributes:
      bounds: Least and greatest value, by which it is scaled to [-1, 1]; None to leave
        it to the scale that is asked for.
      fill: For missing cells.
      categories: All texts that it may hold, in the order of the one-hot code.
      ignore: Whether it is left out.
    """

    bounds: tuple[float, float] | None = None
    fill: float | str | None = None
    categories: tuple[str, ...] = ()
    ignore: bool = False


@dataclass(frozen=True)
class DataOptions:
    """Choices of how data become records.

    Attributes:
      targets: Names of what is learned; empty for the last column that is not ignored.
      kind: Whether targets are labels (`classes`), `numbers`, or `shares` from 0 to 1,
        such as answers of yes or no; `auto` looks at them.
      board_column: Column that says whose record it is; empty without.
      group: Column of what must not be both learned and tested, such as a person.
      ignore: Columns that are left out.
      missing: What becomes of a missing cell.
      constant: What becomes of a column that holds one value.
      categories: What becomes of a column of texts.
      scale: `pooled` measures what is not declared, over all boards: simulation only.
      columns: What is declared, by column.
      window: Rows of a record, for series; 0 for one.
      stride: Rows from one window to the next; 0 for the window's own length.
      named: Whether the first line names the columns; None to see by it.
    """

    targets: tuple[str, ...] = ()
    kind: str = "auto"
    board_column: str = ""
    group: str = ""
    ignore: tuple[str, ...] = ()
    missing: str = "refuse"
    constant: str = "refuse"
    categories: str = "refuse"
    scale: str = "pooled"
    columns: Mapping[str, ColumnRule] = field(default_factory=dict)
    window: int = 0
    stride: int = 0
    named: bool | None = None

    def __post_init__(self) -> None:
        """Refuses what cannot be.

        Raises:
          ConfigError: Naming the flag.
        """
        for flag, value, choices in (
            ("--missing", self.missing, MISSING_POLICIES),
            ("--constant", self.constant, CONSTANT_POLICIES),
            ("--categories", self.categories, CATEGORY_POLICIES),
            ("--scale", self.scale, SCALES),
            ("--kind", self.kind, KINDS),
        ):
            if value not in choices:
                raise ConfigError(
                    f"{value!r} is not one of {', '.join(choices)}", key=flag
                )
        if self.window < 0 or self.stride < 0 or (self.stride and not self.window):
            raise ConfigError("a stride needs a --window, both above 0", key="--stride")
        both = set(self.targets) & {self.board_column, self.group, *self.ignore}
        if both:
            raise ConfigError(f"{min(both)!r} is the target", key="--ignore")

    @property
    def step(self) -> int:
        """Rows from one window to the next; 0 without windows."""
        return self.stride or self.window

    def rule(self, column: str) -> ColumnRule:
        """Declarations about a column."""
        return self.columns.get(column, ColumnRule())

    def ignores(self, column: str) -> bool:
        """Tells if a column is left out of the inputs."""
        apart = {*self.ignore, self.board_column, self.group}
        return column in apart or self.rule(column).ignore

    @property
    def as_text(self) -> frozenset[str]:
        """Columns that are texts whatever they hold."""
        declared = {name for name, rule in self.columns.items() if rule.categories}
        return frozenset({self.board_column, self.group, *declared} - {""})

    @property
    def unread(self) -> frozenset[str]:
        """Columns of which nothing is wanted."""
        ignored = {name for name, rule in self.columns.items() if rule.ignore}
        wanted = {*self.targets, self.board_column, self.group}
        return frozenset({*self.ignore, *ignored} - wanted)


DEFAULT_OPTIONS = DataOptions()
"""The last column is learned, and every policy is its default."""


def column_rules(document: object, file: str) -> dict[str, ColumnRule]:
    """Reads the tables `[columns.NAME]` of a settings file.

    Args:
      document: As the TOML reader gave it.
      file: For messages.

    Raises:
      ConfigError: Naming file and key.
    """
    if not isinstance(document, dict):
        raise ConfigError("expected tables [columns.NAME]", file=file, key="columns")
    rules = {}
    for name, row in document.items():
        key = f"columns.{name}"
        if not isinstance(row, dict) or not set(row) <= set(_COLUMN_KEYS):
            raise ConfigError(f"takes {', '.join(_COLUMN_KEYS)}", file=file, key=key)
        try:
            rules[name] = _rule(row)
        except (TypeError, ValueError) as error:
            raise ConfigError(str(error), file=file, key=key) from error
    return rules


def _rule(row: dict[str, object]) -> ColumnRule:
    bounds, fill = row.get("bounds"), row.get("fill")
    categories, ignore = row.get("categories", []), row.get("ignore", False)
    if not isinstance(ignore, bool):
        raise TypeError("ignore is true or false")
    if not isinstance(categories, list) or not all(
        isinstance(entry, str) and entry for entry in categories
    ):
        raise TypeError("categories is a list of texts")
    if fill is not None and not isinstance(fill, str | int | float):
        raise TypeError("fill is a number or a text")
    return ColumnRule(
        None if bounds is None else bounds_of(bounds),
        float(fill) if isinstance(fill, int) else fill,
        tuple(categories),
        ignore,
    )


def bounds_of(value: object) -> tuple[float, float]:
    """Least and greatest.

    Raises:
      ValueError: If they are no two rising finite numbers.
    """
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError("bounds are two numbers, the least and the greatest")
    least, most = (float(entry) for entry in value)
    # One comparison refuses NaN and infinities, too.
    if not -1e9 <= least < most <= 1e9:
        raise ValueError("bounds are two rising numbers, up to 1e9 from zero")
    return least, most
