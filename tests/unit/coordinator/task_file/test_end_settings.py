"""The end of a task as an operator writes it, in the integers of the chain."""

import pytest

from starling.coordinator.task_file.end_settings import EndSection, end_policy
from starling.protocol.errors import ConfigError
from starling.protocol.learning.end_policy import NO_END, EndPolicy

NOON_MS = 1_806_494_400_000


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        pytest.param(EndSection(), NO_END, id="never"),
        pytest.param(
            EndSection(7, "2027-03-31 12:00", 0.25, unpaid=True),
            EndPolicy(7, NOON_MS, 250_000, 1),
            id="all",
        ),
        pytest.param(
            EndSection(until="2027-03-31T14:00+02:00"),
            EndPolicy(until_ms=NOON_MS),
            id="zone",
        ),
        pytest.param(
            EndSection(until="2027-03-31"),
            EndPolicy(until_ms=NOON_MS - 43_200_000),
            id="day",
        ),
    ],
)
def test_section_becomes_integers(section: EndSection, expected: EndPolicy) -> None:
    assert end_policy(section) == expected


@pytest.mark.parametrize("until", ["soon", "2027-13-01", "31.3.2027"])
def test_time_that_is_none_is_refused(until: str) -> None:
    with pytest.raises(ConfigError, match="no time such as") as refused:
        end_policy(EndSection(until=until))
    assert refused.value.key == "end.until"
