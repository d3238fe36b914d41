"""When a run gets no better."""

import pytest

from starling.fleet.report.convergence import converged


@pytest.mark.parametrize(
    ("losses", "patience", "expected"),
    [
        ([3.0, 2.0, 1.0], 1, False),
        ([3.0, 2.0, 2.5, 2.1], 2, True),
        ([3.0, 2.0, 2.5, 1.5], 2, False),
        ([3.0, None, None, None], 2, False),
        ([3.0, 2.9999, 2.9998], 2, True),
        ([-1.0, -2.0, -1.9], 1, True),
        ([1.0] * 50, None, False),
        ([], 1, False),
    ],
)
def test_converged_counts_versions_since_the_best(
    losses: list[float | None], patience: int | None, expected: bool
) -> None:
    assert converged(losses, patience) is expected
