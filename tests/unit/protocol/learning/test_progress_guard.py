"""What got worse, and what falls no more, from the medians of held-out losses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.protocol.ids import Version
from starling.protocol.learning.progress_guard import (
    FLOOR_MICRO,
    LOSS_MAX,
    GuardPolicy,
    TaskLoss,
    is_paused,
    is_worse,
    loss_micro,
    newest_is_worse,
    paused_text,
    with_loss,
)

HALF = GuardPolicy(3, 500_000)


def after(*losses: tuple[int, int]) -> TaskLoss:
    known = None
    for version, micro in losses:
        known = with_loss(known, Version(version), micro)
    assert known is not None
    return known


@pytest.mark.parametrize(
    ("best", "loss", "worse"),
    [
        (400_000, 600_000 + FLOOR_MICRO, False),
        (400_000, 600_001 + FLOOR_MICRO, True),
        (0, FLOOR_MICRO, False),
        (0, FLOOR_MICRO + 1, True),
        (400_000, 300_000, False),
    ],
)
def test_loss_is_worse_beyond_margin_and_floor(
    best: int, loss: int, worse: bool
) -> None:
    assert is_worse(HALF, best, loss) == worse


def test_newest_version_is_compared_with_the_best_one() -> None:
    assert not newest_is_worse(HALF, None)
    assert not newest_is_worse(HALF, after((0, 900_000), (1, 400_000)))
    assert newest_is_worse(HALF, after((0, 900_000), (1, 400_000), (2, 700_000)))


def test_task_pauses_once_its_loss_has_not_fallen_for_its_patience() -> None:
    falling = [(version, 900 - version) for version in range(5)]
    stuck = [(version, 896) for version in range(5, 8)]
    assert not is_paused(HALF, None)
    assert not is_paused(HALF, after(*falling))
    assert not is_paused(HALF, after(*falling, *stuck[:2]))
    known = after(*falling, *stuck)
    assert is_paused(HALF, known)
    assert "not fallen for 3 versions" in paused_text(HALF, known)
    assert not is_paused(GuardPolicy(0), known)
    assert not is_paused(HALF, with_loss(known, Version(8), 895))


def test_task_that_was_never_better_than_version_0_pauses_after_ten() -> None:
    patient = GuardPolicy(50)
    worse = [(version, 900 + version) for version in range(11)]
    assert not is_paused(patient, after(*worse[:10]))
    assert is_paused(patient, after(*worse))
    assert "not fallen for 10 versions" in paused_text(patient, after(*worse))
    assert is_paused(HALF, after(*worse[:4]))
    assert not is_paused(GuardPolicy(0), after(*worse))
    learned = after((0, 900), (1, 899), *worse[2:])
    assert not is_paused(patient, learned)
    assert is_paused(patient, with_loss(learned, Version(51), 900))


def test_task_that_was_never_better_goes_on_once_an_operator_resumed_it() -> None:
    resumed = TaskLoss(Version(0), 900, Version(11), 911, Version(11))
    assert not is_paused(GuardPolicy(50), with_loss(resumed, Version(60), 950))
    assert is_paused(GuardPolicy(50), with_loss(resumed, Version(61), 950))


def test_patience_counts_anew_from_where_an_operator_resumed() -> None:
    resumed = TaskLoss(Version(4), 896, Version(7), 900, Version(7))
    assert not is_paused(HALF, resumed)
    assert not is_paused(HALF, with_loss(resumed, Version(9), 900))
    assert is_paused(HALF, with_loss(resumed, Version(10), 900))


@given(
    st.lists(st.integers(0, LOSS_MAX), min_size=1, max_size=8).flatmap(
        lambda losses: st.permutations(list(enumerate(losses)))
    )
)
def test_record_does_not_depend_on_the_order_of_different_losses(
    known: list[tuple[int, int]],
) -> None:
    found = after(*known)
    assert found.best_micro == min(loss for _, loss in known)
    assert dict(known)[found.best] == found.best_micro
    newest = max(version for version, _ in known)
    assert (found.newest, found.newest_micro) == (newest, dict(known)[newest])


@pytest.mark.parametrize(
    ("loss", "micro"),
    [
        (0.4123456, 412_346),
        (-1.0, 0),
        (1e30, LOSS_MAX),
        (1e305, LOSS_MAX),
        (-1e305, 0),
    ],
)
def test_loss_is_stated_in_bounded_integers(loss: float, micro: int) -> None:
    assert loss_micro(loss) == micro
