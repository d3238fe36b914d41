"""What the table of public models says of each of them, and what its summary counts."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.models import scoreboard
from benchmarks.models.public_model import IDIOMS, QDQ
from benchmarks.models.scoreboard import (
    MARKS,
    compiles,
    differs,
    silent,
    summary,
    told,
)

FACTS: dict[str, Any] = {
    "parameters": 100,
    "used": 100,
    "counted": 100,
    "notes": [],
    "compile_s": 0.1,
    "trains": True,
    "private": True,
    "peak_mib": 70.4,
    "step_s": 0.002,
    "private_step_s": 0.003,
}


def row(
    model: str = "net",
    form: str = "TorchScript",
    **changes: Any,  # noqa: ANN401 - facts of any type
) -> dict[str, Any]:
    return {"model": model, "form": form, "family": "sound", **FACTS, **changes}


def failed(**changes: str) -> dict[str, Any]:
    """A model that never came to be counted."""
    kept = {k: v for k, v in row().items() if k in ("model", "form", "family", "used")}
    return {**kept, "parameters": 100, **changes}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (row(), False),
        (row(counted=90), True),
        (row(counted=90, notes=["b: computed into the convolution"]), False),
        (row(parameters=120, used=100, counted=120), False),
        (row(parameters=120, used=100, counted=100), False),
        (failed(refused="no rule"), False),
    ],
    ids=["equal", "fewer", "fewer and told", "all", "those of the loss", "refused"],
)
def test_difference_is_silent_where_no_warning_names_it(
    facts: dict[str, Any], expected: bool
) -> None:
    assert silent(facts) is expected


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (row(output_error=1e-5, loss_error=1e-5, norm_error=1e-5), False),
        (row(output_error=0.1), True),
        (row(norm_error=0.1), True),
        (row(norm_error=0.1, counted=90), False),
        (row(form=QDQ, output_error=0.1), False),
    ],
    ids=["rounding", "outputs", "norms", "norms of other values", "eight bits"],
)
def test_other_values_than_the_toolkits_show(
    facts: dict[str, Any], expected: bool
) -> None:
    assert differs(facts) is expected


@pytest.mark.parametrize(
    "facts",
    [row(trains=False), row(private=False), failed(refused="r"), failed(failed="f")],
)
def test_bundle_counts_when_it_trains_in_both_ways(facts: dict[str, Any]) -> None:
    assert compiles(row())
    assert not compiles(facts)


def test_line_says_why_a_model_does_not_train() -> None:
    assert told("net", failed(refused="no rule")) == "net: refused: no rule"
    assert "export_failed: no" in told("net", failed(export_failed="no"))
    assert "90 of 100 SILENT" in told("net", row(counted=90))
    assert "DOES NOT TRAIN" in told("net", row(trains=False))
    assert "norm_error 2.0e-07" in told("net", row(norm_error=2e-7))


def test_summary_counts_models_and_exports() -> None:
    rows = {
        "a | one": row("a", "one"),
        "a | two": {**failed(refused="r"), "model": "a"},
        "b | one": row("b", "one", counted=90),
        "c | one": {**failed(export_failed="e"), "model": "c"},
        "d | one": row("d", "one", norm_error=0.1),
    }

    lines = summary(rows).splitlines()

    assert lines[0] == "models: 3, in some form 3, in every 2"
    assert lines[1] == "exports: 4, of them compiled and trained 3"
    assert lines[2:] == [
        "silent differences: ['b | one']",
        "other values: ['d | one']",
        "fail: ['a | two']",
        "not exported: ['c | one']",
    ]


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "models.md"
    made.write_text(f"# Before\n{MARKS[0]}\nold\n{MARKS[1]}\nbehind\n")
    monkeypatch.setattr(scoreboard, "DOCS", made)
    return made


def table(page: Path) -> list[list[str]]:
    """Cells of all lines of tables."""
    lines = [line for line in page.read_text().splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("timed", [False, True])
def test_page_has_a_line_of_equal_width_for_each_export(
    page: Path, timed: bool
) -> None:
    peer = {"peak_mib": 300.2, "step_s": 0.004, "private_step_s": 0.009}
    rows = [
        row(peer=peer),
        row("told", counted=90, notes=["why"]),
        row("silent", counted=90),
        {**failed(refused="no rule for a | b\nhere"), "model": "refused"},
        {**failed(export_failed="broken"), "model": "broken"},
    ]

    scoreboard.write_docs({str(k): v for k, v in enumerate(rows)}, timed=timed)

    found = table(page)
    assert {len(cells) for cells in found} == {12 if timed else 7}
    by_name = {cells[0]: cells for cells in found}
    assert by_name["net"][2:7] == ["100", "100", "yes", "yes", "70"]
    assert by_name["net"][7:] == (
        ["300", "2.00", "3.00", "4.00", "9.00"] if timed else []
    )
    assert by_name["told"][3] == "90 (told)"
    assert by_name["silent"][3] == "90 (silent)"
    assert by_name["refused"][3] == "refused: no rule for a / b here"
    assert by_name["broken"][3] == "not exportable: broken"


def test_page_keeps_what_stands_around_the_tables(page: Path) -> None:
    scoreboard.write_docs({"a": row()})

    text = page.read_text()
    assert text.startswith(f"# Before\n{MARKS[0]}\n\n1 models, 1 exports: 1 compile,")
    assert "\n\n### Sound\n\n| model" in text
    assert text.endswith(f"\n{MARKS[1]}\nbehind\n")
    assert "old" not in text


def test_idioms_are_counted_by_exporter_and_only_failures_have_lines(
    page: Path,
) -> None:
    rows = [
        row("a", "one"),
        row("b", "one", counted=90),
        {**failed(refused="no rule"), "model": "c", "form": "one"},
        {**failed(export_failed="e"), "model": "d", "form": "one"},
        row("a", "two"),
    ]

    scoreboard.write_docs(
        {str(k): {**each, "family": IDIOMS} for k, each in enumerate(rows)}
    )

    found = table(page)
    assert found[2:4] == [["one", "4", "3", "2", "1"], ["two", "1", "1", "1", "0"]]
    assert found[-1] == ["c", "one", "no rule"]
    assert len(found) == 4 + 3
