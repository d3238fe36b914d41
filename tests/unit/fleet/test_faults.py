import pytest

from fleet.faults import Deed, Fault, timeline
from protocol.errors import ConfigError


def test_timeline_is_sorted_by_time() -> None:
    read = timeline(
        "restart coordinator 2 at 28s;  coordinator 4 lies from 30.5s ;"
        "kill coordinator 2 at 20 s;",
        4,
    )
    assert read == (
        Fault(20.0, Deed.KILL, 2),
        Fault(28.0, Deed.RESTART, 2),
        Fault(30.5, Deed.LIE, 4),
    )


def test_timeline_may_be_empty() -> None:
    assert timeline("", 1) == ()


@pytest.mark.parametrize(
    "text",
    [
        "kill coordinator 5 at 1s",
        "kill coordinator 0 at 1s",
        "kill coordinator 1",
        "kill board 1 at 1s",
        "kill coordinator 1 at -1s",
        "coordinator 1 lies at 1s",
        "kill coordinator 1 at 1s kill coordinator 2 at 2s",
        ";".join(["kill coordinator 1 at 1s"] * 1001),
    ],
    ids=["above", "zero", "no-time", "board", "negative", "at", "joined", "many"],
)
def test_timeline_of_something_else_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--fault"):
        timeline(text, 4)


@pytest.mark.parametrize("deed", list(Deed))
def test_fault_says_what_happened(deed: Deed) -> None:
    assert Fault(1.0, deed, 3).text.startswith("coordinator 3 ")
