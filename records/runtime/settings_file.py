"""Flags and files in which somebody says what is to be learned from their data."""

import argparse
import tomllib
from pathlib import Path

from starling.protocol.errors import ConfigError
from starling.records.data_options import (
    CATEGORY_POLICIES,
    CONSTANT_POLICIES,
    MISSING_POLICIES,
    SCALES,
    ColumnRule,
    DataOptions,
    bounds_of,
    column_rules,
)

_TOML_BYTES_MAX = 1 << 20


def add_data_flags(group: "argparse._ArgumentGroup") -> None:
    """Adds what `starling data check` and `starling fleet run` have in common."""
    group.add_argument(
        "--target",
        action="append",
        default=[],
        metavar="NAME",
        help="column that is learned (default the last); several times for several",
    )
    group.add_argument(
        "--board-column",
        default="",
        metavar="NAME",
        help="column that says which board a row is on",
    )
    group.add_argument(
        "--group",
        default="",
        metavar="NAME",
        help="column of what is never both learned and tested, such as a person",
    )
    group.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="NAME",
        help="column that is left out; may be given several times",
    )
    group.add_argument(
        "--missing",
        choices=MISSING_POLICIES,
        default="refuse",
        help="what becomes of cells without a value (default refuse)",
    )
    group.add_argument(
        "--constant",
        choices=CONSTANT_POLICIES,
        default="refuse",
        help="what becomes of columns of one value (default refuse)",
    )
    group.add_argument(
        "--categories",
        choices=CATEGORY_POLICIES,
        default="refuse",
        help="what becomes of columns of texts (default refuse)",
    )
    _add_scales(group)
    group.add_argument(
        "--window", type=int, default=0, metavar="ROWS", help="rows of a record"
    )
    group.add_argument(
        "--stride",
        type=int,
        default=0,
        metavar="ROWS",
        help="from one window to the next (default the window)",
    )
    group.add_argument(
        "--no-header", action="store_true", help="CSV files have no line of names"
    )


def _add_scales(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--bounds",
        action="append",
        default=[],
        metavar="NAME=LEAST:MOST",
        help="of a column, by which it is scaled; may be given several times",
    )
    group.add_argument(
        "--scale",
        choices=SCALES,
        default=None,
        help="pooled: columns without bounds are measured over all boards (simulation"
        " only); declared: they are taken as they stand (default pooled, or declared"
        " with a model file of one's own)",
    )
    group.add_argument(
        "--columns",
        type=Path,
        metavar="FILE.toml",
        help="bounds, fill, categories and ignore of columns, as [columns.NAME]",
    )


def data_options_of(
    options: argparse.Namespace, loss: str | None = None
) -> DataOptions:
    """Reads the flags of `add_data_flags`.

    Args:
      options: As parsed.
      loss: That is wished for, if any: it decides between labels and numbers.

    Raises:
      ConfigError: Naming the flag, or the file and key.
    """
    columns = read_columns(options.columns) if options.columns else {}
    for text in options.bounds:
        name, rule = _bounds(text)
        known = columns.get(name, ColumnRule())
        # A flag is nearer than the file: it replaces the bounds, and nothing else.
        columns[name] = ColumnRule(rule, known.fill, known.categories, known.ignore)
    kinds = {None: "auto", "cross-entropy": "classes", "bce": "shares"}
    return DataOptions(
        targets=tuple(options.target),
        kind=kinds.get(loss, "numbers"),
        board_column=options.board_column,
        group=options.group,
        ignore=tuple(options.ignore),
        missing=options.missing,
        constant=options.constant,
        categories=options.categories,
        scale=options.scale or "pooled",
        columns=columns,
        window=options.window,
        stride=options.stride,
        named=False if options.no_header else None,
    )


def _bounds(text: str) -> tuple[str, tuple[float, float]]:
    # From the right: a column's name may have the sign in it.
    name, _, numbers = text.rpartition("=")
    try:
        found = bounds_of(numbers.split(":"))
    except ValueError as error:
        raise ConfigError(
            f"{text!r} is not NAME=LEAST:MOST: {error}", key="--bounds"
        ) from error
    if not name:
        raise ConfigError(f"{text!r} is not NAME=LEAST:MOST", key="--bounds")
    return name, found


def read_columns(path: Path) -> dict[str, ColumnRule]:
    """Reads `[columns.NAME]` tables.

    Raises:
      ConfigError: Naming the file and key.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_TOML_BYTES_MAX + 1)
        document = tomllib.loads(content.decode())
    except OSError as error:
        detail = error.strerror or "cannot be read"
        raise ConfigError(detail, file=str(path)) from error
    except ValueError as error:
        raise ConfigError(f"not TOML: {error}", file=str(path)) from error
    odd = sorted(set(document) - {"columns"})
    if odd or len(content) > _TOML_BYTES_MAX:
        detail = f"unknown: {', '.join(odd)}" if odd else "over 1 MiB"
        raise ConfigError(detail, file=str(path))
    return column_rules(document.get("columns", {}), str(path))
