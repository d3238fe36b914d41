"""A power cut right before every single effect of a short run."""

import pytest

from tests.sim.campaign import cut, instants

SHARES = 6


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("name", ["coordinator", "board0"])
def test_power_cut_before_any_effect_loses_nothing(name: str, share: int) -> None:
    count = instants(name)
    assert count > 25

    for number in range(share, count, SHARES):
        cut(name, number)


@pytest.mark.soak
@pytest.mark.parametrize("gap", range(1, 9))
@pytest.mark.parametrize("name", ["coordinator", "board0"])
def test_power_cut_during_recovery_loses_nothing(name: str, gap: int) -> None:
    for number in range(instants(name)):
        cut(name, number, number + gap)
