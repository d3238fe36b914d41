"""Report on what would be learned from some records, before anything starts."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from starling.records.errors import DataError, counted
from starling.records.record_set import LABELS, SHARES, RecordSet

FORMAT = 1
_NAMES_SHOWN = 8
_BOARDS_SHOWN = 40


def document(
    records: RecordSet | None, faults: list[DataError], path: str
) -> dict[str, Any]:
    """The report as JSON: keys are added, never renamed.

    Args:
      records: What was read; None if nothing could be.
      faults: All that stands in the way.
      path: That was asked about.
    """
    said = [
        {
            "file": fault.file,
            "row": getattr(fault, "row", 0) or None,
            "column": getattr(fault, "column", "") or None,
            "detail": fault.detail,
            "text": str(fault),
        }
        for fault in faults
    ]
    found: dict[str, Any] = {"format": FORMAT, "path": path, "problems": said}
    if records is None:
        return found
    scale, offset = records.preprocessing.scale, records.preprocessing.offset
    return found | {
        "records": len(records),
        "shape": list(records.x.shape[1:]),
        "loss": records.loss,
        "outputs": records.outputs,
        "classes": list(records.classes),
        "targets": _targets(records),
        "inputs": _inputs(records),
        "scale": list(scale),
        "offset": list(offset),
        "reuse": records.reuse,
        "groups": None if records.groups is None else len(records.groups.names),
        "boards": _boards(records),
        "notes": list(records.notes),
    }


def _targets(records: RecordSet) -> list[dict[str, Any]]:
    if records.table is None:
        return []
    return [
        {"name": item.name, "scale": item.scale, "offset": item.offset}
        for item in records.table.targets
    ]


def _inputs(records: RecordSet) -> list[dict[str, Any]]:
    if records.table is None:
        return []
    return [
        {
            "name": column.name,
            "categories": list(column.categories),
            "fill": column.fill,
        }
        for column in records.table.columns
    ]


def _boards(records: RecordSet) -> list[dict[str, Any]]:
    """Of each board its records and targets; one entry where nothing says whose."""
    if records.boards is None:
        return [{"name": None, **_summary(records, np.arange(len(records)))}]
    codes = records.boards.codes
    order = np.argsort(codes, kind="stable")
    # One sort for all boards: to look for each one's rows takes boards times records.
    parts = np.split(order, np.cumsum(np.bincount(codes))[:-1])
    names = records.boards.names
    return [
        {"name": name, **_summary(records, rows)}
        for name, rows in zip(names, parts, strict=True)
    ]


def _summary(records: RecordSet, rows: NDArray[Any]) -> dict[str, Any]:
    y = records.y[rows]
    if records.loss == LABELS:
        counts = np.bincount(y, minlength=records.outputs)
        names = records.classes or tuple(map(str, range(records.outputs)))
        labels = {name: int(n) for name, n in zip(names, counts, strict=True) if n}
        return {"records": len(rows), "labels": labels}
    return {
        "records": len(rows),
        "least": [float(value) for value in y.min(axis=0)],
        "mean": [float(value) for value in y.mean(axis=0)],
        "most": [float(value) for value in y.max(axis=0)],
    }


def text(found: dict[str, Any]) -> str:
    """The report for a person."""
    lines = []
    if "records" in found:
        lines += _learned(found) + _board_lines(found)
        lines += [f"note: {note}" for note in found["notes"]]
    lines += [f"wrong: {problem['text']}" for problem in found["problems"]]
    if not found["problems"]:
        lines.append("nothing stands in the way")
    return "".join([f"{_printable(line)}\n" for line in lines])


def _printable(line: str) -> str:
    """Names come from others: none may begin a line or steer a terminal."""
    return "".join(c if c.isprintable() else "?" for c in line)


def _learned(found: dict[str, Any]) -> list[str]:
    names = [
        f"{column['name']} ({len(column['categories'])} categories)"
        if column["categories"]
        else column["name"]
        for column in found["inputs"]
    ]
    shape = " x ".join(map(str, found["shape"]))
    lines = [f"records   {found['records']:,} of {shape} values"]
    if names:
        lines.append(f"inputs    {_some(names)}")
    targets = _some([item["name"] for item in found["targets"]]) or "y"
    if found["loss"] == LABELS:
        labels = f"one of {found['outputs']} labels"
        if found["classes"]:
            labels += f": {_some(found['classes'])}"
        lines.append(f"target    {targets}, {labels}")
    else:
        kind = "from 0 to 1 (yes or no)" if found["loss"] == SHARES else "(regression)"
        lines.append(f"target    {targets}, numbers {kind}")
    if found["groups"]:
        lines.append(f"groups    {found['groups']}, each either learned or tested")
    if found["reuse"] > 1:
        lines.append(
            f"windows   overlap: a row stands in {found['reuse']}, and every charge of "
            f"privacy grows by {found['reuse'] ** 2}"
        )
    return lines


def _some(names: list[str]) -> str:
    cut = ", ".join(names[:_NAMES_SHOWN])
    more = len(names) - _NAMES_SHOWN
    return f"{cut} and {more} more" if more > 0 else cut


def _board_lines(found: dict[str, Any]) -> list[str]:
    boards = found["boards"]
    if boards[0]["name"] is None:
        dealt = "groups" if found["groups"] else "records"
        return [f"boards    none named: {dealt} are dealt out; {_held(boards[0])}"]
    lines = [f"boards    {len(boards)}"]
    lines += [
        f"  {board['name']:<16} {_held(board)}" for board in boards[:_BOARDS_SHOWN]
    ]
    if len(boards) > _BOARDS_SHOWN:
        lines.append(f"  and {len(boards) - _BOARDS_SHOWN} more")
    return lines


def _held(board: dict[str, Any]) -> str:
    count = counted(board["records"], "record")
    if "labels" in board:
        each = [f"{name} {n:,}" for name, n in board["labels"].items()]
        return f"{count}: {_some(each)}"
    return f"{count}: from {_numbers(board['least'])} to {_numbers(board['most'])}"


def _numbers(values: list[float]) -> str:
    return ", ".join([f"{value:g}" for value in values[:_NAMES_SHOWN]])
