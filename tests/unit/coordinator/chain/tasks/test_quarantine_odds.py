"""Odds of quarantine where agreements are drawn: who is caught, and who is wronged."""

from dataclasses import replace

import numpy as np
import pytest

from starling.coordinator.chain.tasks.reputations import evidence
from starling.protocol.chain.update_scores import UpdateScore
from starling.protocol.learning.board_reputation import UNKNOWN_BOARD, with_evidence
from starling.protocol.learning.task import MICRO, PrivacyPolicy
from starling.protocol.privacy.mechanisms import RECORD_GAUSSIAN
from tests.unit.coordinator.fixtures.small_task import SPEC

BOARDS, ATTACKERS, BUFFER, PLEDGE = 20, 4, 10, 100
DEVIATION = 10_000
"""Of the noise in an agreement, in parts per million: sigma over the pledge."""
NOISED = replace(
    SPEC, privacy=PrivacyPolicy(RECORD_GAUSSIAN, 1 << 24, MICRO, MICRO, 10**6, 15)
)
PARTICIPATIONS = 10


def quarantined(signal: float, rng: np.random.Generator) -> dict[int, int]:
    """Scored updates of each board until its quarantine, over 20 rounds of a fleet.

    Args:
      signal: Deviations by which honest updates agree, and attackers' do not.
      rng: Draws who takes part, and the noise.
    """
    known, after = [UNKNOWN_BOARD] * BOARDS, dict[int, int]()
    for _ in range(2 * 20):
        present = [board for board in range(BOARDS) if board not in after]
        chosen = rng.permutation(present)[:BUFFER]
        honest = np.where(chosen < ATTACKERS, -signal, signal)
        drawn = (DEVIATION * (honest + rng.normal(size=len(chosen)))).astype(int)
        usual = int(sorted(drawn)[(len(drawn) - 1) // 2])
        for board, agreement in zip(chosen, drawn, strict=True):
            score = UpdateScore(0, int(agreement))
            speaks = evidence(NOISED, PLEDGE, score, usual)
            known[board] = with_evidence(known[board], speaks, 0, 60)
            if known[board].quarantines:
                after[int(board)] = known[board].scored
    return after


@pytest.mark.parametrize(
    ("signal", "caught", "wronged"),
    [(0.0, 0.0, 0.01), (0.25, 0.0, 0.01), (1.0, 0.7, 0.01), (2.0, 1.0, 0.0)],
)
def test_attackers_are_caught_where_there_is_a_signal_and_nobody_is_wronged(
    signal: float, caught: float, wronged: float
) -> None:
    rng = np.random.default_rng(1)
    fleets = 10
    early, false = 0, 0
    for _ in range(fleets):
        after = quarantined(signal, rng)
        early += sum(
            board < ATTACKERS and count <= PARTICIPATIONS
            for board, count in after.items()
        )
        false += sum(board >= ATTACKERS for board in after)
    assert early >= caught * fleets * ATTACKERS
    assert false <= wronged * fleets * (BOARDS - ATTACKERS)
