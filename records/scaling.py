"""Scales that go into the bundle, and records scaled by them.

A scale is declared (bounds of a column, units of a pixel or sample) or, in simulation
alone, measured over the training records of all boards together. It never comes from
one board's data: a statistic that a board gives away is a release that nobody paid for.

Letters: `n` records, `v` values of a row, `t` targets.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from starling.protocol.model.table_schema import TableSchema, TargetColumn
from starling.protocol.model.training_bundle import Preprocessing
from starling.records.data_options import ColumnRule, DataOptions
from starling.records.record_set import LABELS, SHARES, RecordSet

POOLED_NOTE = (
    "scales of {columns} were measured over all boards together: simulation only, no "
    "epsilon covers it; a real task declares bounds"
)
_SPREADS = 2.0
"""Measured bounds lie so many standard deviations from the mean."""
_SCALE_MAX = 1e8
REACH_MAX = 100.0
"""Of an input as the model is fed it; beyond, steps that fit the others overshoot."""
REACH_MIN = 1e-3
"""Of the largest input; below, a model stays where it began."""
_PIECE_ROWS = 4096
Bounds = tuple[float, float]


def with_scales(
    records: RecordSet, asked: DataOptions, training: NDArray[np.int64]
) -> RecordSet:
    """Decides how inputs and targets are scaled, and says so in the set.

    Args:
      records: All of them, raw.
      asked: With what is declared, and what to do about the rest.
      training: Rows that may be measured; held-out ones may not.

    Returns:
      The same records; `preprocessing`, the targets of `table` and `notes` are new.
    """
    rules = asked.columns
    measured: list[str] = []
    preprocessing, table = records.preprocessing, records.table
    pooled = asked.scale == "pooled"
    if table is not None and table.columns:
        scales = []
        for place, column in _numbered(table):
            bounds = _bounds(rules, column, measured)
            if bounds is None and pooled and column:
                bounds = _measured(records.x[training, place])
            scales.append(_to_unit(bounds))
        preprocessing = Preprocessing(
            tuple([scale for scale, _ in scales]), tuple([shift for _, shift in scales])
        )
    if records.loss not in (LABELS, SHARES):
        table = _scaled_targets(records, rules, training if pooled else None, measured)
    else:
        # Shares are shares: nothing to scale.
        if records.loss == SHARES and table is None:
            table = TableSchema((), target_names(records.y.shape[1]))
        if not pooled:
            measured.clear()
    notes = records.notes
    if pooled and measured:
        shown = ", ".join(dict.fromkeys(measured))
        shown = shown if len(shown) <= 60 else f"{len(set(measured))} columns"
        notes = (*notes, POOLED_NOTE.format(columns=shown))
    made = replace(records, preprocessing=preprocessing, table=table)
    return replace(made, notes=(*notes, *_far_reaching(made, training)))


def _far_reaching(records: RecordSet, training: NDArray[np.int64]) -> list[str]:
    """Notes about inputs that are far from 1 as fed, or all the same: one at most."""
    if records.x.ndim != 2 or records.x.dtype.kind != "f" or not len(training):
        return []
    reach = np.zeros(records.x.shape[1])
    differs = False
    for start in range(0, len(training), _PIECE_ROWS):
        rows = records.x[training[start : start + _PIECE_ROWS]]
        fed = np.abs(scaled_inputs(rows, records.preprocessing))
        reach = np.fmax(reach, fed.max(axis=0))
        differs = differs or bool((rows != records.x[training[0]]).any())
    place = int(reach.argmax())
    if not reach[place] > REACH_MAX:
        return _too_little(float(reach[place]), differs=differs)
    name, table = f"input {place + 1}", records.table
    if table is not None and table.columns:
        name = _numbered(table)[place][1]
    others = int((reach > REACH_MAX).sum()) - 1
    shown = f"{name} and {others} others reach" if others else f"{name} reaches"
    return [
        f"{shown} {reach[place]:.4g}, the least of the inputs {reach.min():.4g}: "
        "training may diverge, and pay a budget for nothing; declare --bounds, or "
        "scale the data to about 1"
    ]


def _too_little(reach: float, *, differs: bool) -> list[str]:
    if not differs:
        return ["no input differs between records: there is nothing to learn from"]
    if reach >= REACH_MIN:
        return []
    return [
        f"no input reaches more than {reach:.3g}: steps of the usual size learn "
        "nothing from it, and pay a budget all the same; declare --bounds, or scale "
        "the data to about 1"
    ]


def _numbered(table: TableSchema) -> list[tuple[int, str]]:
    """Each value of a row with its column's name; categories have none to scale."""
    names = []
    for column in table.columns:
        names += [""] * column.size if column.categories else [column.name]
    return list(enumerate(names))


