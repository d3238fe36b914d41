"""The paper's grid becomes plans with as many releases as the boards can make."""

from dataclasses import replace
from typing import Any

import pytest

from starling.fleet.reproduction.experiment_grid import (
    QUICK,
    ExperimentCell,
    ExperimentGrid,
)
from starling.fleet.reproduction.experiment_report import (
    budget_text,
    figures,
    headings,
    markdown,
    rows,
)
from starling.protocol.errors import ConfigError

TERMS = {"epsilon_cap": 8.0, "unit": "one record", "delta": 1e-5}


def document(accuracy: float, privacy: dict[str, Any] | None) -> dict[str, Any]:
    series = [[0, 0.1], [5, accuracy]]
    return {
        "accuracy": series,
        "test_accuracy": accuracy + 0.01,
        "privacy": privacy,
        "epsilon": 7.9 if privacy else 0.0,
    }


def test_grid_has_the_paper_s_cells_and_a_column_of_records() -> None:
    cells = ExperimentGrid().cells
    assert len(cells) == len(set(cells)) == 4 * 2 * 3
    assert [cell.rounds for cell in cells] == [100] * 8 + [200] * 8 + [500] * 8
    assert cells[1].name == "laplace-iid-100"


@pytest.mark.parametrize(
    ("cell", "releases", "split"),
    [
        (ExperimentCell("laplace", "iid", 100), 10, "iid"),
        (ExperimentCell("record", "non-iid", 500), 50, "shards:2"),
    ],
)
def test_budget_is_planned_for_the_turns_of_a_board(
    cell: ExperimentCell, releases: int, split: str
) -> None:
    plan = ExperimentGrid().plan(cell)
    assert (plan.releases, plan.split) == (releases, split)
    assert (plan.devices, plan.buffer, plan.until_version) == (100, 10, cell.rounds)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"noises": ("some",)}, "--noise"),
        ({"splits": ("odd",)}, "--splits"),
        ({"rounds": (0,)}, "--until-version"),
        ({"model": "resnet"}, "--model"),
        ({"epsilon": 0.0}, "--epsilon"),
    ],
)
def test_grid_that_no_fleet_can_run_is_refused(
    changes: dict[str, Any], key: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        replace(ExperimentGrid(), **changes)
    assert caught.value.key == key


def test_table_names_unit_and_epsilon_and_leaves_a_dash() -> None:
    grid = replace(QUICK, splits=("iid",), noises=("none", "record"))
    found = {
        ExperimentCell("none", "iid", 5): document(0.9, None),
        ExperimentCell("record", "iid", 5): document(0.8, TERMS),
        ExperimentCell("record", "iid", 10): document(0.85, TERMS),
    }
    assert headings(grid)[2:4] == ["5 rounds", "10 rounds"]
    assert rows(grid, found, 0.95) == [
        ["iid", "no noise", "91.0 % (5.0)", "-", "none"],
        [
            "iid",
            "a record's",
            "81.0 % (15.0)",
            "86.0 % (10.0)",
            "7.90 of 8 for one record, delta 1e-05",
        ],
    ]
    assert "95.0 % on held-out examples" in markdown(grid, found, 0.95)
    made = figures(grid, found, 0.95)
    assert list(made) == ["figure3-iid-5.png", "figure5-iid-10.png"]
    lines = made["figure3-iid-5.png"].axes[0].get_lines()
    # A line for each noise, and one for all data in one place.
    assert len(lines) == 3


def test_each_epsilon_is_shown_where_they_differ() -> None:
    cells = [document(0.9, TERMS) | {"epsilon": paid} for paid in (8.0, 7.75, 7.6)]
    assert budget_text(cells).startswith("8.00, 7.75, 7.60 of 8 for one record")
    assert budget_text(cells[:1]).startswith("8.00 of 8")
    assert budget_text([]) == "-"
