"""Data sets by name, read from this machine only, and the boards' folders."""

import io
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from starling.durable.files import read_limited, storage_errors, write_atomic
from starling.fleet.datasets.hold_out import held_out_rows
from starling.fleet.datasets.mnist_idx import read_idx
from starling.fleet.datasets.partition import Examples, checked_examples, hold_out
from starling.protocol.errors import ConfigError, StorageError
from starling.protocol.model.table_schema import TableSchema
from starling.protocol.model.training_bundle import Preprocessing
from starling.records.data_options import DEFAULT_OPTIONS, DataOptions
from starling.records.record_set import AS_IT_STANDS, LABELS, Division, RecordSet
from starling.records.runtime.sources import read_source
from starling.records.scaling import with_scales

MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_PIXEL_MAX = 255.0
_DIGITS_PIXEL_MAX = np.float32(16.0)
_DIGITS_FILE = Path(__file__).parents[1] / "datasets" / "digits.npz"
"""Installed with the package; its source and licence lie beside it."""
_FILE_BYTES_MAX = 1 << 30
_HELD_OUT = {"digits": 360, "mnist": 2000}
_HELD_OUT_SHARE = 0.1


@dataclass(frozen=True)
class FleetDataSet:
    """A data set with its division, before the boards share it.

    Attributes:
      name: `digits`, `mnist` or the file's stem.
      training: What the boards share, in the data's own units.
      held_out: From the training data too; the coordinator evaluates on it.
      test: Seen by nobody before the run is over; None where there is none.
      classes: Labels are below this; of numbers, how many a record has.
      loss: What fits the targets.
      labels: The label map; empty for numbers, and for labels without names.
      preprocessing: How the bundle says that x is scaled.
      table: What columns x and y are, and how targets are scaled.
      owners: Whose each training record is; None if nothing says so.
      reuse: Records in which one raw sample may stand.
      notes: What whoever looks at the run should know.
    """

    name: str
    training: Examples
    held_out: Examples
    test: Examples | None
    classes: int
    loss: str = LABELS
    labels: tuple[str, ...] = ()
    preprocessing: Preprocessing = AS_IT_STANDS
    table: TableSchema | None = None
    owners: Division | None = None
    reuse: int = 1
    notes: tuple[str, ...] = ()


def open_data_set(
    name: str, rng: np.random.Generator, asked: DataOptions = DEFAULT_OPTIONS
) -> FleetDataSet:
    """Reads a data set and holds some of its training part out.

    Args:
      name: `digits`, `mnist`, a folder with the four MNIST files, or a path for
        `records.runtime.sources.read_source`.
      rng: Decides what is held out.
      asked: What is learned from data of one's own.

    Raises:
      ConfigError: Naming what is missing or wrong, and where it was looked for.
    """
    if name not in _HELD_OUT and not _is_mnist(Path(name)):
        return _own(Path(name), rng, asked)
    if name == "digits":
        training, test = public_digits(), None
    else:
        folders = _mnist_folders() if name == "mnist" else [Path(name)]
        training, test = read_mnist(folders)
    label = name if name in _HELD_OUT else Path(name).stem
    count = _HELD_OUT.get(label, max(1, int(len(training) * _HELD_OUT_SHARE)))
    shared, held_out = hold_out(training, min(count, len(training) - 1), rng)
    classes = max(2, int(training.y.max()) + 1)
    return FleetDataSet(label, shared, held_out, test, classes)


def _is_mnist(path: Path) -> bool:
    """Tells if any file of a folder is one of MNIST's."""
    return path.is_dir() and len(_missing(path)) < len(MNIST_FILES)


