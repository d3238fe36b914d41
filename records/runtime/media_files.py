"""Folders of pictures or WAV files: the folder of a file is its label.

Letters: `n` records, `c` channels.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starling.protocol.errors import ConfigError
from starling.protocol.model.training_bundle import Preprocessing
from starling.records.data_options import DataOptions
from starling.records.errors import DataError, counted, refuse_unprintable
from starling.records.formats import sound
from starling.records.record_set import LABELS, Division, RecordSet
from starling.records.runtime import pictures
from starling.records.runtime.pictures import HEAD_BYTES_MAX, file_start


@dataclass(frozen=True)
class MediaFile:
    """One file.

    Attributes:
      path: Where it is.
      label: The folder that it is in.
      board: The folder around that; empty if that is the whole.
    """

    path: Path
    label: str
    board: str

    @property
    def shown(self) -> str:
        """Name in a board's reports, which tell no path."""
        return f"{self.label}/{self.path.name}"


def found_in(root: Path) -> Iterator[MediaFile]:
    """Pictures and WAV files, one or two folders deep, in order of name."""
    known = (*pictures.SUFFIXES, *sound.SUFFIXES)
    # Links to folders are not followed: none leads out of the data, or round in a
    # circle.
    for folder, below, names in os.walk(root):
        parts = Path(folder).relative_to(root).parts
        # Nothing deeper is looked at, however much there is.
        below[:] = sorted(name for name in below if name[0] != "." and len(parts) < 2)
        if not parts:
            continue
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in known:
                board = parts[0] if len(parts) == 2 else ""
                yield MediaFile(Path(folder) / name, parts[-1], board)


def read_pictures(root: Path, asked: DataOptions) -> RecordSet:
    """X (n, c, height, width), scaled from pixels to [0, 1] by the bundle.

    Raises:
      ConfigError: Naming the file that cannot be read or has another size.
    """
    _refuse_columns(root, asked)
    files = _listed(root, pictures.SUFFIXES, "pictures")
    x: NDArray[np.float32] | None = None
    for place, file in enumerate(files):
        pixels = pictures.read_picture(file.path, str(file.path))
        # Room for all of them at once, by the first: a list of arrays would need it
        # twice.
        if x is None:
            x = np.empty((len(files), *pixels.shape), np.float32)
        if pixels.shape != x.shape[1:]:
            raise DataError(
                f"{_size(pixels)}, where {files[0].path.name} has {_size(x[0])}: bring "
                f"all to one {'size' if len(pixels) == len(x[0]) else 'kind'}",
                file=str(file.path),
            )
        x[place] = pixels
    assert x is not None
    return _records(root, files, x, pictures.SCALE, np.arange(len(files)))


def _size(record: NDArray[Any]) -> str:
    if record.ndim == 2:
        return f"{record.shape[1]:,} samples on {counted(record.shape[0], 'channel')}"
    channels, height, width = record.shape
    kind = "grey" if channels == 1 else "in colours"
    return f"{width} x {height} pixels {kind}"


