"""Looks at a data set without a model: `python -m ... data_probe FOLDER LABEL`.

The width of a record is that of the first one, since no bundle says it. What is wrong
is named by file, row and column, and never by the value. The files are hostile bytes:
the process confines itself before it opens the first of them.
"""

import json
import math
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

import numpy as np

from starling.agent.trainer.dataset import data_files
from starling.agent.trainer.dataset_files import cells_of, lines_of
from starling.protocol.errors import ConfigError
from starling.records.csv_cells import is_head, is_numeric
from starling.sandbox.confinement import enter

LINE_BYTES_MAX = 1 << 20
FAULTS_MAX = 5
_PIECE_VALUES = 1 << 18
_NUMBERS = "iufb"


@dataclass
class DataSurvey:
    """Summary of a data set.

    Attributes:
      files: How many data files there are.
      records: That can be used.
      unusable: That cannot.
      faults: Where the first of these are, and why.
      refusal: Why there is no data set at all; empty if there is one.
      is_table: Whether faults are texts below names of columns: records for a bundle
        that knows the columns, which is not asked here.
    """

    files: int = 0
    records: int = 0
    unusable: int = 0
    faults: list[str] = field(default_factory=list)
    refusal: str = ""
    is_table: bool = False

    def fault(self, text: str, count: int = 1) -> None:
        """Notes records that cannot be used."""
        self.unusable += count
        if len(self.faults) < FAULTS_MAX:
            # Names of files are bytes of any kind.
            shown = "".join(c if c.isprintable() else "?" for c in text)
            self.faults.append(shown)


def survey(folder: Path, label: str) -> DataSurvey:
    """Looks at every record.

    Args:
      folder: Of the data set.
      label: The target's column in CSV files; empty for the last one.
    """
    found = DataSurvey()
    try:
        files = data_files(folder)
    except ConfigError as error:
        found.refusal = str(error)
        return found
    found.files = len(files)
    for path in files:
        look = _look_at_npz if path.suffix == ".npz" else _look_at_csv
        try:
            look(path, label, found)
        except Exception as error:  # noqa: BLE001 - no content of a file may stop it; its text could show values
            found.fault(f"{path.name}: cannot be read ({type(error).__name__})")
    return found


def _look_at_csv(path: Path, label: str, found: DataSurvey) -> None:
    with path.open("rb") as file:
        names: list[str] = []
        width = 0
        for number, line in lines_of(file, LINE_BYTES_MAX):
            cells = cells_of(line)
            if number == 1 and cells is not None and is_head(cells, label):
                names, width = cells, len(cells)
                if label and label not in names:
                    found.fault(
                        f"{path.name}: no column {label!r}, which data.label is"
                    )
                continue
            width = width or len(cells or ())
            # Without a label that it has, a first line of texts may be a record.
            wrong = _wrong(cells, width, names if label in names else [])
            if wrong:
                found.fault(f"{path.name}: row {number}{wrong}")
                texts = [cell for cell in cells or () if not is_numeric([cell])]
                found.is_table |= bool(names) and any(map(str.strip, texts))
            else:
                found.records += 1


def _wrong(cells: list[str] | None, width: int, names: list[str]) -> str:
    """Fault of a row, and its column; empty for nothing."""
    if cells is None:
        return ": not a line of CSV"
    if len(cells) != width:
        return f": {len(cells)} columns, {width} before"
    for place, cell in enumerate(cells):
        if not is_numeric([cell]) or not math.isfinite(float(cell)):
            name = f" ({names[place]})" if place < len(names) else ""
            kind = "empty" if not cell.strip() else "no finite number"
            return f", column {place + 1}{name}: {kind}"
    return ""


def _look_at_npz(path: Path, label: str, found: DataSurvey) -> None:
    del label
    with zipfile.ZipFile(path) as archive:
        missing = [it for it in ("x", "y") if f"{it}.npy" not in archive.namelist()]
        if missing:
            found.fault(f"{path.name}: has no array {missing[0]}")
            return
        bad: dict[int, str] = {}
        counts = []
        for name in ("x", "y"):
            with archive.open(f"{name}.npy") as file:
                counts.append(_look_at_array(file, name, bad))
    if counts[0] != counts[1]:
        found.fault(
            f"{path.name}: {counts[0]} records of x, {counts[1]} of y",
            abs(counts[0] - counts[1]),
        )
    count = min(counts)
    for row in sorted(row for row in bad if row < count):
        found.fault(f"{path.name}: record {row}, {bad[row]}")
    found.records += count - sum(1 for row in bad if row < count)


def _look_at_array(file: IO[bytes], name: str, bad: dict[int, str]) -> int:
    """Notes what is wrong with records of one array; how many it has."""
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    shape, is_fortran, dtype = readers[version](file)
    if dtype.hasobject:
        raise ValueError("objects")
    count = shape[0] if shape else 1
    each = math.prod(shape[1:])
    if dtype.kind not in _NUMBERS:
        bad.update((row, f"{name}: no number") for row in range(count))
        return count
    if dtype.kind != "f":
        return count
    for start, piece in _pieces(file, count * each, dtype):
        for place in np.flatnonzero(~np.isfinite(piece)):
            # In Fortran order one value of all records comes after another.
            at = start + int(place)
            row, column = (at % count, at // count) if is_fortran else divmod(at, each)
            bad.setdefault(row, f"{name}, column {column + 1}: no finite number")
    return count


def _pieces(
    file: IO[bytes], values: int, dtype: np.dtype[np.generic]
) -> Iterator[tuple[int, np.ndarray[tuple[int], np.dtype[np.generic]]]]:
    start = 0
    while start < values:
        wanted = min(_PIECE_VALUES, values - start)
        content = file.read(wanted * dtype.itemsize)
        yield start, np.frombuffer(content, dtype, wanted)
        start += wanted


def main() -> int:
    """Prints the survey as one JSON document."""
    folder, label = Path(sys.argv[1]), sys.argv[2]
    enter([folder])
    sys.stdout.write(json.dumps(asdict(survey(folder, label))) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
