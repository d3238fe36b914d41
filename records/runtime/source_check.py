"""Reads data as far as it goes and gathers all that stands in the way."""

from pathlib import Path

import numpy as np

from starling.protocol.errors import ConfigError
from starling.records.data_options import DataOptions
from starling.records.errors import DataError
from starling.records.record_set import RecordSet
from starling.records.runtime.sources import (
    TABLES,
    SourceFiles,
    find_files,
    read_source,
    read_tables,
)
from starling.records.scaling import with_scales
from starling.records.tables.table_plan import plan_table

FAULTS_MAX = 20


def check_source(
    path: Path, asked: DataOptions
) -> tuple[RecordSet | None, list[DataError]]:
    """Reads a source as far as it goes, and gathers its faults.

    Returns:
      The records, scaled as declared; None if something is wrong. Up to `FAULTS_MAX`
      faults, one for each file or column.
    """
    faults: list[DataError] = []
    try:
        files = find_files(path)
        if files.suffix in TABLES:
            _look_into(files, asked, faults)
        if not faults:
            # Only if the first look found nothing: what it says would be the same fault
            # once more.
            records = read_source(path, asked)
            return with_scales(records, asked, np.arange(len(records))), []
    except ConfigError as error:
        fault = _as_fault(error)
        if str(fault) not in map(str, faults):
            faults.append(fault)
    return None, faults[:FAULTS_MAX]


def _look_into(files: SourceFiles, asked: DataOptions, faults: list[DataError]) -> None:
    table = read_tables(files, asked, faults)
    plan_table(table, asked, faults)


def _as_fault(error: ConfigError) -> DataError:
    if isinstance(error, DataError):
        return error
    place = ": ".join(filter(None, (error.file, error.key)))
    return DataError(error.detail, file=place)
