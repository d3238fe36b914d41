"""No text becomes markup, and none hides."""

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.console.markup import (
    TEXT_CHARS_MAX,
    Html,
    address,
    element,
    escaped,
    link,
    shown,
    table,
)


class Seen(HTMLParser):
    """What a browser's parser finds."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: dict[str, str | None] = {}
        self.text = ""
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= dict(attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text(max_size=200))
def test_any_text_stays_one_text(text: str) -> None:
    seen = Seen(element("p", text, title=text))

    assert seen.tags == ["p"]
    assert seen.text == shown(text)
    assert seen.attributes == {"title": shown(text)}


@pytest.mark.parametrize("hidden", ["\N{RIGHT-TO-LEFT OVERRIDE}", "\x00", "\u200b"])
def test_characters_that_hide_are_seen(hidden: str) -> None:
    assert escaped(f"a{hidden}b") == "a\N{REPLACEMENT CHARACTER}b"


def test_markup_of_ours_stays_and_long_text_ends() -> None:
    assert element("p", Html("<b>x</b>")) == "<p><b>x</b></p>"
    assert element("p", title=Html("x" * 3000)) == f'<p title="{"x" * 3000}"></p>'
    assert len(escaped("x" * 10 * TEXT_CHARS_MAX)) == TEXT_CHARS_MAX + 1


def test_attributes_of_every_kind() -> None:
    made = element("input", name="q", disabled=True, max=None, class_="a", aria_live=1)

    assert made == '<input name="q" disabled class="a" aria-live="1">'


def test_link_escapes_its_query_and_leads_to_us_only() -> None:
    made = link("/boards", "x", q='"><script>', page=2, sort="")

    assert made == '<a href="/boards?q=%22%3E%3Cscript%3E&amp;page=2">x</a>'
    assert address("/boards") == "/boards"
    with pytest.raises(AssertionError):
        link("//evil.example", "x")


def test_table_can_be_reached_by_keyboard_and_has_a_name() -> None:
    made = table((link("/", "a & b"), None), [("<", "c")], "Boards")

    assert 'tabindex="0" role="region" aria-label="Boards"' in made
    assert '<td data-head="a &amp; b">&lt;</td><td>c</td>' in made
