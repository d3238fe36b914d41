"""Frame of every page: head, navigation, what is wrong, and the page's own part."""

from dataclasses import dataclass
from datetime import UTC, datetime

from starling.console.markup import Html, element, joined, link
from starling.console.status_facts import StatusFacts

NAVIGATION = (
    ("/", "Overview"),
    ("/boards", "Boards"),
    ("/tasks", "Tasks"),
    ("/chain", "Chain"),
    ("/events", "Events"),
)
_DOCTYPE = "<!doctype html>\n"


@dataclass(frozen=True)
class OperatorFrame:
    """Frame of pages for an operator who signed in.

    Attributes:
      name: As the token has it.
      csrf: Of the session; every form holds it.
      notes: What was just done: whether it went well, and a text.
    """

    name: str
    csrf: str
    notes: tuple[tuple[bool, str], ...] = ()


@dataclass(frozen=True)
class PageFrame:
    """Frame of every page around its own part.

    Attributes:
      fleet: Its name; empty while it is not known.
      facts: None if no status can be read.
      trouble: Why not; empty if it can.
      operator: Who signed in; None for a reader.
    """

    fleet: str
    facts: StatusFacts | None
    trouble: str = ""
    operator: OperatorFrame | None = None


def page(
    frame: PageFrame, path: str, title: str, *parts: Html, still: bool = False
) -> Html:
    """A whole page.

    Args:
      frame: Around it.
      path: Of the entry of the navigation that it belongs to.
      title: Of the page.
      parts: Of the page.
      still: Whether it stays as it is, because somebody fills it in.
    """
    live = [] if still else [element("script", src="/assets/live.js", defer=True)]
    name = frame.fleet or "Starling"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{title} - {name}"),
        element("link", rel="icon", href="/assets/icon.svg"),
        element("link", rel="stylesheet", href="/assets/style.css"),
        *live,
    )
    main = element(
        "main", _banner(frame), element("h1", title), *parts, id="main", tabindex=-1
    )
    body = element(
        "body",
        element("a", "Skip to the content", href="#main", class_="skip"),
        element(
            "header",
            element("strong", name),
            _navigation(path),
            Html("") if still else _live(),
            _who(frame.operator),
        ),
        _notes(frame.operator),
        main,
    )
    return Html(f"{_DOCTYPE}{element('html', head, body, lang='en')}")


def bare_page(title: str, *parts: Html) -> Html:
    """A page that tells nothing about the fleet: an error, or the way in."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("link", rel="icon", href="/assets/icon.svg"),
        element("link", rel="stylesheet", href="/assets/style.css"),
    )
    body = element("body", element("main", element("h1", title), *parts, id="main"))
    return Html(f"{_DOCTYPE}{element('html', head, body, lang='en')}")


def _navigation(path: str) -> Html:
    entries = [
        element("a", text, href=to, aria_current="page" if to == path else None)
        for to, text in NAVIGATION
    ]
    return element("nav", *entries, aria_label="Pages")


def _live() -> Html:
    return element("span", "not live", id="live", role="status", class_="faint")


def _who(operator: OperatorFrame | None) -> Html:
    if operator is None:
        return element("div", link("/sign-in", "Sign in"), class_="who")
    leave = act(operator, "/act/sign-out", element("button", "Sign out"))
    return element("div", element("span", operator.name), leave, class_="who")


def _notes(operator: OperatorFrame | None) -> Html:
    """Notes of what was just done; outside of what a live page replaces."""
    if operator is None or not operator.notes:
        return Html("")
    rows = [
        element("p", text, class_="done" if well else "banner", role="status")
        for well, text in operator.notes
    ]
    return element("div", *rows, class_="notes")


def act(operator: OperatorFrame, path: str, *parts: Html, **hidden: str | int) -> Html:
    """A form that does something.

    Args:
      operator: Who may.
      path: Below `/act/`.
      parts: Of the form.
      hidden: More fields.
    """
    fields = {"csrf": operator.csrf, **hidden}
    return element(
        "form",
        *(
            element("input", type="hidden", name=name, value=value)
            for name, value in fields.items()
        ),
        *parts,
        action=path,
        method="post",
    )


def _banner(frame: PageFrame) -> Html:
    facts = frame.facts
    if facts is None:
        return element("p", frame.trouble, class_="banner")
    if facts.is_up:
        return Html("")
    state = facts.document["state"]
    why = "" if state == "running" else f", its last word was: {state}"
    text = f"The coordinator does not run: {duration(facts.age_s)} without a word{why}"
    return element("p", text, class_="banner")


def admission(operator: OperatorFrame | None, newcomers: int) -> Html:
    """The way to where boards are admitted, for an operator.

    Args:
      operator: Who signed in; None for a reader, who sees nothing.
      newcomers: Who came with a token and wait.
    """
    if operator is None:
        return Html("")
    way = link("/admit", "Admit a board")
    waiting = trouble(f"{newcomers} wait with a token: ") if newcomers else ""
    return element("p", waiting, way)


def card(title: str, *parts: Html) -> Html:
    """A part of a page with a heading."""
    return element("section", element("h2", title), *parts)


def figures(pairs: list[tuple[str, str | int]]) -> Html:
    """Names with their values."""
    rows = [
        element("div", element("dt", name), element("dd", value))
        for name, value in pairs
    ]
    return element("dl", *rows)


def board_link(board_id: str) -> Html:
    """A link to a board's page."""
    return link(f"/boards/{board_id}", element("code", board_id))


def trouble(text: str | int) -> Html:
    """A text that somebody should read; marked by more than its colour."""
    return joined(element("strong", "! ", class_="bad"), element("span", text))


def moment(time_ms: int | None) -> Html:
    """A moment in UTC, to the second; a dash if it is not known."""
    if time_ms is None:
        return Html("-")
    try:
        at = datetime.fromtimestamp(time_ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return Html("-")
    return element(
        "time", at.strftime("%Y-%m-%d %H:%M:%S"), datetime=at.isoformat("T", "seconds")
    )


def duration(seconds: float) -> str:
    """A duration for people."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, hours = seconds / 60, seconds / 3600
    if hours < 3:
        return f"{minutes:.0f} min"
    return f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} days"


def size(count: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def paid(epsilon: float | None, updates: int, form: str) -> str:
    """An epsilon; a dash if updates were taken and none of them was charged.

    Without privacy nothing is charged, and a 0 would promise the opposite.
    """
    return "-" if updates and not epsilon else optional(epsilon, form)


def optional(value: float | None, form: str) -> str:
    """A number in a form of `format`; a dash if it is not known."""
    return "-" if value is None else format(value, form)
