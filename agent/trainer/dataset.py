"""The board's data set: a folder of `.npz` and `.csv` files, read in order of name.

An `.npz` file holds `x (n, *input)` and `y (n, *target)`. A `.csv` file holds one
record a line, numbers only but for an optional first line of column names; one column
is the target (the last one, or the one configured), the others are the input. Where the
bundle names its columns, the file is read by their names (`agent.trainer.table_files`).

One record never decides over another: what is wrong with a record makes that record
unusable and changes nothing else, and no record can stop the reading. So each line of a
CSV file is parsed by itself, and its width is the model's. What is wrong is named by
file and row, and never by the value.

Letters: `n` records.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starling.agent.trainer.dataset_files import (
    Complaints,
    RecordQuota,
    csv_pieces,
    npz_pieces,
)
from starling.agent.trainer.table_files import table_pieces
from starling.agent.training.trainer_messages import (
    COMPLAINT_CHARS_MAX,
    COMPLAINTS_MAX,
    DataFacts,
)
from starling.protocol.errors import ConfigError
from starling.protocol.model.training_bundle import (
    BundleManifest,
    Preprocessing,
    TensorSpec,
)
from starling.records.csv_cells import is_numeric
from starling.records.scaling import scaled_targets

FILES_MAX = 4096
SUFFIXES = (".npz", ".csv")
READING_BYTES = 4 << 20
"""What the pieces take beside the records, at most a few of them at a time."""
_COPIES = 2
"""A record stands in its file's part and in the whole."""
_INDEX_BYTES = 16
"""For each record, of whoever deals them out."""
_NUMBERS = "iufb"
_TEXTS = "US"
_INT64_END = 2.0**63
Rows = NDArray[np.bool_]
"""(n,) which records are usable."""


@dataclass(frozen=True)
class BoardDataSet:
    """Usable records, ready for the graphs.

    Attributes:
      x: (n, *input), pre-processed, of the bundle's kind.
      y: (n, *target), of the bundle's kind.
      complaints: About all others.
    """

    x: NDArray[Any]
    y: NDArray[Any]
    complaints: Complaints

    def facts(self, *, thorough: bool = False) -> DataFacts:
        """Facts for the data's owner; `thorough` looks for duplicates, too."""
        said = self.complaints
        found = _duplicates(self.x, self.y) if thorough else 0
        return DataFacts(len(self.x), said.unusable, found, tuple(said.first))


def data_files(folder: Path) -> list[Path]:
    """The data files of a folder, in order of name; or the one file that is named.

    Raises:
      ConfigError: If there is no such folder, no data file in it, or too many.
    """
    if folder.suffix in SUFFIXES and folder.is_file():
        return [folder]
    try:
        found = sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES)
    except OSError as error:
        raise ConfigError(
            f"cannot be read: {error.strerror}", file=str(folder)
        ) from error
    if not found:
        raise ConfigError("has no .npz or .csv file", file=str(folder))
    if len(found) > FILES_MAX:
        raise ConfigError(f"more than {FILES_MAX} data files", file=str(folder))
    return found


def records_max(manifest: BundleManifest, bytes_max: int) -> int | None:
    """Maximum number of records to read; None without a bound.

    A function of the limit and of what one record is, and of no record.

    Args:
      manifest: The bundle's.
      bytes_max: What reading may take at its peak; 0 for no limit.
    """
    if not bytes_max:
        return None
    ports = manifest.input, manifest.target
    sizes = [math.prod(p.shape) * np.dtype(p.dtype).itemsize for p in ports]
    one = _COPIES * sum(sizes) + _INDEX_BYTES
    return max(0, bytes_max - READING_BYTES) // one


def read_dataset(
    folder: Path, manifest: BundleManifest, label: str = "", bytes_max: int = 0
) -> BoardDataSet:
    """Reads all records that can be used, up to a number of places in the files.

    Args:
      folder: Where the files are.
      manifest: The bundle's; says what one record is.
      label: The target's column in CSV files; empty for the last one.
      bytes_max: What reading may take at its peak; 0 for no limit. The first
        `records_max` places count, usable or not, and what stands after them is none.

    Raises:
      ConfigError: If there are no data files; for nothing that is in them.
    """
    said = Complaints()
    most = records_max(manifest, bytes_max)
    room = RecordQuota(most)
    parts = []
    for path in data_files(folder):
        parts += _read(path, manifest, label, said, room)
    if room.passed:
        text = f"{room.passed}: beyond {most} records; raise training.memory_mb"
        said.first.insert(0, text[:COMPLAINT_CHARS_MAX])
        del said.first[COMPLAINTS_MAX:]
    parts = parts or [_none(manifest)]
    if len(parts) == 1:
        x, y = parts[0]
    else:
        x = np.concatenate([part[0] for part in parts])
        y = np.concatenate([part[1] for part in parts])
    with np.errstate(all="ignore"):
        y = scaled_targets(y, manifest.table)
        return BoardDataSet(_preprocessed(x, manifest.preprocessing), y, said)


