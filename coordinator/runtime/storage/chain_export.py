"""A chain as files for an auditor: one line for each block, transaction and so on."""

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from starling.coordinator.chain.state import task_records
from starling.coordinator.chain.verification import plain_values
from starling.coordinator.runtime.storage.sqlite_schema import storage_errors
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.protocol.learning.task import version_digest

NAMES = ("blocks", "transactions", "scores", "versions")
Row = dict[str, Any]
_Write = Callable[[Row], None]


def export(
    store: SqliteStore,
    folder: Path,
    heights: range,
    as_csv: bool,
    progress: Callable[[int], None],
) -> dict[str, int]:
    """Writes the files, over what they held.

    Args:
      store: The chain.
      folder: Where to; it is made if it does not exist.
      heights: Of blocks whose transactions are kept.
      as_csv: Comma-separated values with a head instead of JSON lines.
      progress: Told each height that is written.

    Returns:
      The number of lines of each file.

    Raises:
      StorageError: If the disk refuses, or a row is damaged.
    """
    counts = dict.fromkeys(NAMES, 0)
    with storage_errors(folder), ExitStack() as files:
        folder.mkdir(parents=True, exist_ok=True)
        writers = {}
        for name in NAMES:
            ending = "csv" if as_csv else "jsonl"
            path = folder / f"{name}.{ending}"
            file = files.enter_context(path.open("w", newline="", encoding="utf-8"))
            writers[name] = _csv(file) if as_csv else _lines(file)
        for name, row in _rows(store, heights, progress):
            writers[name](row)
            counts[name] += 1
    return counts


def _rows(
    store: SqliteStore, heights: range, progress: Callable[[int], None]
) -> Iterator[tuple[str, Row]]:
    genesis = store.genesis
    for height in heights:
        stored = store.block(height)
        assert stored is not None
        yield "blocks", plain_values.block(stored)
        for row in plain_values.transactions(genesis, stored):
            yield "transactions", row
        for row in plain_values.scores(genesis, stored):
            yield "scores", row
        progress(height)
    for number in range(task_records.task_count(store)):
        for version in store.versions(number):
            model = store.model(number, version.version)
            digest = None if model is None else version_digest(model).hex()
            yield "versions", {**plain_values.plain(version), "digest": digest}


def _lines(file: TextIO) -> _Write:
    def write(row: Row) -> None:
        file.write(json.dumps(row) + "\n")

    return write


def _csv(file: TextIO) -> _Write:
    writer = csv.writer(file)
    begun = False

    def write(row: Row) -> None:
        nonlocal begun
        if not begun:
            # The names, since a row is a dict.
            writer.writerow(row)
            begun = True
        writer.writerow(_cell(value) for value in row.values())

    return write


def _cell(value: Any) -> Any:  # noqa: ANN401 - JSON
    return json.dumps(value) if isinstance(value, dict | list) else value
