"""The frame of every page."""

import pytest

from starling.console.markup import Html
from starling.console.pages.layout import bare_page, duration, moment, page, size
from tests.unit.console.status_documents import frame


def test_page_names_itself_and_where_it_stands() -> None:
    made = page(frame(), "/chain", "Chain", Html("<p>x</p>"))

    assert made.startswith('<!doctype html>\n<html lang="en">')
    assert '<a href="/chain" aria-current="page">Chain</a>' in made
    assert made.count("aria-current") == 1
    assert 'href="#main" class="skip"' in made


def test_nothing_is_inline_or_from_elsewhere() -> None:
    made = page(frame(), "/", "Overview") + bare_page("Sign in")

    for word in ("style=", "onclick", "<style", "http://", "https://", "javascript:"):
        assert word not in made
    assert made.count("<script") == made.count('<script src="/assets/live.js" defer>')


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "40 ms"), (1.5, "1.5 s"), (60, "60 s"), (600, "10 min"), (7e4, "19 h")],
)
def test_duration_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_sizes_and_moments_for_people() -> None:
    assert [size(n) for n in (5, 1500, 2e6, 3e13)] == [
        "5 B",
        "1.5 kB",
        "2.0 MB",
        "30.0 TB",
    ]
    assert moment(None) == moment(10**30) == "-"
