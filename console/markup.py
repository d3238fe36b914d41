"""HTML made of elements; every text in it is escaped.

`Html` is the only type that is put into a page as it is. All else becomes text: the
five characters of markup become references, and characters that are not shown, or
that turn the direction of what follows, become U+FFFD. So a name that somebody else
chose can neither add markup nor look like another name by hidden characters.

Source: html.spec.whatwg.org, section 13.3; unicode.org/reports/tr36, section 2.
"""

import html
import re
import unicodedata
from typing import TypeAlias
from urllib.parse import urlencode

TEXT_CHARS_MAX = 2000
"""Of one text; a longer one ends with an ellipsis."""
_TAG = re.compile(r"<[^>]*>")
_VOID = frozenset({"meta", "link", "input", "br"})
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_SPACES = frozenset("\n\t")


class Html(str):
    """Markup that is safe in a page as it is."""

    __slots__ = ()


Child: TypeAlias = "str | int | None"
Attribute: TypeAlias = "str | int | float | bool | None"


def shown(text: str) -> str:
    """A text without characters that hide, and of bounded length."""
    clean = "".join(
        "\N{REPLACEMENT CHARACTER}"
        if unicodedata.category(char) in _HIDDEN and char not in _SPACES
        else char
        for char in text[:TEXT_CHARS_MAX]
    )
    return clean if len(text) <= TEXT_CHARS_MAX else f"{clean}…"


def escaped(value: Child) -> Html:
    """Markup of a text; nothing for None, and `Html` as it is."""
    if isinstance(value, Html):
        return value
    return Html("" if value is None else html.escape(shown(str(value))))


def whole(text: str) -> Html:
    """Markup of a text as it is, of any length: what a form sends back."""
    # The parser drops a line feed that begins a text area.
    return Html("\n" + html.escape(text))


def joined(*children: Child) -> Html:
    """Children one after the other."""
    return Html("".join(map(escaped, children)))


def element(name: str, /, *children: Child, **attributes: Attribute) -> Html:
    """One element.

    Args:
      name: Of the element; ours, never from outside.
      children: Texts, which are escaped, and `Html`.
      attributes: Their values are escaped and bounded; `Html` is neither. `class_` is
        `class`, and other underlines are hyphens. True gives the name alone; None and
        False leave it out.
    """
    words = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        word = key.rstrip("_").replace("_", "-")
        if value is True:
            words.append(word)
        else:
            text = value if isinstance(value, str) else str(value)
            words.append(f'{word}="{escaped(text)}"')
    opening = f"<{' '.join(words)}>"
    if name in _VOID:
        return Html(opening)
    return Html(f"{opening}{joined(*children)}</{name}>")


def link(path: str, *children: Child, **query: str | int) -> Html:
    """A link to a page of ours.

    Args:
      path: Begins with a slash; ours.
      children: Shown.
      query: Left out where empty.
    """
    assert path.startswith("/")
    assert not path.startswith("//")
    return element("a", *children, href=address(path, **query))


def address(path: str, **query: str | int) -> str:
    """A page's path with its query."""
    # What is left at its default is left out: a page has one address.
    kept = {key: value for key, value in query.items() if value not in ("", 0)}
    return f"{path}?{urlencode(kept)}" if kept else path


def table(heads: tuple[Child, ...], rows: list[tuple[Child, ...]], text: str) -> Html:
    """A table that can be scrolled sideways by itself, and by keyboard.

    On a narrow screen the cells of a row stand below each other, each with the name of
    its column (`assets/style.css`), which it carries for that.

    Args:
      heads: Of the columns.
      rows: As many cells each.
      text: Says what the table has, for readers of its name.
    """
    head = element("tr", *(element("th", cell, scope="col") for cell in heads))
    names = [_text(cell) for cell in heads]
    body = [
        element(
            "tr",
            *(
                element("td", cell, data_head=name or None)
                for cell, name in zip(row, names, strict=True)
            ),
        )
        for row in rows
    ]
    made = element(
        "table",
        element("caption", text, class_="unseen"),
        element("thead", head),
        element("tbody", *body),
    )
    return element(
        "div", made, class_="scroll", tabindex=0, role="region", aria_label=text
    )


def _text(child: Child) -> str:
    """Text of a child, without its markup."""
    if isinstance(child, Html):
        return html.unescape(_TAG.sub("", child)).strip()
    return "" if child is None else str(child)
