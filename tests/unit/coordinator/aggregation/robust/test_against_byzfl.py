"""The rules give what the reference library byzfl gives, where it is installed."""

from typing import Any

import numpy as np
import pytest

from starling.coordinator.aggregation.robust import robust_rules as rules
from tests.unit.coordinator.aggregation.robust.test_robust_rules import (
    ROUNDING,
    UNIT,
    rows,
)

byzfl: Any = pytest.importorskip("byzfl", reason="the peer is not installed")
# Odd: of an even number the library takes the lower median.
GIVEN = rows(11, 60, seed=9)
F = 2


def close(found: Any, wanted: Any) -> None:  # noqa: ANN401 - numpy's own
    assert found / UNIT == pytest.approx(np.asarray(wanted), abs=50 * ROUNDING)


def test_median_is_byzfls() -> None:
    close(rules.median(GIVEN), byzfl.Median()(GIVEN / UNIT))


def test_trimmed_mean_is_byzfls() -> None:
    close(rules.trimmed_mean(GIVEN, F), byzfl.TrMean(f=F)(GIVEN / UNIT))


def test_krum_is_byzfls() -> None:
    # The library's n - f - 1 nearest hold the row itself.
    close(rules.krum(GIVEN, F), byzfl.Krum(f=F)(GIVEN / UNIT))


def test_multi_krum_is_byzfls() -> None:
    close(rules.multi_krum(GIVEN, F), byzfl.MultiKrum(f=F)(GIVEN / UNIT))


def test_neighbour_mixing_is_byzfls() -> None:
    mixed = rules.neighbour_mixed(GIVEN, [1] * len(GIVEN), F)
    close(mixed, byzfl.NNM(f=F)(GIVEN / UNIT))


def test_geometric_median_is_where_byzfl_converges() -> None:
    many = byzfl.GeometricMedian(nu=1e-9, T=100)(GIVEN / UNIT)
    found = rules.geometric_median(GIVEN, steps=60) / UNIT
    assert found == pytest.approx(np.asarray(many), abs=1e-3)


def test_centred_clipping_is_byzfls() -> None:
    library = byzfl.CenteredClipping(L=3, tau=2.0)
    # Its argument `m` always raises; it is set from outside.
    library.m = np.zeros(GIVEN.shape[1])
    wanted = library(GIVEN / UNIT)
    centre = np.zeros(GIVEN.shape[1], np.int64)
    close(rules.centred_clipping(GIVEN, centre, round(2 * UNIT), 3), wanted)