def read_sounds(root: Path, asked: DataOptions) -> RecordSet:
    """X (n, c, samples): whole files, or windows of them.

    Raises:
      ConfigError: Naming the file that cannot be read, is cut short or differs.
    """
    _refuse_columns(root, asked)
    files = _listed(root, sound.SUFFIXES, "WAV files")
    parts = list[NDArray[np.float32]]()
    owners, rate = [], 0
    for place, file in enumerate(files):
        samples, found = sound.read_wav(file_start(file.path, None), str(file.path))
        rate = rate or found
        if found != rate:
            raise DataError(
                f"{found} samples a second, where {files[0].path.name} has {rate}: "
                f"bring all to one rate, as sox -r {rate} does",
                file=str(file.path),
            )
        cut = _windows(samples, asked, file.path)
        if parts and cut.shape[1:] != parts[0].shape[1:]:
            raise DataError(
                f"{_size(cut[0])}, where {files[0].path.name} has "
                f"{_size(parts[0][0])}: cut all to one length, or give a --window",
                file=str(file.path),
            )
        parts.append(cut.astype(np.float32))
        owners.append(np.full(len(cut), place))
    x, owner = np.concatenate(parts), np.concatenate(owners)
    made = _records(root, files, x, sound.SCALE, owner)
    if not asked.window:
        return made
    # Windows of one file are never both learned and tested.
    names = tuple([str(file.path.relative_to(root)) for file in files])
    groups = Division(owner.astype(np.int32), names)
    # So many windows hold one sample: what is private is the sample, and it counts in
    # each.
    reuse = -(-asked.window // asked.step)
    return replace(made, groups=groups, reuse=reuse)


def read_record(
    path: Path, shown: str, shape: tuple[int, ...] | None = None
) -> NDArray[Any]:
    """A file as one record; no more of it is read than a known shape takes.

    Args:
      path: The file.
      shown: As messages name it.
      shape: (c, height, width), (c, samples), or the same with fewer axes; None for
        any.

    Raises:
      DataError: If it is no such file, is cut short, or of another size.
      ConfigError: If Pillow is needed and missing, or the file cannot be read.
    """
    count = None if shape is None else math.prod(shape)
    if path.suffix.lower() in sound.SUFFIXES:
        most = None if count is None else 2 * count + HEAD_BYTES_MAX
        # One byte more shows that there is more, without reading it.
        content = file_start(path, None if most is None else most + 1)
        if most is not None and len(content) > most:
            raise DataError(f"over {count:,} samples: cut it", file=shown)
        found: NDArray[Any] = sound.read_wav(content, shown)[0]
    else:
        size = shape[-2:] if shape is not None and len(shape) > 1 else None
        found = pictures.read_picture(path, shown, size)
    if shape is None:
        return found
    if found.size != count or (found.ndim == len(shape) and found.shape != shape):
        raise DataError(
            f"{_size(found)}, where the model takes {shape}: bring it to that",
            file=shown,
        )
    return found.reshape(shape)


def fault_text(error: Exception) -> str:
    """Words for what kept a file from being a record, without its name."""
    if isinstance(error, ConfigError):
        return error.detail
    if isinstance(error, MemoryError):
        return "needs more memory than there is: make it smaller"
    return f"cannot be read ({type(error).__name__})"


def _windows(
    samples: NDArray[np.int16], asked: DataOptions, path: Path
) -> NDArray[np.int16]:
    """(k, c, samples) of one file."""
    if not asked.window:
        return samples[None]
    length = samples.shape[1]
    if length < asked.window:
        raise DataError(
            f"{length:,} samples are no window of {asked.window:,}", file=str(path)
        )
    starts = range(0, length - asked.window + 1, asked.step)
    return np.stack([samples[:, at : at + asked.window] for at in starts])


def _refuse_columns(root: Path, asked: DataOptions) -> None:
    named = [*asked.targets, asked.board_column, asked.group]
    if any(named):
        raise DataError(
            "files have no columns: their folder is the label, the folder around it "
            "the board",
            file=str(root),
        )


def _listed(root: Path, suffixes: tuple[str, ...], what: str) -> list[MediaFile]:
    files = list(found_in(root))
    odd = [file for file in files if file.path.suffix.lower() not in suffixes]
    if odd:
        raise DataError(f"stands among {what}: keep one kind", file=str(odd[0].path))
    shallow = [file for file in files if not file.board]
    if shallow and len(shallow) < len(files):
        raise DataError(
            "is not in a class's folder of a board, as others are",
            file=str(shallow[0].path),
        )
    labels = {file.label for file in files}
    if len(labels) < 2:
        raise DataError(
            f"one class alone, {min(labels)!r}: a label needs two folders",
            file=str(root),
        )
    for folder in sorted(entry for entry in root.iterdir() if entry.is_dir()):
        owners = {file.label if not file.board else file.board for file in files}
        if folder.name[0] != "." and folder.name not in owners:
            raise DataError(
                f"holds no {what}: fill it, or take it away", file=str(folder)
            )
    return files


def _records(
    root: Path,
    files: list[MediaFile],
    x: NDArray[np.float32],
    scale: float,
    owner: NDArray[Any],
) -> RecordSet:
    classes = tuple(sorted({file.label for file in files}))
    refuse_unprintable(classes, str(root))
    labels = np.array([classes.index(file.label) for file in files], np.int64)[owner]
    names = tuple(dict.fromkeys([file.board for file in files]))
    codes = np.array([names.index(file.board) for file in files], np.int32)[owner]
    boards = Division(codes, names) if len(names) > 1 else None
    return RecordSet(
        root.name, x, labels, LABELS, classes, Preprocessing((scale,)), boards=boards
    )