def _bounds(
    rules: Mapping[str, ColumnRule], column: str, measured: list[str]
) -> Bounds | None:
    if not column:
        return None
    rule = rules.get(column)
    if rule is None or rule.bounds is None:
        measured.append(column)
        return None
    return rule.bounds


def _measured(values: NDArray[Any]) -> Bounds | None:
    """Bounds between which most values lie; None where they are all the same."""
    # In float64: squares of what float32 holds are beyond it.
    mean = float(values.mean(dtype=np.float64))
    spread = float(values.std(dtype=np.float64))
    if not spread:
        return None
    return mean - _SPREADS * spread, mean + _SPREADS * spread


def _to_unit(bounds: Bounds | None) -> tuple[float, float]:
    """Scale and offset that lead from bounds to [-1, 1]; plain without any."""
    if bounds is None:
        return 1.0, 0.0
    least, most = bounds
    # Bounds may lie so close together that the quotient is beyond float32.
    scale = min(2.0 / (most - least), _SCALE_MAX)
    # Few digits, so that the numbers can be read and declared.
    scale = float(f"{scale:.6g}")
    return scale, float(f"{-scale * (least + most) / 2:.6g}")


def _scaled_targets(
    records: RecordSet,
    rules: Mapping[str, ColumnRule],
    training: NDArray[np.int64] | None,
    measured: list[str],
) -> TableSchema:
    known = records.table or TableSchema((), target_names(records.y.shape[1]))
    found = []
    for place, target in enumerate(known.targets):
        bounds = _bounds(rules, target.name, measured)
        if bounds is None and training is not None:
            bounds = _measured(records.y[training, place])
        found.append(TargetColumn(target.name, *_to_unit(bounds)))
    return replace(known, targets=tuple(found))


def target_names(count: int) -> tuple[TargetColumn, ...]:
    """Targets without names of their own: y, or y0, y1 and so on."""
    names = ["y"] if count == 1 else [f"y{place}" for place in range(count)]
    return tuple([TargetColumn(name) for name in names])


def scaled_inputs(x: NDArray[Any], law: Preprocessing) -> NDArray[np.float32]:
    """Inputs as the graphs are fed them: `x * scale + offset`.

    Args:
      x: (n, ...) raw values.
      law: One scale and offset for all, or one for each entry of an example's first
        axis.
    """
    scale = np.asarray(law.scale, np.float32)
    offset = np.asarray(law.offset, np.float32)
    if scale.size > 1:
        shape = (1, scale.size, *(1,) * (x.ndim - 2))
        scale, offset = scale.reshape(shape), offset.reshape(shape)
    made = x.astype(np.float32)
    made *= scale
    made += offset
    return made


def scaled_targets(y: NDArray[Any], table: TableSchema | None) -> NDArray[Any]:
    """The graphs' targets: `y * scale + offset`, one scale for each.

    Args:
      y: (n,) labels, or (n, ...) of t values each.
      table: Of the bundle; None leaves y as it is.
    """
    if not _scales(table):
        return y
    scale, offset = _factors(table)
    flat = y.reshape(len(y), len(scale)) * scale + offset
    made: NDArray[np.float32] = flat.reshape(y.shape).astype(np.float32)
    return made


def raw_targets(y: NDArray[Any], table: TableSchema | None) -> NDArray[Any]:
    """Targets or outputs of the graphs in the data's own units, float64."""
    if not _scales(table):
        return y
    scale, offset = _factors(table)
    flat = (y.reshape(len(y), len(scale)).astype(np.float64) - offset) / scale
    return flat.reshape(y.shape)


def _scales(table: TableSchema | None) -> TypeGuard[TableSchema]:
    return table is not None and any(
        (item.scale, item.offset) != (1.0, 0.0) for item in table.targets
    )


def _factors(table: TableSchema) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    scale = np.array([item.scale for item in table.targets])
    return scale, np.array([item.offset for item in table.targets])