def no_records(manifest: BundleManifest) -> BoardDataSet:
    """A data set of no record."""
    return BoardDataSet(*_none(manifest), Complaints())


def _none(manifest: BundleManifest) -> tuple[NDArray[Any], NDArray[Any]]:
    ports = manifest.input, manifest.target
    x, y = [np.zeros((0, *port.shape), port.dtype) for port in ports]
    return x, y


def _read(
    path: Path,
    manifest: BundleManifest,
    label: str,
    said: Complaints,
    room: RecordQuota,
) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """The usable records of one file, in pieces."""
    parts = []
    try:
        table = manifest.table
        by_name = table is not None and bool(table.columns)
        pieces = table_pieces if by_name else csv_pieces
        pieces = npz_pieces if path.suffix == ".npz" else pieces
        for raw_x, raw_y, name_of in pieces(path, manifest, label, said, room):
            with np.errstate(all="ignore"):
                parts.append(_usable(raw_x, raw_y, name_of, manifest, said))
    except Exception as error:  # noqa: BLE001 - no content of a file may stop a board; its text could show values
        said.about(f"{path.name}: cannot be read ({type(error).__name__})")
        return []
    return parts


def _usable(
    raw_x: NDArray[Any],
    raw_y: NDArray[Any],
    name_of: Callable[[int], str],
    manifest: BundleManifest,
    said: Complaints,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Records whose values are what the model takes; the others are complained of."""
    x, good_x = _converted(raw_x, manifest.input)
    y, good_y = _converted(raw_y, manifest.target)
    checks = [("x is no finite number of its kind", good_x)]
    checks += [("y is no finite number of its kind", good_y)]
    checks += [("x is not in the model's table", _in_tables(x, manifest))]
    if manifest.loss == "cross-entropy":
        classes = math.prod(manifest.output.shape)
        flat = _flat(y)
        inside = (flat >= 0) & (flat < classes)
        checks += [("y is none of the model's classes", _all_of_row(inside))]
    usable = np.ones(len(x), np.bool_)
    for text, good in checks:
        for row in np.flatnonzero(usable & ~good):
            said.about(f"{name_of(int(row))}: {text}")
        usable &= good
    return (x, y) if usable.all() else (x[usable], y[usable])


def _converted(raw: NDArray[Any], port: TensorSpec) -> tuple[NDArray[Any], Rows]:
    """The records as the model takes them, and which of them are sound."""
    if raw.dtype.kind in _TEXTS:
        raw = _from_texts(raw)
    if raw.dtype.kind not in _NUMBERS:
        return np.zeros((len(raw), *port.shape), port.dtype), np.zeros(len(raw), bool)
    flat = _flat(raw)
    good = np.isfinite(flat).all(axis=1)
    if port.dtype == "int64" and raw.dtype.kind in "uf":
        good &= (np.abs(flat) < _INT64_END).all(axis=1)
        good &= (flat == np.rint(flat)).all(axis=1)
    if not good.all():
        raw = np.where(good.reshape(-1, *(1,) * (raw.ndim - 1)), raw, 0)
    found = raw.reshape(len(raw), *port.shape).astype(port.dtype)
    if port.dtype != "int64":
        good &= np.isfinite(_flat(found)).all(axis=1)
    return found, good


def _from_texts(raw: NDArray[Any]) -> NDArray[np.float64]:
    """Numbers that are written out; one record that is none makes texts of all."""
    found = np.full(raw.shape, np.nan)
    for place, cell in np.ndenumerate(raw):
        if is_numeric([cell]):
            found[place] = float(cell)
    return found


def _flat(records: NDArray[Any]) -> NDArray[Any]:
    """(n, k); also for no record at all."""
    return records.reshape(len(records), math.prod(records.shape[1:]))


def _all_of_row(places: Rows) -> Rows:
    """(n,) from (n, k)."""
    return np.asarray(places.all(axis=1), np.bool_)


def _in_tables(x: NDArray[Any], manifest: BundleManifest) -> Rows:
    flat = _flat(x)
    good = np.ones(len(x), np.bool_)
    for table in manifest.tables:
        places = flat[:, table.start : table.start + table.size]
        whole = (places == np.rint(places)) & (places >= 0) & (places < table.rows)
        good &= whole.all(axis=1)
    return good


def _preprocessed(x: NDArray[Any], step: Preprocessing) -> NDArray[Any]:
    if x.dtype.kind != "f" or (step.scale, step.offset) == ((1.0,), (0.0,)):
        return x
    trailing = (1,) * max(0, x.ndim - 2)
    scale = np.array(step.scale, np.float32).reshape(-1, *trailing)
    offset = np.array(step.offset, np.float32).reshape(-1, *trailing)
    # In place: the whole is there once.
    x *= scale
    x += offset
    return x


def _duplicates(x: NDArray[Any], y: NDArray[Any]) -> int:
    """Number of records that equal an earlier one to the bit."""
    seen = {
        blake2b(row.tobytes() + target.tobytes(), digest_size=16).digest()
        for row, target in zip(x, y, strict=True)
    }
    return len(x) - len(seen)
