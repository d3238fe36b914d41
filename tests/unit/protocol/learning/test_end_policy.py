"""A task ends by version, time, loss or credits, whichever comes first, or never."""

import pytest

from starling.protocol.ids import Version
from starling.protocol.learning.end_policy import NO_END, EndPolicy, ended_text
from starling.protocol.learning.progress_guard import TaskLoss

DAY_MS = 86_400_000
LOSSES = TaskLoss(Version(3), 250_000, Version(9), 400_000)


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        pytest.param(EndPolicy(version=9), "version 9 is its last", id="version"),
        pytest.param(EndPolicy(version=10), "", id="before its version"),
        pytest.param(EndPolicy(until_ms=DAY_MS), "1970-01-02 00:00 UTC", id="time"),
        pytest.param(EndPolicy(until_ms=DAY_MS + 1), "", id="before its time"),
        pytest.param(
            EndPolicy(loss_micro=250_000), "version 3 has held-out loss 0.25", id="loss"
        ),
        pytest.param(EndPolicy(loss_micro=249_999), "", id="not good enough"),
        pytest.param(EndPolicy(unpaid=1), "no credits left", id="unpaid"),
        pytest.param(NO_END, "", id="never"),
    ],
)
def test_task_ends_by_what_its_policy_names(policy: EndPolicy, says: str) -> None:
    found = ended_text(policy, 9, DAY_MS, LOSSES, 0)
    assert says in found
    assert bool(found) == bool(says)


def test_task_goes_on_while_it_has_credits_and_before_any_loss_is_known() -> None:
    assert not ended_text(EndPolicy(unpaid=1), 9, DAY_MS, LOSSES, 1)
    assert not ended_text(EndPolicy(loss_micro=10**15), 9, DAY_MS, None, 0)


def test_loss_of_nothing_ends_no_task_that_names_none() -> None:
    nothing = TaskLoss(Version(3), 0, Version(3), 0)
    assert not ended_text(NO_END, 3, 0, nothing, 0)
