"""Data sets by name, read from this machine only, and the boards' folders."""

import io
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from starling.durable.files import read_limited, write_atomic
from starling.fleet.datasets.mnist_idx import read_idx
from starling.fleet.datasets.partition import Examples, checked_examples, hold_out
from starling.protocol.errors import ConfigError, StorageError

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
      training: What the boards share.
      held_out: From the training data too; the coordinator evaluates on it.
      test: Seen by nobody before the run is over; None where there is none.
      classes: Labels are below this.
    """

    name: str
    training: Examples
    held_out: Examples
    test: Examples | None
    classes: int


def open_data_set(name: str, rng: np.random.Generator) -> FleetDataSet:
    """Reads a data set and holds some of its training part out.

    Args:
      name: `digits`, `mnist`, a folder with the four MNIST files, or an .npz file with
        x (n, ...) and y (n,).
      rng: Decides what is held out.

    Raises:
      ConfigError: Naming what is missing or wrong, and where it was looked for.
    """
    training, test = _read(name)
    label = name if name in {"digits", "mnist"} else Path(name).stem
    count = _HELD_OUT.get(label, max(1, int(len(training) * _HELD_OUT_SHARE)))
    shared, held_out = hold_out(training, min(count, len(training) - 1), rng)
    classes = max(2, int(training.y.max()) + 1)
    return FleetDataSet(label, shared, held_out, test, classes)


def _read(name: str) -> tuple[Examples, Examples | None]:
    if name == "digits":
        return _digits(), None
    if name == "mnist":
        return read_mnist(_mnist_folders())
    path = Path(name)
    if path.is_dir():
        return read_mnist([path])
    if path.suffix == ".npz":
        return _npz(path), None
    raise ConfigError(
        f"{name!r} is not digits, mnist, a folder with the MNIST files, or an .npz "
        "file with arrays x and y",
        key="--data",
    )


def _digits() -> Examples:
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


def _npz(path: Path) -> Examples:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if not {"x", "y"} <= set(arrays.files):
                raise ConfigError(
                    f"expected arrays x and y, found {arrays.files}", file=str(path)
                )
            return checked_examples(arrays["x"], arrays["y"], str(path))
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ConfigError(f"cannot be read: {error}", file=str(path)) from error


def write_examples(path: Path, examples: Examples) -> None:
    """Writes arrays x and y as one .npz, whole or not at all; makes its folder.

    Raises:
      StorageError: If the disk refuses.
    """
    buffer = io.BytesIO()
    np.savez(buffer, x=examples.x, y=examples.y)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, buffer.getvalue())
