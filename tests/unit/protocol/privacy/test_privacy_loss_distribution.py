"""Loss distributions against Google's, which uses a grid twenty times finer."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from starling.protocol.errors import ConfigError
from starling.protocol.privacy.gaussian_dp import MICRO, gaussian_epsilon
from starling.protocol.privacy.privacy_loss_distribution import sampled_epsilon

VECTORS = json.loads(
    (Path(__file__).parents[3] / "vectors" / "privacy_sampled.json").read_text()
)["schedules"]


def micro(text: str) -> int:
    return round(float(text) * MICRO)


@pytest.mark.parametrize("row", VECTORS, ids=str)
def test_sampled_epsilon_is_never_below_google_s_and_close(row: dict[str, Any]) -> None:
    epsilon = sampled_epsilon(
        micro(row["sigma"]), micro(row["rate"]), row["total"], float(row["delta"])
    )
    # Of every record Google's grid says up to 10^-6 too much, and we say what is exact.
    least = 1.0 if row["rate"] != "1" else 1 - 1e-6
    most = 1.005 if row["total"] <= 1000 else 1.01
    assert least * row["pld"] <= epsilon <= most * row["pld"]


def test_every_record_sampled_is_exact() -> None:
    found = sampled_epsilon(10 * MICRO, MICRO, 10, 1e-5)
    assert found == pytest.approx(gaussian_epsilon(math.sqrt(10) / 10, 1e-5), abs=1e-6)


def one_sum(rate: float, sigma: float, epsilon: float) -> float:
    """The exact delta of one sum, from its closed curve, for the worse direction."""

    def tail(place: float) -> float:
        return 0.5 * math.erfc(place / sigma / math.sqrt(2))

    def place(loss: float) -> float:
        return sigma**2 * math.log((math.expm1(loss) + rate) / rate) + 0.5

    def mixed(at: float) -> float:
        return (1 - rate) * tail(at) + rate * tail(at - 1)

    likely = place(epsilon)
    removing = mixed(likely) - math.exp(epsilon) * tail(likely)
    if math.expm1(-epsilon) + rate <= 0:
        return removing
    below = place(-epsilon)
    adding = (1 - tail(below)) - math.exp(epsilon) * (1 - mixed(below))
    return max(removing, adding)


def test_one_sum_meets_its_closed_curve() -> None:
    epsilon = sampled_epsilon(micro("1.1"), micro("0.2"), 1, 1e-4)

    assert 0.995e-4 <= one_sum(0.2, 1.1, epsilon) <= 1e-4


@pytest.mark.parametrize("delta", [1e-3, 3e-4, 9e-5, 1e-5, 1e-8, 1e-10])
@pytest.mark.parametrize("rate", ["0.0001", "0.001", "0.01", "0.3"])
@pytest.mark.parametrize("sigma", ["0.3", "0.5", "1", "4", "50"])
def test_one_sum_is_never_below_the_truth_however_small(
    sigma: str, rate: str, delta: float
) -> None:
    epsilon = sampled_epsilon(micro(sigma), micro(rate), 1, delta)

    # What is paid for the noise's grid and for what stands outside of the table.
    assert one_sum(float(rate), float(sigma), epsilon) <= delta
    if epsilon > 0.01:
        assert one_sum(float(rate), float(sigma), 0.98 * epsilon) >= 0.9 * delta


@pytest.mark.parametrize("total", [1, 2, 7, 100])
def test_epsilon_below_the_first_grid_point_grows_with_the_schedule(total: int) -> None:
    table = [
        sampled_epsilon(micro("0.3"), micro(rate), count, delta)
        for rate in ("0.0001", "0.001")
        for delta in (1e-5, 1e-8)
        for count in (total, total + 1)
    ]

    for fewer, more in zip(table[::2], table[1::2], strict=True):
        assert 0 <= fewer <= more < math.inf


def test_epsilon_falls_with_noise_and_grows_with_the_schedule() -> None:
    table = [
        [sampled_epsilon(round(sigma * MICRO), 50_000, total, 1e-5) for total in counts]
        for sigma in (0.8, 1.5, 3.0)
        for counts in [(10, 40, 160)]
    ]
    found = np.array(table)
    assert (np.diff(found, axis=0) < 0).all()
    assert (np.diff(found, axis=1) > 0).all()


def test_hardly_any_loss_needs_no_epsilon() -> None:
    assert sampled_epsilon(1000 * MICRO, 1000, 1, 1e-2) <= 1e-9


@pytest.mark.parametrize(
    ("sigma", "rate", "total", "delta", "key"),
    [
        (0, 1000, 1, 1e-5, "sigma_micro"),
        (MICRO, 0, 1, 1e-5, "sampling_micro"),
        (MICRO, 1000, 0, 1e-5, "steps"),
        (MICRO, 1000, 1 << 30, 1e-5, "steps"),
        (MICRO, 1000, 1, 1e-11, "delta"),
        (MICRO, 1000, 1, 1.0, "delta"),
        (20_000, 1000, 1, 1e-5, "sigma_micro"),
    ],
)
def test_schedule_out_of_bounds_is_refused(
    sigma: int, rate: int, total: int, delta: float, key: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        sampled_epsilon(sigma, rate, total, delta)
    assert caught.value.key == key
