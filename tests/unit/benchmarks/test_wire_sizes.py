"""Sizes on the pages are those that `benchmarks.wire` counts."""

import re

from benchmarks import wire
from tests.unit.test_language import ROOT

NAMES = {
    "receipt (`FINAL`), block of 100 transactions": "receipt (final)",
    "manifest, state of 1,000 boards": "manifest",
}
"""Rows of the protocol's page that say more than the benchmark's name."""
SIZES = {row.what: row.size_bytes for row in wire.rows()}


def test_protocol_page_has_the_sizes_of_one_coordinator_and_of_four() -> None:
    page = (ROOT / "docs" / "protocol.md").read_text("utf-8")
    section = page.split("\n## Sizes\n", 1)[1]
    found = re.findall(r"^\| (.+?) \| ([\d,]+) B \| ([\d,]+) B \|$", section, re.M)
    assert len(found) > 10

    for name, *sizes in found:
        what = NAMES.get(name, name)
        shown = [int(size.replace(",", "")) for size in sizes]
        assert shown == [SIZES[f"{what}, n = {count}"] for count in (1, 4)], name


def test_benchmarks_page_has_the_sizes_of_four_coordinators() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    section = page.split("\n## Bytes\n", 1)[1].split("\n## ", 1)[0]
    shown = {
        int(each.replace(",", "")) for each in re.findall(r"\d+,?\d*(?= \|)", section)
    }
    of_four = {size for what, size in SIZES.items() if what.endswith("n = 4")}

    pieces = ("contribution transaction", "header", "certificate", "receipt (final)")
    assert {SIZES[f"{piece}, n = 4"] for piece in pieces} <= shown
    updates = [size for what, size in SIZES.items() if "packed8, n = 4" in what]
    assert {*updates} <= shown & of_four
