"""Table and figures of an experiment's finished cells."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.table import Table

from starling.fleet.reproduction.experiment_grid import (
    SPLITS,
    ExperimentCell,
    ExperimentGrid,
)

Found = Mapping[ExperimentCell, Mapping[str, Any]]
"""Documents of `fleet.runtime.experiment_run`, by cell."""
_TITLES = {
    "none": "no noise",
    "laplace": "Laplace",
    "gaussian": "Gaussian",
    "record": "a record's",
    "labels": "labels drawn",
}
_COLOURS = {
    "none": "#333333",
    "laplace": "#D55E00",
    "gaussian": "#0072B2",
    "record": "#009E73",
    "labels": "#CC79A7",
}
_GREY = "#999999"
_SIZE_IN = (7.2, 4.0)
_FIRST_FIGURE = 3
"""Of the paper; its figures 3 to 8 have a number of rounds and a kind of data each."""


def budget_text(documents: Sequence[Mapping[str, Any]]) -> str:
    """Epsilons that were paid, of what, and the unit that they hide.

    Args:
      documents: Cells of one noise; one epsilon is shown where all are the same.
    """
    if not documents:
        return "-"
    privacy = documents[-1]["privacy"]
    if privacy is None:
        return "none"
    paid = [f"{document['epsilon']:.2f}" for document in documents]
    shown = paid[:1] if len(set(paid)) == 1 else paid
    return (
        f"{', '.join(shown)} of {privacy['epsilon_cap']:g} for {privacy['unit']}, "
        f"delta {privacy['delta']:g}"
    )


def rows(grid: ExperimentGrid, found: Found, central: float) -> list[list[str]]:
    """A row for each noise and split; a column for each number of rounds.

    Args:
      grid: What was asked for.
      found: Finished cells; others show as a dash.
      central: V_SUM, accuracy on the held-out examples of all data in one place.
    """
    made = []
    for split in grid.splits:
        for noise in grid.noises:
            cells = [
                ExperimentCell(noise, split, rounds) for rounds in sorted(grid.rounds)
            ]
            there = [found[cell] for cell in cells if cell in found]
            accuracies = [
                _accuracy_text(found[cell], central) if cell in found else "-"
                for cell in cells
            ]
            made.append([split, _TITLES[noise], *accuracies, budget_text(there)])
    return made


def _accuracy_text(document: Mapping[str, Any], central: float) -> str:
    """Accuracy on test examples, or held-out ones, and the distance of equation 1."""
    held_out, test = document["accuracy"][-1][1], document["test_accuracy"]
    shown = held_out if test is None else test
    return f"{100 * shown:.1f} % ({100 * abs(held_out - central):.1f})"


def headings(grid: ExperimentGrid) -> list[str]:
    """Of the columns of `rows`."""
    rounds = [f"{count} rounds" for count in sorted(grid.rounds)]
    return ["data", "noise", *rounds, "epsilon paid"]


def table(grid: ExperimentGrid, found: Found, central: float) -> Table:
    """The table for a terminal."""
    made = Table(title=_title(grid, central))
    for name in headings(grid):
        made.add_column(name)
    for row in rows(grid, found, central):
        made.add_row(*row)
    return made


def markdown(grid: ExperimentGrid, found: Found, central: float) -> str:
    """The table as Markdown."""
    lines = [headings(grid), ["---"] * len(headings(grid)), *rows(grid, found, central)]
    return "\n".join([f"{_title(grid, central)}\n", *[_piped(line) for line in lines]])


def _piped(line: Sequence[str]) -> str:
    return f"| {' | '.join(line)} |"


def _title(grid: ExperimentGrid, central: float) -> str:
    model = grid.model or "head"
    return (
        f"{grid.data}, {model}, {grid.boards} boards, {grid.chosen} a round; accuracy, "
        "and in brackets points from training on all data in one place "
        f"({100 * central:.1f} % on held-out examples)"
    )


def figures(grid: ExperimentGrid, found: Found, central: float) -> dict[str, Figure]:
    """A figure for each number of rounds and kind of data, by file name.

    Args:
      grid: What was asked for.
      found: Finished cells; a figure without one is left out.
      central: V_SUM.
    """
    made: dict[str, Figure] = {}
    number = _FIRST_FIGURE
    for rounds in sorted(grid.rounds):
        for split in SPLITS:
            cells = [ExperimentCell(noise, split, rounds) for noise in grid.noises]
            there = {cell: found[cell] for cell in cells if cell in found}
            if there:
                name = f"figure{number}-{split}-{rounds}.png"
                made[name] = _figure(there, split, rounds, central)
            number += 1
    return made


def _figure(found: Found, split: str, rounds: int, central: float) -> Figure:
    figure = Figure(figsize=_SIZE_IN, layout="constrained")
    axes = figure.subplots()
    title = f"{'Balanced' if split == 'iid' else 'Unbalanced'} data, {rounds} rounds"
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, weight="bold")
    units = "epsilons are totals: a record's of one record, others of all a board holds"
    axes.set_title(units, loc="left", fontsize=9, color="#666666", pad=10)
    for cell, document in found.items():
        series = document["accuracy"]
        privacy = document["privacy"]
        label = _TITLES[cell.noise]
        if privacy is not None:
            label += f" noise, epsilon {privacy['epsilon_cap']:g}"
        axes.plot(
            [version for version, _ in series],
            [100 * accuracy for _, accuracy in series],
            color=_COLOURS[cell.noise],
            linewidth=1.8,
            label=label,
        )
    axes.axhline(100 * central, color=_GREY, linewidth=1.2, linestyle="--")
    axes.annotate(
        f"all data in one place: {100 * central:.1f} %",
        (0, 100 * central),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        xytext=(4, 4),
        color="#666666",
        fontsize=8,
    )
    axes.set_xlabel("round")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0f} %")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(0, 106)
    axes.set_xlim(0, rounds)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    figure.legend(
        loc="outside lower center", ncols=len(found), frameon=False, fontsize=8
    )
    return figure
