"""Writes what is left of a run: report.json, the plots, the picture of the view."""

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from starling.durable.files import storage_errors, write_atomic
from starling.fleet.monitor.run_snapshot import RunHeading, RunSnapshot
from starling.fleet.monitor.terminal_view import render
from starling.fleet.report.plots import PLOTS

METRICS_FILE = "metrics.jsonl"
"""A line for each version, as `versions` of the report has it."""
_DPI = 150
_READABLE = 0o644
_PICTURE_COLUMNS = 108
_REMOTE_FONT = re.compile(r"@font-face \{.*?\}", re.DOTALL)
"""A picture must not fetch anything; the reader's own monospace font will do."""


def write_report(folder: Path, document: Mapping[str, Any]) -> list[Path]:
    """Writes report.json, metrics.jsonl and the plots.

    Args:
      folder: Made if it does not exist.
      document: Of `fleet.report.run_report.report`.

    Returns:
      The files.

    Raises:
      StorageError: If the disk refuses.
    """
    _make(folder)
    written = [folder / "report.json"]
    text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    write_atomic(written[0], text.encode(), _READABLE)
    written.append(folder / METRICS_FILE)
    # NaN is no JSON: other readers than Python's refuse the whole file.
    rows = [json.dumps(row, allow_nan=False) + "\n" for row in document["versions"]]
    write_atomic(written[1], "".join(rows).encode(), _READABLE)
    for name, draw in PLOTS.items():
        picture = io.BytesIO()
        draw(document).savefig(picture, format="png", dpi=_DPI)
        write_atomic(folder / name, picture.getvalue(), _READABLE)
        written.append(folder / name)
    return written


def write_view(path: Path, heading: RunHeading, snapshot: RunSnapshot) -> None:
    """Writes the terminal view as an SVG picture.

    Raises:
      StorageError: If the disk refuses.
    """
    _make(path.parent)
    console = Console(
        record=True, width=_PICTURE_COLUMNS, file=io.StringIO(), force_terminal=True
    )
    console.print(render(heading, snapshot))
    picture = console.export_svg(title="starling fleet run")
    picture = _REMOTE_FONT.sub("", picture)
    write_atomic(path, picture.encode(), _READABLE)


def _make(folder: Path) -> None:
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
