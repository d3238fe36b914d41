"""Opens a file whose bundle is known, whatever kind of file it is."""

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starling.protocol.model.training_bundle import BundleManifest
from starling.records.bundle_rows import (
    PIECE_BYTES,
    PIECE_RECORDS,
    KnownPiece,
    csv_records,
    known_table,
    npz_records,
)
from starling.records.errors import DataError
from starling.records.record_set import LABELS
from starling.records.runtime.media_files import (
    fault_text,
    found_in,
    read_record,
)
from starling.records.runtime.parquet_files import SUFFIXES as PARQUET
from starling.records.runtime.parquet_files import open_parquet
from starling.records.runtime.sources import ARRAYS, file_blocks
from starling.records.tables.table_records import label_of

_BLOCK_BYTES = 1 << 16
"""Small, since a board's memory is for records."""


def known_pieces(
    path: Path, manifest: BundleManifest, label: str, places_max: int | None
) -> Iterator[KnownPiece]:
    """Records of a file, a piece at a time.

    Args:
      path: The file, or a folder with a folder of pictures or sounds for each class.
      manifest: The bundle's; says what one record is.
      label: Name of the target where the bundle knows no columns; empty for the last.
      places_max: How many are wanted at most; None for all. More may come.

    Raises:
      DataError: If there are no records of this bundle in it.
      Exception: Of any kind, if it is no such file.
    """
    suffix, name = path.suffix.lower(), path.name
    if path.is_dir():
        yield from _media_records(path, manifest)
    elif suffix in ARRAYS:
        with path.open("rb") as content:
            # One at least, so that what comes beyond is seen.
            most = None if places_max is None else max(1, places_max)
            yield from npz_records(content, manifest, most, name)
    elif suffix in PARQUET:
        with open_parquet(path, name) as table:
            known = known_table(table.names, manifest, label, name)
            yield from known.records(table.pieces(known.columns), name)
    else:
        yield from csv_records(file_blocks(path, _BLOCK_BYTES), manifest, label, name)


def _media_records(folder: Path, manifest: BundleManifest) -> Iterator[KnownPiece]:
    """A record of each file, decoded when its piece is wanted.

    A file that is none, or of no class of the model, is a fault and changes no other.

    Raises:
      DataError: If the model knows no classes by name.
    """
    if manifest.loss != LABELS or not manifest.classes:
        raise DataError(
            "the model has no classes by name, so that folders are no labels: write an "
            ".npz file",
            file=folder.name,
        )
    shape = manifest.input.shape
    each = max(1, min(PIECE_RECORDS, PIECE_BYTES // max(1, math.prod(shape))))
    files = enumerate(file for file in found_in(folder) if not file.board)
    while batch := list(islice(files, each)):
        found, faults = list[tuple[NDArray[Any], int, int]](), list[DataError]()
        for place, file in batch:
            label = label_of(file.label, manifest.classes)
            # Before the file is decoded, which takes most of the time.
            if label < 0:
                wrong = "its folder is none of the model's classes"
                faults.append(DataError(wrong, file=file.shown, at=place))
                continue
            try:
                record = read_record(file.path, file.shown, shape)
            except Exception as error:  # noqa: BLE001 - no content of a file may change others
                wrong = fault_text(error)
                faults.append(DataError(wrong, file=file.shown, at=place))
            else:
                found.append((record, label, place))
        x = np.array([record for record, _, _ in found]).reshape(len(found), *shape)
        y = np.array([label for _, label, _ in found], np.int64)
        at = np.array([place for _, _, place in found], np.int64)
        yield KnownPiece(x, y, at, tuple(faults))
