"""The board's data set: `.npz` files and tables, or folders of pictures or sounds.

They are read in order of name, by the rules of `records`: an `.npz` file holds
`x (n, *input)` and `y (n, *target)`, a table one record a row. Where the bundle names
its columns, a table is read by their names; else it holds numbers only, and one column
is the target (the last one, or the one configured). A picture or WAV file is a record,
its folder the name of its class.

One record never decides over another: what is wrong with a record makes that record
unusable and changes nothing else, and no record can stop the reading. How far is read
depends on places alone, usable or not. What is wrong is named by file and row, and
never by the value.

Letters: `n` records.
"""

import math
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starling.agent.training.trainer_messages import (
    COMPLAINT_CHARS_MAX,
    COMPLAINTS_MAX,
    DataFacts,
)
from starling.protocol.errors import ConfigError
from starling.protocol.model.training_bundle import (
    BundleManifest,
    TensorSpec,
)
from starling.records.bundle_rows import KnownPiece
from starling.records.errors import DataError
from starling.records.formats.csv_cells import is_numeric
from starling.records.runtime.bundle_files import known_pieces
from starling.records.runtime.media_files import found_in
from starling.records.runtime.sources import ARRAYS, TABLES, TEXT_TABLES
from starling.records.scaling import scaled_inputs, scaled_targets

FILES_MAX = 4096
SUFFIXES = (*ARRAYS, *TABLES)
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


@dataclass
class Complaints:
    """Unusable records: a count, and the first few reasons.

    Attributes:
      unusable: How many records cannot be used; a file that is none counts as one.
      first: Why, of the first few.
      unclear: The first few files whose first line is neither names nor a record.
    """

    unusable: int = 0
    first: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)

    def about(self, text: str) -> None:
        """Notes a record that cannot be used."""
        self.unusable += 1
        if len(self.first) < COMPLAINTS_MAX:
            shown = "".join(c if c.isprintable() else "?" for c in text)
            self.first.append(shown[:COMPLAINT_CHARS_MAX])


@dataclass
class RecordQuota:
    """Number of records that may still be read; None for any number.

    Attributes:
      left: Places.
      passed: The first file with more than that.
    """

    left: int | None
    passed: str = ""

    def take(self, wanted: int) -> int:
        """So many of the places wanted, which are gone then."""
        if self.left is None:
            return wanted
        taken = min(wanted, self.left)
        self.left -= taken
        return taken


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
    """The data files of a folder, in order of name; or the one that is named.

    The folder itself, if it holds none but folders of pictures or WAV files.

    Raises:
      ConfigError: If there is no such folder, no data file in it, or too many.
    """
    if folder.suffix.lower() in SUFFIXES and folder.is_file():
        return [folder]
    try:
        found = sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
        )
    except OSError as error:
        raise ConfigError(
            f"cannot be read: {error.strerror}", file=str(folder)
        ) from error
    if not found and any(not file.board for file in found_in(folder)):
        return [folder]
    if not found:
        raise ConfigError(
            "has no .npz, .csv, .tsv or .parquet file, and no folders of pictures or "
            ".wav files by class",
            file=str(folder),
        )
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
        # In front: it stands for more records than any other complaint.
        said.first.insert(0, text[:COMPLAINT_CHARS_MAX])
        del said.first[COMPLAINTS_MAX:]
    parts = parts or [_none(manifest)]
    if len(parts) == 1:
        x, y = parts[0]
    else:
        x = np.concatenate([part[0] for part in parts])
        y = np.concatenate([part[1] for part in parts])
    return BoardDataSet(x, y, said)


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
        for piece in known_pieces(path, manifest, label, room.left):
            held = piece.first(room.take(len(piece)))
            for fault in held.faults:
                said.about(fault.unquoted)
                # Names of columns are no row: this line is neither these nor a record.
                if fault.row == 1 and path.suffix.lower() in TEXT_TABLES:
                    said.unclear = [*said.unclear, path.name][:COMPLAINTS_MAX]
            # What overflows is found below; a warning would only say that some record
            # does.
            with np.errstate(all="ignore"):
                parts.append(_usable(path, held, manifest, said))
            if len(held) < len(piece):
                room.passed = room.passed or path.name
                break
    except DataError as fault:
        said.about(fault.unquoted)
    except ConfigError as error:
        said.about(str(error))
    except Exception as error:  # noqa: BLE001 - no content of a file may stop a board; its text could show values
        said.about(f"{path.name}: cannot be read ({type(error).__name__})")
    # Pieces before a fault stay: a later record must not take earlier ones away.
    return parts


def _usable(
    path: Path, held: KnownPiece, manifest: BundleManifest, said: Complaints
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Records that the model takes, scaled for it; the others are complained of."""
    x, good_x = _converted(held.x, manifest.input)
    y, good_y = _converted(held.y, manifest.target)
    checks = [("x is no finite number of its kind", good_x)]
    checks += [("y is no finite number of its kind", good_y)]
    checks += [("x is not in the model's table", _in_tables(x, manifest))]
    # A class that the model lacks would index outside of its outputs.
    if manifest.loss == "cross-entropy":
        classes = math.prod(manifest.output.shape)
        flat = _flat(y)
        inside = (flat >= 0) & (flat < classes)
        checks += [("y is none of the model's classes", _all_of_row(inside))]
    usable = np.ones(len(x), np.bool_)
    noun = "record" if path.suffix.lower() in ARRAYS else "row"
    for text, good in checks:
        for row in np.flatnonzero(usable & ~good):
            said.about(f"{path.name}: {noun} {held.places[row]}: {text}")
        usable &= good
    x, y = (x, y) if usable.all() else (x[usable], y[usable])
    if x.dtype.kind == "f":
        x = scaled_inputs(x, manifest.preprocessing)
    return x, scaled_targets(y, manifest.table)


def _converted(raw: NDArray[Any], port: TensorSpec) -> tuple[NDArray[Any], Rows]:
    """The records as the model takes them, and which of them are sound."""
    if raw.dtype.kind in _TEXTS:
        raw = _from_texts(raw)
    if raw.dtype.kind not in _NUMBERS:
        return np.zeros((len(raw), *port.shape), port.dtype), np.zeros(len(raw), bool)
    flat = _flat(raw)
    good = np.isfinite(flat).all(axis=1)
    # The cast is undefined for a float beyond 2^63, wraps a uint64 around, and cuts a
    # fraction off.
    if port.dtype == "int64" and raw.dtype.kind in "uf":
        good &= (np.abs(flat) < _INT64_END).all(axis=1)
        good &= (flat == np.rint(flat)).all(axis=1)
    if not good.all():
        # Before the cast, whose result for a NaN is undefined; these rows are left out
        # by the caller.
        raw = np.where(good.reshape(-1, *(1,) * (raw.ndim - 1)), raw, 0)
    found = raw.reshape(len(raw), *port.shape).astype(port.dtype)
    # A float64 beyond float32's range is infinite after the cast.
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


def _duplicates(x: NDArray[Any], y: NDArray[Any]) -> int:
    """Number of records that equal an earlier one to the bit."""
    seen = {
        blake2b(row.tobytes() + target.tobytes(), digest_size=16).digest()
        for row, target in zip(x, y, strict=True)
    }
    return len(x) - len(seen)
