"""Events are newest first, and trouble is marked."""

from starling.console.event_log import ConsoleEvent
from starling.console.pages.events import events
from tests.unit.console.status_documents import HOSTILE, NOW_MS, frame


def test_newest_comes_first_and_trouble_is_marked_by_more_than_colour() -> None:
    happened = [
        ConsoleEvent(NOW_MS, "versions", "version 1 is final"),
        ConsoleEvent(NOW_MS + 1000, "chain", HOSTILE, is_trouble=True),
    ]

    page = events(frame(), happened)

    assert page.index("alert(1)") < page.index("version 1 is final")
    assert '<strong class="bad">! </strong>' in page
    assert "<script>alert" not in page
    assert "2027-01-15 08:00:00" in page
    assert "Nothing since" in events(frame(), [])
