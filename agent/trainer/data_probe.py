"""Looks at a data set without a model: `python -m ... data_probe FOLDER LABEL MIB`.

Columns are texts or numbers by what stands in them, since no bundle says it. What is
wrong is named by file, row and column, and never by the value. The files are hostile
bytes: the process confines itself before it opens the first of them, with the memory of
a trainer, and reads a piece at a time.
"""

import json
import math
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from starling.agent.trainer.dataset import data_files
from starling.protocol.errors import ConfigError
from starling.records.bundle_rows import LINE_BYTES_MAX
from starling.records.data_options import DEFAULT_OPTIONS
from starling.records.errors import DataError, shown
from starling.records.formats.npz_arrays import NpzArray, open_npz
from starling.records.runtime.media_files import fault_text, found_in, read_record
from starling.records.runtime.sources import ARRAYS, TEXT_TABLES, open_table
from starling.sandbox.confinement import enter, limit_memory

FAULTS_MAX = 5
_PIECE_BYTES = 1 << 20
_NUMBERS = "iufb"
_TOO_LARGE = (
    "needs more memory than a trainer has: make records or files smaller, or raise "
    "training.memory_mb"
)


@dataclass
class DataSurvey:
    """Summary of a data set.

    Attributes:
      files: How many data files there are.
      records: That can be used.
      unusable: That cannot; a file that is none counts as one.
      faults: Where the first of these are, and why.
      refusal: Why there is no data set at all; empty if there is one.
      is_table: Whether there are texts, or another delimiter than a comma: records for
        a bundle that knows the columns, which is not asked here.
    """

    files: int = 0
    records: int = 0
    unusable: int = 0
    faults: list[str] = field(default_factory=list)
    refusal: str = ""
    is_table: bool = False

    def fault(self, text: str) -> None:
        """Notes a record that cannot be used."""
        self.unusable += 1
        if len(self.faults) < FAULTS_MAX:
            # Names of files are bytes of any kind.
            shown = "".join(c if c.isprintable() else "?" for c in text)
            self.faults.append(shown)


def survey(folder: Path, label: str) -> DataSurvey:
    """Looks at every record.

    Args:
      folder: Of the data set.
      label: The target's column in tables; empty for the last one.
    """
    found = DataSurvey()
    try:
        files = data_files(folder)
    except ConfigError as error:
        found.refusal = str(error)
        return found
    found.files = len(files)
    for path in files:
        look = _look_at_npz if path.suffix.lower() in ARRAYS else _look_at_table
        if path.is_dir():
            look = _look_at_media
        try:
            look(path, label, found)
        except DataError as fault:
            is_text = path.suffix.lower() in TEXT_TABLES
            found.fault(_file_fault(fault) if is_text else fault.unquoted)
        except ConfigError as error:
            found.fault(str(error))
        except MemoryError:
            found.fault(f"{path.name}: {_TOO_LARGE}")
        except Exception as error:  # noqa: BLE001 - no content of a file may stop it; its text could show values
            found.fault(f"{path.name}: cannot be read ({type(error).__name__})")
    return found


def _look_at_table(path: Path, label: str, found: DataSurvey) -> None:
    with open_table(path, path.name, DEFAULT_OPTIONS, LINE_BYTES_MAX) as opened:
        columns, pieces = opened
        if label and label not in columns.names:
            raise DataError("lacks the column that data.label names", file=path.name)
        found.is_table |= bool(columns.texts) or columns.delimiter != ","
        for piece in pieces:
            lacking = np.isnan(piece.numbers)
            whole = ~lacking.any(axis=1)
            found.records += int(whole.sum())
            for fault in piece.faults:
                found.fault(fault.unquoted)
            for row in np.flatnonzero(~whole):
                place = columns.numbers[int(lacking[row].argmax())]
                line, name = piece.lines[row], columns.names[place]
                found.fault(f"{path.name}: row {line}, column {shown(name)}: no value")


def _look_at_media(path: Path, label: str, found: DataSurvey) -> None:
    del label
    found.files = 0
    for file in found_in(path):
        if file.board:
            continue
        found.files += 1
        try:
            read_record(file.path, file.shown)
        except Exception as error:  # noqa: BLE001 - as in `survey`
            found.fault(f"{file.shown}: {fault_text(error)}")
        else:
            found.records += 1


def _file_fault(fault: DataError) -> str:
    """Fault of a whole CSV file, in one line.

    If its first line is no good line of names, it may be a record: it is not quoted.
    """
    return fault.unquoted.replace(f"column {shown(fault.column)}", "a column")


def _look_at_npz(path: Path, label: str, found: DataSurvey) -> None:
    del label
    bad: dict[int, str] = {}
    with (
        path.open("rb") as content,
        open_npz(content, ("x", "y"), path.name) as arrays,
    ):
        counts = [arrays[name].count for name in ("x", "y")]
        for name, array in arrays.items():
            _look_at_array(array, name, path.name, bad)
    if counts[0] != counts[1]:
        found.fault(f"{path.name}: {counts[0]} records of x, {counts[1]} of y")
    count = min(counts)
    wrong = sorted(row for row in bad if row < count)
    for row in wrong:
        found.fault(f"{path.name}: record {row + 1}, {bad[row]}")
    found.records += count - len(wrong)


def _look_at_array(array: NpzArray, name: str, file: str, bad: dict[int, str]) -> None:
    """Notes what is wrong with records of one array."""
    if array.dtype.kind not in _NUMBERS:
        raise DataError(f"{name} holds no numbers", file=file)
    # In pieces, since an array may be larger than the memory.
    each = max(1, _PIECE_BYTES // max(1, array.bytes))
    array.gather(array.count)
    for start in range(0, array.count, each):
        piece = array.next(min(each, array.count - start))
        flat = piece.reshape(len(piece), math.prod(array.shape))
        for row in np.flatnonzero(~np.isfinite(flat).all(axis=1)):
            column = int(np.flatnonzero(~np.isfinite(flat[row]))[0]) + 1
            text = f"{name}, column {column}: no finite number"
            bad.setdefault(start + int(row), text)


def main() -> int:
    """Prints the survey as one JSON document."""
    folder, label, memory_mb = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    # Before any file is opened: a small file may claim an array of any size.
    limit_memory(memory_mb)
    enter([folder])
    sys.stdout.write(json.dumps(asdict(survey(folder, label))) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
