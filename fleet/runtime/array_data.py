"""Arrays in memory as what a fleet starts from."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray

from starling.compiler import Bundle, compile_model
from starling.fleet.datasets.partition import (
    BOARD_EXAMPLES_MIN,
    IID,
    Examples,
    deal,
    hold_out,
)
from starling.fleet.plan import FleetPlan
from starling.fleet.presets import DataShares
from starling.fleet.reference_models import MODEL_SUFFIX, build_model
from starling.fleet.runtime.dataset_catalog import FleetDataSet
from starling.fleet.runtime.training_material import TrainingMaterial
from starling.protocol.errors import ConfigError
from starling.protocol.model.training_bundle import BundleManifest

Arrays = tuple[ArrayLike, ArrayLike]
"""Inputs and targets, x (n, ...) and y (n, ...)."""
Model = str | bytes | Path | onnx.ModelProto
"""A name of `fleet.reference_models.MODELS`, an ONNX file or its content."""
CLASSIFIES = "cross-entropy"
_HELD_OUT_SHARE = 0.1
_NAME_CHARS_MAX = 32


@dataclass(frozen=True)
class ArrayData:
    """Everything that is learned from.

    Attributes:
      pools: One pair of arrays that is dealt out, or one for each board.
      held_out: What versions are evaluated on; a tenth of each pool if None.
      test: Looked at once, when the run is over; None for nothing.
      dealt: Whether there is one pool, which is dealt out.
    """

    pools: Sequence[Arrays]
    held_out: Arrays | None
    test: Arrays | None
    dealt: bool


def material_of(
    model: Model, data: ArrayData, loss: str, plan_of: Callable[[str], FleetPlan]
) -> TrainingMaterial:
    """Compiles the model and gives each board its examples.

    Args:
      model: What is trained.
      data: What is learned from.
      loss: Of the bundle.
      plan_of: The plan for what the model is called.

    Raises:
      ConfigError: If arrays do not fit the model, or a board has too few examples.
    """
    # Somebody may have given an array, which has no truth of its own.
    if len(data.pools) == 0:
        raise ConfigError("no board has any", key="data")
    for number, pool in enumerate(data.pools):
        _raw(pool, "data" if data.dealt else f"board {number}")
    # Before the plan, which is called by the model's name.
    bundle = _compiled(model, data, loss)
    plan = plan_of(_plain_name(model, bundle.manifest))
    rng = np.random.default_rng((plan.seed, 2))
    pools = [
        _examples(pool, bundle.manifest, "data" if data.dealt else f"board {number}")
        for number, pool in enumerate(data.pools)
    ]
    held_out, boards = _divided(pools, data, bundle.manifest, rng)
    if data.dealt:
        boards = deal(boards[0], plan.devices, plan.split or IID, rng)
    sizes = [len(board) for board in boards]
    if min(sizes) < BOARD_EXAMPLES_MIN:
        raise ConfigError(
            f"board {sizes.index(min(sizes))} has {min(sizes)} examples to learn from; "
            f"each needs at least {BOARD_EXAMPLES_MIN}",
            key="data",
        )
    test = None
    if data.test is not None:
        test = _examples(data.test, bundle.manifest, "test")
    outputs = int(np.prod(bundle.manifest.output.shape))
    catalogued = FleetDataSet(
        "arrays", _joined(boards), held_out, test, outputs, loss=loss
    )
    shares = DataShares(bundle.manifest.input.shape, min(sizes), max(sizes), loss)
    return TrainingMaterial(catalogued, boards, shares, bundle.packed, plan)


def _divided(
    pools: Sequence[Examples],
    data: ArrayData,
    manifest: BundleManifest,
    rng: np.random.Generator,
) -> tuple[Examples, list[Examples]]:
    """Held-out examples, and those that are learned from."""
    if data.held_out is not None:
        return _examples(data.held_out, manifest, "held_out"), [*pools]
    parts = [
        hold_out(
            pool, min(max(1, int(len(pool) * _HELD_OUT_SHARE)), len(pool) - 1), rng
        )
        for pool in pools
    ]
    return _joined([held for _, held in parts]), [kept for kept, _ in parts]


def _joined(parts: Sequence[Examples]) -> Examples:
    x, y = [np.concatenate([getattr(part, name) for part in parts]) for name in "xy"]
    return Examples(x, y)


def _compiled(model: Model, data: ArrayData, loss: str) -> Bundle:
    if not isinstance(model, str) or model.endswith(MODEL_SUFFIX):
        source = Path(model) if isinstance(model, str) else model
        return compile_model(source, loss=loss)
    x, y = [np.asarray(each) for each in data.pools[0]]
    outputs = int(y[0].size) if len(y) else 1
    if loss == CLASSIFIES:
        tops = [int(np.max(pool[1])) for pool in data.pools if np.size(pool[1])]
        outputs = max(1, *tops) + 1
    # Zero weights in the last layer: nothing is gained by chance.
    built = build_model(model, x.shape[1:], outputs, np.random.default_rng(1))
    return compile_model(built, loss=loss)


def _plain_name(model: Model, manifest: BundleManifest) -> str:
    """For the plan: a reference model's own name, or like an ONNX file's."""
    if isinstance(model, str) and not model.endswith(MODEL_SUFFIX):
        return model
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", manifest.name)[:_NAME_CHARS_MAX]
    return f"{plain or 'model'}{MODEL_SUFFIX}"


def _examples(pair: Arrays, manifest: BundleManifest, place: str) -> Examples:
    """The arrays as the graphs take them.

    Raises:
      ConfigError: Naming the array and what it should be.
    """
    raw_x, raw_y = _raw(pair, place)
    x = _shaped(raw_x, manifest.input.shape, f"{place}: x")
    y = _shaped(raw_y, manifest.target.shape, f"{place}: y")
    if manifest.target.dtype != "int64":
        return Examples(x, y)
    labels = y.astype(np.int64)
    classes = int(np.prod(manifest.output.shape))
    if (labels != y).any() or labels.min() < 0 or labels.max() >= classes:
        raise ConfigError(
            f"labels are whole numbers in [0, {classes}); loss='mse' learns numbers",
            key=place,
        )
    return Examples(x, labels)


def _raw(pair: Arrays, place: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """The arrays, of numbers and equally long.

    Raises:
      ConfigError: If they are not.
    """
    try:
        x, y = [np.atleast_1d(np.asarray(each)) for each in pair]
    except (TypeError, ValueError) as error:
        raise ConfigError(
            "expected two arrays: a tuple (x, y), or a list with one for each board",
            key=place,
        ) from error
    for array in (x, y):
        if array.dtype.kind not in "biuf":
            way = "; number them: numpy.unique(y, return_inverse=True)"
            hint = way if array.dtype.kind in "OSU" else ""
            raise ConfigError(f"holds {array.dtype}, not numbers{hint}", key=place)
    if not 2 <= len(x) == len(y):
        raise ConfigError(
            f"x {x.shape} and y {y.shape} are not the same two or more examples",
            key=place,
        )
    for name, array in (("x", x), ("y", y)):
        odd = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))
        if len(odd):
            raise ConfigError(
                f"{name} holds what is no finite number, first in example {odd[0]}",
                key=place,
            )
    return x, y


def _shaped(
    raw: NDArray[Any], shape: tuple[int, ...], place: str
) -> NDArray[np.float32]:
    if raw.size != len(raw) * int(np.prod(shape)):
        wanted = ", ".join(["n", *map(str, shape)])
        raise ConfigError(f"is {raw.shape}; the model has ({wanted})", key=place)
    found = raw.astype(np.float32).reshape(len(raw), *shape)
    if not np.isfinite(found).all():
        raise ConfigError("holds what is no finite number", key=place)
    return found
