"""Contrast of every pair of colours that the style sheet puts together.

Source: w3.org/TR/WCAG22, success criteria 1.4.3 and 1.4.11, and relative luminance.
"""

import re
from importlib import resources

import pytest

STYLE = resources.files("starling.console").joinpath("assets", "style.css").read_text()
TEXT, EDGE = 4.5, 3.0
PAIRS = [
    ("ink", "ground", TEXT),
    ("ink", "raised", TEXT),
    ("faint", "ground", TEXT),
    ("faint", "raised", TEXT),
    ("accent", "ground", TEXT),
    ("accent", "raised", TEXT),
    ("ground", "accent", TEXT),
    ("bad", "ground", TEXT),
    ("bad", "raised", TEXT),
    ("bad", "bad-ground", TEXT),
    ("good", "good-ground", TEXT),
    ("faint", "ground", EDGE),
    ("faint", "raised", EDGE),
]
"""Letters or edges, what is behind them, and the least contrast."""


def colours() -> dict[str, dict[str, str]]:
    light, dark = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    found = {"light": light, "dark": dark}
    return {
        scheme: dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", text))
        for scheme, text in found.items()
    }


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_of_black_and_white_is_that_of_the_source() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("front", "back", "least"), PAIRS)
def test_pair_has_the_contrast_of_level_aa(
    scheme: str, front: str, back: str, least: float
) -> None:
    known = colours()[scheme]

    assert contrast(known[front], known[back]) >= least


def test_every_rule_takes_its_colours_from_the_checked_ones() -> None:
    rules = re.sub(r":root \{.*?\}", "", STYLE, flags=re.DOTALL)
    known = {name for pair in PAIRS for name in pair[:2]} | {"edge"}

    assert set(re.findall(r"var\(--([a-z-]+)\)", rules)) <= known
    assert not re.findall(r"#[0-9a-fA-F]{3,8}\b(?!live)", rules.replace("#live", ""))
    assert colours()["light"].keys() == colours()["dark"].keys()
