"""What ends a task for good, as a board sees it."""

from dataclasses import replace

import pytest

from starling.protocol.chain.task_end import is_over, loss_key
from starling.protocol.errors import DecodeError
from starling.protocol.ids import Version
from starling.protocol.learning.end_policy import NO_END, EndPolicy
from starling.protocol.learning.progress_guard import TASK_LOSS, TaskLoss
from tests.vectors.protocol_samples import STATE

LOSSES = TaskLoss(Version(3), 250_000, Version(9), 400_000)
PROOF = STATE.update({loss_key(2): TASK_LOSS.pack(LOSSES)}).prove(loss_key(2))


@pytest.mark.parametrize(
    ("policy", "over"),
    [
        pytest.param(NO_END, False, id="never"),
        pytest.param(EndPolicy(version=9), True, id="version"),
        pytest.param(EndPolicy(version=10), False, id="before its version"),
        pytest.param(EndPolicy(until_ms=1000), True, id="time"),
        pytest.param(EndPolicy(until_ms=1001), False, id="before its time"),
        pytest.param(EndPolicy(loss_micro=250_000), True, id="good enough"),
        pytest.param(EndPolicy(loss_micro=249_999), False, id="not good enough"),
        pytest.param(EndPolicy(unpaid=1), False, id="a pool is filled again"),
    ],
)
def test_task_is_over_by_what_its_policy_names(policy: EndPolicy, over: bool) -> None:
    assert is_over(policy, 2, Version(9), 1000, PROOF) == over


def test_loss_that_is_not_shown_ends_nothing() -> None:
    assert not is_over(EndPolicy(loss_micro=10**15), 2, Version(9), 1000, None)


def test_loss_that_is_none_is_refused() -> None:
    with pytest.raises(DecodeError):
        is_over(NO_END, 2, Version(9), 1000, replace(PROOF, value=b"none"))
