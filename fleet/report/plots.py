"""Pictures of a finished run; each is a function from a report to a figure.

Colours are Okabe and Ito's, told apart by everybody.
"""

from collections.abc import Callable, Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_GREEN, _BLUE, _ORANGE, _GREY = "#009E73", "#0072B2", "#D55E00", "#999999"
_INK = "#333333"
_SIZE_IN = (7.2, 4.0)
_DEVICE_LABELS_MAX = 24
Report = Mapping[str, Any]


def _canvas(
    report: Report, title: str, across: str, up: str = ""
) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE_IN, layout="constrained")
    axes = figure.subplots()
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, color=_INK, weight="bold")
    axes.set_title(_about(report), loc="left", fontsize=9, color="#666666", pad=10)
    axes.set_xlabel(across, color=_INK)
    axes.set_ylabel(up, color=_INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_GREY)
    axes.tick_params(colors=_INK, length=3)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _about(report: Report) -> str:
    config, privacy = report["config"], report["privacy"]
    text = f"{config['devices']} boards, buffer {config['buffer']}, {config['data']}"
    if config.get("split"):
        text += f" ({config['split']})"
    if not privacy:
        return f"{text}, no privacy"
    return (
        f"{text}, epsilon at most {privacy['epsilon_cap']:g} per {privacy['unit']} "
        f"(delta {privacy['delta']:g})"
    )


def _accuracy(report: Report, key: str, across: str) -> Figure:
    points = [p for p in report["versions"] if p["accuracy"] is not None]
    if not points and any(p["loss"] is not None for p in report["versions"]):
        return _loss(report, key, across)
    figure, axes = _canvas(report, "Accuracy on held-out examples", across)
    where = [p[key] for p in points]
    heights = [100 * p["accuracy"] for p in points]
    axes.plot(where, heights, color=_GREEN, linewidth=2, marker="o", markersize=3.5)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0f} %")
    axes.set_ylim(0, 101)
    axes.set_xlim(left=0)
    if points:
        axes.annotate(
            f"{heights[-1]:.1f} %",
            (where[-1], heights[-1]),
            textcoords="offset points",
            xytext=(0, 8),
            ha="right",
            color=_GREEN,
            fontweight="bold",
        )
    return figure


def _loss(report: Report, key: str, across: str) -> Figure:
    """Loss where there is no accuracy: of numbers."""
    figure, axes = _canvas(report, "Loss on held-out examples", across)
    points = [p for p in report["versions"] if p["loss"] is not None]
    where, heights = [p[key] for p in points], [p["loss"] for p in points]
    axes.plot(where, heights, color=_GREEN, linewidth=2, marker="o", markersize=3.5)
    if min(heights) > 0:
        axes.set_yscale("log")
    axes.set_xlim(left=0)
    return figure


def accuracy_over_versions(report: Report) -> Figure:
    """Accuracy by model version."""
    return _accuracy(report, "version", "model version")


def accuracy_over_time(report: Report) -> Figure:
    """Accuracy by seconds since the task was published."""
    return _accuracy(report, "time_s", "seconds since the task was published")


def staleness(report: Report) -> Figure:
    """Histogram of the versions' mean staleness."""
    figure, axes = _canvas(
        report, "Staleness of updates", "mean over a version's updates", "versions"
    )
    values = [
        p["staleness_mean"]
        for p in report["versions"]
        if p["staleness_mean"] is not None
    ]
    if values:
        top = max(4.0, max(values) + 0.25)
        edges = [i * 0.25 - 0.125 for i in range(int(top * 4) + 2)]
        axes.hist(values, bins=edges, color=_BLUE, rwidth=0.85)
        # Room above the bars for what is written at the mean.
        axes.set_ylim(0, 1.12 * axes.get_ylim()[1])
        mean = sum(values) / len(values)
        axes.axvline(mean, color=_ORANGE, linewidth=1.5, linestyle="--")
        axes.annotate(
            f"mean {mean:.2f}",
            (mean, 1),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            xytext=(5, -12),
            color=_ORANGE,
        )
        axes.set_xlim(-0.15, top)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def epsilon_per_board(report: Report) -> Figure:
    """Bars of the epsilon that every board's data has paid, beside the cap."""
    figure, axes = _canvas(report, "Privacy spent", "board", "epsilon")
    devices = sorted(report["devices"], key=lambda device: str(device["id"]))
    places = list(range(len(devices)))
    axes.bar(places, [d["epsilon"] for d in devices], color=_BLUE, width=0.7)
    if len(devices) <= _DEVICE_LABELS_MAX:
        axes.set_xticks(places, [d["id"][:6] for d in devices], rotation=45, ha="right")
    if report["privacy"]:
        cap = report["privacy"]["epsilon_cap"]
        axes.axhline(cap, color=_ORANGE, linewidth=1.5, linestyle="--")
        axes.annotate(
            f"cap {cap:g}",
            (1, cap),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            xytext=(-2, 4),
            ha="right",
            color=_ORANGE,
        )
        axes.set_ylim(0, 1.12 * cap)
    return figure


PLOTS: dict[str, Callable[[Report], Figure]] = {
    "accuracy_versions.png": accuracy_over_versions,
    "accuracy_time.png": accuracy_over_time,
    "staleness.png": staleness,
    "epsilon.png": epsilon_per_board,
}
"""By file name."""
