"""The best version is the most accurate, then that of least loss, then the newest."""

from typing import NamedTuple

import numpy as np
import pytest

from starling.compiler import compile_model
from starling.coordinator.models.best_version import LossRankings, best_version
from starling.protocol.ids import Digest, H
from starling.protocol.model.training_bundle import LossSettings
from tests.unit.compiler.small_models import build, node


class Row(NamedTuple):
    version: int
    accuracy: float | None
    loss: float | None


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([], None),
        ([Row(0, None, None)], None),
        ([Row(0, 0.5, 1.0), Row(1, 0.9, 2.0), Row(2, 0.8, 0.1)], 1),
        ([Row(0, 0.9, 1.0), Row(1, 0.9, 0.5), Row(2, 0.9, 0.7)], 1),
        ([Row(0, 0.9, 0.5), Row(1, 0.9, 0.5)], 1),
        ([Row(0, None, 3.0), Row(1, None, 1.0), Row(2, None, 2.0)], 1),
        ([Row(0, 0.9, 1.0), Row(1, None, None)], 0),
    ],
    ids=["none", "unknown", "accuracy", "loss", "newest", "regression", "not yet"],
)
def test_best_version(rows: list[Row], best: int | None) -> None:
    found = best_version(rows)

    assert (None if found is None else found.version) == best


def test_where_accuracy_misleads_the_lowest_loss_is_best() -> None:
    rows = [Row(0, 0.86, 0.7), Row(1, 0.7, 0.4), Row(2, 0.72, 0.5)]

    found = best_version(rows, by_loss=True)

    assert found is not None
    assert found.version == 1
    assert best_version([Row(0, 0.9, None)], by_loss=True) is None


def packed(weights: tuple[float, ...]) -> bytes:
    layer = {"w": np.zeros((4, 3), np.float32)}
    model = build([node("MatMul", ["x", "w"], ["out"])], layer, (4,), (3,))
    return compile_model(
        model, loss="cross-entropy", settings=LossSettings(weights)
    ).packed


def test_bundle_with_class_weights_is_ranked_by_loss_once_it_is_here() -> None:
    bundles = {H(made): made for made in (packed((0.1, 1, 1)), packed(()), b"damaged")}
    weighted, plain, damaged = bundles
    here: dict[Digest, bytes] = {}
    rankings = LossRankings(here.get)

    assert not rankings.by_loss(weighted)
    here.update(bundles)

    assert rankings.by_loss(weighted)
    assert not rankings.by_loss(plain)
    assert not rankings.by_loss(damaged)
    here.clear()
    assert rankings.by_loss(weighted)
