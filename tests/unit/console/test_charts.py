"""Charts hold every value in their frame, and say it in words."""

import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.console.charts import POINTS_MAX, line_chart, number, thinned

VALUES = st.floats(-1e9, 1e9, allow_nan=False)


@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=50))
def test_every_point_is_inside_of_the_frame(points: list[tuple[float, float]]) -> None:
    made = line_chart("loss", sorted(points), "version")

    # Fails unless it is well formed.
    figure = ET.fromstring(made)  # noqa: S314 - our own
    drawn = figure.find(".//polyline")
    assert drawn is not None
    pairs = re.findall(r"(-?[\d.]+),(-?[\d.]+)", drawn.attrib["points"])
    assert len(pairs) == len(points)
    assert all(0 <= float(x) <= 360 and 0 <= float(y) <= 190 for x, y in pairs)


def test_long_line_is_drawn_whole() -> None:
    points = [(float(x), x % 7 / 7) for x in range(POINTS_MAX)]

    figure = ET.fromstring(line_chart("loss", points, "version"))  # noqa: S314

    drawn = figure.find(".//polyline")
    assert drawn is not None
    pairs = drawn.attrib["points"].split(" ")
    assert len(pairs) == POINTS_MAX
    assert all(re.fullmatch(r"[\d.]+,[\d.]+", pair) for pair in pairs)


def test_chart_says_in_words_what_it_shows() -> None:
    made = line_chart("accuracy", [(0, 0.1), (1, 0.9), (2, 0.8)], "version")

    told = "accuracy: from 0.1 to 0.8, least 0.1, most 0.9, over version 0 to 2"
    assert f'aria-label="{told}"' in made


def test_chart_without_points_says_so_and_a_hostile_title_is_text() -> None:
    assert "nothing yet" in line_chart("loss", [], "version")
    assert "<b>" not in line_chart("<b>", [(0, 1)], "<b>")


def test_many_points_are_thinned_and_keep_both_ends() -> None:
    points = [(float(x), 0.0) for x in range(5000)]

    kept = thinned(points)

    assert len(kept) == POINTS_MAX
    assert (kept[0], kept[-1]) == (points[0], points[-1])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.5, "0.5"),
        (1234.0, "1,234"),
        (1e-9, "1.00e-09"),
        (5e6, "5.00e+06"),
    ],
)
def test_number_for_people(value: float, text: str) -> None:
    assert number(value) == text