def _own(path: Path, rng: np.random.Generator, asked: DataOptions) -> FleetDataSet:
    """Data of one's own."""
    records = read_source(path, asked)
    if len(records) < 2:
        raise ConfigError(
            "holds one record: one is learned from, and one tested on", file=str(path)
        )
    learned, tested = held_out_rows(records, rng)
    # Measured on the rows that are learned from: held-out ones must not shape the
    # inputs.
    records = with_scales(records, asked, learned)
    records = replace(records, notes=(*records.notes, *_one_class(records, learned)))
    # Without boards each group is one: its records stay together there, too.
    owners = records.boards or records.groups
    whole = Examples(records.x, records.y)
    return FleetDataSet(
        records.name,
        whole.take(learned),
        whole.take(tested),
        None,
        records.outputs,
        records.loss,
        records.classes,
        records.preprocessing,
        records.table,
        None if owners is None else owners.take(learned),
        records.reuse,
        records.notes,
    )


def _one_class(records: RecordSet, training: NDArray[np.int64]) -> list[str]:
    if records.loss != LABELS or len(np.unique(records.y[training])) > 1:
        return []
    return ["all records to learn from are of one class: no other is ever answered"]


def public_digits() -> Examples:
    """The 1,797 digits that come with Starling, x (n, 64) float32 in [0, 1]."""
    with np.load(_DIGITS_FILE, allow_pickle=False) as arrays:
        x, y = arrays["x"], arrays["y"]
    return Examples(x.astype(np.float32) / _DIGITS_PIXEL_MAX, y.astype(np.int64))


def _mnist_folders() -> list[Path]:
    named = os.environ.get("STARLING_DATA")
    roots = [Path(named)] if named else []
    roots.append(Path("../shared/data"))
    return [folder for root in roots for folder in (root / "mnist", root)]


def read_mnist(folders: list[Path]) -> tuple[Examples, Examples]:
    """Reads the four IDX files, raw or gzipped, from the first folder that has them.

    Args:
      folders: Where to look, in this order.

    Returns:
      Training and test examples, x (n, 1, 28, 28) in [0, 1].

    Raises:
      ConfigError: Naming the missing files and every folder that was looked in, or a
        damaged file.
    """
    # The fullest one: its message names what is missing, and not all four files.
    best = min(folders, key=lambda folder: len(_missing(folder)))
    missing = _missing(best)
    if missing:
        places = ", ".join(str(folder.resolve()) for folder in folders)
        raise ConfigError(
            f"missing {', '.join(missing)} (raw or .gz); looked in {places}; set "
            "STARLING_DATA to the folder that holds mnist/, or give a folder",
            key="--data mnist",
        )
    images, labels, test_images, test_labels = (
        read_idx(_content(found), str(found))
        for name in MNIST_FILES
        if (found := _present(best, name)) is not None
    )
    return _pictures(images, labels, best), _pictures(test_images, test_labels, best)


def _pictures(
    images: NDArray[np.uint8], labels: NDArray[np.uint8], folder: Path
) -> Examples:
    x = (images[:, None] / np.float32(_PIXEL_MAX)).astype(np.float32)
    return checked_examples(x, labels, str(folder))


def _missing(folder: Path) -> list[str]:
    return [name for name in MNIST_FILES if _present(folder, name) is None]


def _present(folder: Path, name: str) -> Path | None:
    for file in (folder / name, folder / f"{name}.gz"):
        if file.is_file():
            return file
    return None


def _content(path: Path) -> bytes:
    try:
        return read_limited(path, _FILE_BYTES_MAX)
    except StorageError as error:
        raise ConfigError(str(error), key="--data") from error


def write_examples(path: Path, examples: Examples) -> None:
    """Writes arrays x and y as one .npz, whole or not at all; makes its folder.

    Raises:
      StorageError: If the disk refuses.
    """
    with storage_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, examples_file(examples))


def examples_file(examples: Examples) -> bytes:
    """Arrays x and y as an .npz file; the same bytes for the same examples."""
    buffer = io.BytesIO()
    np.savez(buffer, x=examples.x, y=examples.y)
    return buffer.getvalue()
