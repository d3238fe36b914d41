"""Opens a file whose bundle is known, whatever kind of file it is."""

from collections.abc import Iterator
from pathlib import Path

from starling.protocol.model.training_bundle import BundleManifest
from starling.records.known_rows import (
    KnownPiece,
    csv_records,
    known_table,
    npz_records,
)
from starling.records.runtime.parquet_files import SUFFIXES as PARQUET
from starling.records.runtime.parquet_files import open_parquet
from starling.records.runtime.sources import ARRAYS, file_blocks

_BLOCK_BYTES = 1 << 16
"""Small, since a board's memory is for records."""


def known_pieces(
    path: Path, manifest: BundleManifest, label: str, places_max: int | None
) -> Iterator[KnownPiece]:
    """Records of a file, a piece at a time.

    Args:
      path: The file.
      manifest: The bundle's; says what one record is.
      label: Name of the target where the bundle knows no columns; empty for the last.
      places_max: How many are wanted at most; None for all. More may come.

    Raises:
      DataError: If there are no records of this bundle in it.
      Exception: Of any kind, if it is no such file.
    """
    suffix, name = path.suffix.lower(), path.name
    if suffix in ARRAYS:
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
