"""Events: what changed since the console runs, newest first."""

from collections.abc import Sequence

from starling.console.event_log import ConsoleEvent
from starling.console.markup import Html, element, table
from starling.console.pages.layout import PageFrame, moment, page, trouble


def events(frame: PageFrame, happened: Sequence[ConsoleEvent]) -> Html:
    """The page.

    Args:
      frame: Around it.
      happened: Oldest first.
    """
    if not happened:
        text = "Nothing since the console runs."
        return page(frame, "/events", "Events", element("p", text))
    rows: list[tuple[str | int | None, ...]] = [
        (
            moment(event.time_ms),
            event.subject,
            trouble(event.text) if event.is_trouble else event.text,
        )
        for event in reversed(happened)
    ]
    return page(
        frame, "/events", "Events", table(("time", "of", "event"), rows, "Events")
    )
