"""Arrays x and y, as an `.npz` file holds them, become records.

Letters: `n` records, `t` targets.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starling.protocol.model.training_bundle import CLASSES_MAX
from starling.records.data_options import DataOptions
from starling.records.errors import DataError, refuse_unprintable
from starling.records.record_set import (
    LABELS,
    NUMBERS,
    SHARES,
    Division,
    RecordSet,
    division,
)

_NUMBERS, _TEXTS = "fiub", "US"
_WHOLE = 4.0
_AS_NUMBERS = ("numbers", "shares")


def array_records(
    arrays: Mapping[str, NDArray[Any]], asked: DataOptions, name: str, file: str
) -> RecordSet:
    """Makes records of arrays.

    Args:
      arrays: `x (n, ...)` and `y (n,)` or `y (n, t)`, and one of n for each name that
        `board_column` and `group` have.
      asked: What is to be learned.
      name: Of the set.
      file: For messages.

    Raises:
      DataError: Naming the file, the array and the first record at fault.
    """
    if not {"x", "y"} <= set(arrays):
        raise DataError(f"expected arrays x and y, found {list(arrays)}", file=file)
    x, y = arrays["x"], arrays["y"]
    if x.ndim < 2 or y.ndim not in (1, 2) or len(x) != len(y) or not len(y):
        raise DataError(
            f"expected x (n, ...) and y (n,), found {x.shape} and {y.shape}", file=file
        )
    if x.dtype.kind not in _NUMBERS or y.dtype.kind not in _NUMBERS + _TEXTS:
        raise DataError("x and y must hold numbers", file=file)
    if not x[0].size:
        raise DataError(f"x {x.shape} holds no value", file=file)
    _refuse_columns(asked, file)
    features = _single_precision(x, "x", file)
    loss, targets, classes = _targets(y, asked, file)
    return RecordSet(
        name,
        features,
        targets,
        loss,
        classes,
        boards=_division(arrays, asked.board_column, len(y), file),
        groups=_division(arrays, asked.group, len(y), file),
        notes=_like_labels(y, loss, asked),
    )


def _like_labels(y: NDArray[Any], loss: str, asked: DataOptions) -> tuple[str, ...]:
    """Note on numbers that may be meant as labels, as -1 and 1 are."""
    if loss != NUMBERS or asked.kind != "auto" or y.ndim > 1 or y.dtype.kind != "i":
        return ()
    values = len(np.unique(y))
    if y.min() >= 0 or values > 1 + len(y) / _WHOLE:
        return ()
    return (
        f"y holds {values} whole numbers, from {y.min()} on, and is learned as "
        "numbers; of labels write their places from 0, or texts; else --loss mse",
    )


def _refuse_columns(asked: DataOptions, file: str) -> None:
    if set(asked.targets) - {"y"}:
        detail = "arrays have no columns: y is the target, without a --target"
        raise DataError(detail, file=file)
    if asked.window:
        detail = "arrays are no series of rows: write x as windows, without a --window"
        raise DataError(detail, file=file)


def _single_precision(
    values: NDArray[Any], array: str, file: str
) -> NDArray[np.float32]:
    # Infinities that come of it are found next.
    with np.errstate(over="ignore"):
        found = np.ascontiguousarray(values, np.float32)
    odd = np.flatnonzero(~np.isfinite(found).reshape(len(found), -1).all(axis=1))
    if len(odd):
        raise DataError(
            f"{array} holds a NaN, an infinity or a number beyond 3e38, first in "
            f"record {odd[0] + 1}: mend it, or leave it out",
            file=file,
        )
    return found


def _targets(
    y: NDArray[Any], asked: DataOptions, file: str
) -> tuple[str, NDArray[Any], tuple[str, ...]]:
    """Loss, targets and label map."""
    if y.dtype.kind in _TEXTS:
        # Sorted, so that the same labels give the same label map, whatever comes first.
        names, codes = np.unique(y, return_inverse=True)
        if y.ndim > 1 or len(names) < 2 or asked.kind in _AS_NUMBERS:
            raise DataError("y holds texts that are no labels", file=file)
        classes = tuple([str(name) for name in names])
        refuse_unprintable(classes, file)
        return LABELS, codes.astype(np.int64), classes
    numbers = _single_precision(y, "y", file)
    is_label = y.ndim == 1 and (y == np.rint(y)).all() and y.min() >= 0
    if asked.kind == "classes" and not is_label:
        raise DataError("y must hold whole numbers from 0", file=file)
    # Arrays of whole kind are labels, as ever; of reals only few different ones are.
    if is_label and asked.kind not in _AS_NUMBERS:
        few = y.dtype.kind != "f" or len(np.unique(y)) <= 1 + len(y) / _WHOLE
        if few or asked.kind == "classes":
            if y.max() >= CLASSES_MAX:
                raise DataError(
                    f"y holds labels from {CLASSES_MAX:,} on, one of them {y.max()}: "
                    "number them from 0, or say --loss mse if numbers are learned",
                    file=file,
                )
            if y.min() == y.max():
                detail = f"y holds {y[0]} alone: a label needs two"
                raise DataError(detail, file=file)
            return LABELS, y.astype(np.int64), ()
    flat = numbers.reshape(len(y), -1)
    if asked.kind != "shares":
        return NUMBERS, flat, ()
    beyond = np.flatnonzero(((flat < 0) | (flat > 1)).any(axis=1))
    if len(beyond):
        raise DataError(
            f"y of record {beyond[0] + 1} is not from 0 to 1, which --loss bce learns; "
            "else --loss mse",
            file=file,
        )
    return SHARES, flat, ()


def _division(
    arrays: Mapping[str, NDArray[Any]], name: str, count: int, file: str
) -> Division | None:
    if not name:
        return None
    if name not in arrays or arrays[name].shape != (count,):
        raise DataError(
            f"no array of {count} entries; there are {list(arrays)}",
            file=file,
            column=name,
        )
    names, codes = np.unique(arrays[name], return_inverse=True)
    return division(
        codes.astype(np.int32), [str(n) for n in names], column=name, file=file
    )
