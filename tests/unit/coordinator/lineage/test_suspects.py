import numpy as np
import pytest

from starling.coordinator.lineage.contribution_evidence import (
    Measure,
    Real,
    evidence_of,
)
from starling.coordinator.lineage.lineage_replay import replay
from starling.coordinator.lineage.suspects import BoardEvidence
from starling.coordinator.lineage.version_trace import VersionTrace, traced
from tests.unit.coordinator.lineage.lineages import D, MadeLineage, board, spec

GOOD = np.linspace(0.5, 1.5, D)
"""The gradient that honest boards send: the loss falls against it."""
BAD = (0, 1, 2)


def loss(theta: Real) -> float:
    return float(theta @ GOOD)


def trace(attack: str, seed: int = 1, count: int = 20) -> VersionTrace:
    """Three of 15 boards attack; each version takes eleven of all."""
    rng = np.random.default_rng(seed)
    rounds = []
    for _ in range(count):
        sent = {
            int(who): GOOD + rng.normal(0.0, 0.5, D)
            for who in sorted(rng.choice(15, 11, replace=False))
        }
        honest = [row for who, row in sent.items() if who not in BAD]
        for who in set(BAD) & sent.keys():
            row = sent[who]
            sent[who] = {
                "none": row,
                "signs": -row,
                "long": 8 * row,
                "collude": np.mean(honest, axis=0) - np.std(honest, axis=0),
                "mimic": honest[0],
            }[attack]
        rounds.append(sent)
    return traced(MadeLineage(spec(), rounds).traced(), {Measure.HARM: loss})


def named(found: VersionTrace) -> dict[bytes, BoardEvidence]:
    return {each.board: each for each in found.suspects}


@pytest.mark.parametrize(
    ("attack", "reason"),
    [("signs", "harm"), ("long", "norm"), ("collude", "copies"), ("mimic", "copies")],
)
def test_attackers_are_named_with_what_speaks_against_them(
    attack: str, reason: str
) -> None:
    suspects = named(trace(attack))

    assert suspects.keys() == {board(who) for who in BAD}
    assert all(reason in each.reasons for each in suspects.values())


@pytest.mark.parametrize("seed", range(5))
def test_honest_boards_are_not_named(seed: int) -> None:
    found = trace("none", seed)

    assert found.suspects == ()
    assert found.together is None
    assert len(found.boards) == 15


def test_version_without_the_suspects_loses_less() -> None:
    found = trace("signs")

    assert found.together is not None
    assert set(found.together.without) == {board(who) for who in BAD}
    better = found.together.losses[Measure.HARM]
    assert better < found.alone[0].losses[Measure.HARM]
    assert found.alone[0].losses[Measure.HARM] < found.as_it_is.losses[Measure.HARM]


def test_limit_is_wider_for_a_board_of_few_updates() -> None:
    found = trace("none", count=3)

    (few, *_), (many, *_) = (
        sorted(found.boards, key=lambda each: sign * each.updates) for sign in (1, -1)
    )
    assert few.updates < many.updates
    assert few.limits[Measure.NORM] > many.limits[Measure.NORM]


def test_harm_is_what_an_update_adds_to_the_loss_in_its_version() -> None:
    made = MadeLineage(
        spec(momentum_q16=0), [{0: GOOD, 1: GOOD, 2: -2 * GOOD}, {0: GOOD, 1: GOOD}]
    )
    first, second = replay(made.spec, made.start, made.versions, made)

    found, former = evidence_of(first, made.spec.aggregation, {Measure.HARM: loss})

    # A rate of 1/2 over three boards: each steps by a sixth of its own vector.
    step = float(GOOD @ GOOD) / 6
    harms = [each.readings[Measure.HARM].value for each in found]
    assert harms == pytest.approx([-step, -step, 2 * step])
    assert [sorted(each.copies) for each in found] == [[], [board(0)], []]
    assert former is not None
    # Of two nobody is the odd one out.
    assert evidence_of(second, made.spec.aggregation, {}, former) == ((), None)
