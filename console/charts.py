"""Line charts as SVG, without styles of their own: the style sheet has the colours."""

from collections.abc import Sequence

from starling.console.markup import Html, element

POINTS_MAX = 240
"""Drawn; of more, every n-th and the last."""
_WIDTH, _HEIGHT = 360, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 12, 34
_STEPS = 4

Point = tuple[float, float]


def thinned(points: Sequence[Point], most: int = POINTS_MAX) -> list[Point]:
    """At most so many of the points, the first and the last among them."""
    if len(points) <= most:
        return list(points)
    step = (len(points) - 1) / (most - 1)
    return [points[round(place * step)] for place in range(most)]


def line_chart(title: str, points: Sequence[Point], x_label: str) -> Html:
    """A chart of one line.

    Args:
      title: Of the chart, with the unit.
      points: By rising x; finite.
      x_label: Under the axis.

    Returns:
      A figure; without points, one that says so.
    """
    caption = element("figcaption", title)
    if not points:
        return element("figure", caption, element("p", "nothing yet", class_="faint"))
    drawn = thinned(points)
    xs, ys = [x for x, _ in drawn], [y for _, y in drawn]
    low_x, high_x = _range(xs)
    low_y, high_y = _range(ys)

    def across(x: float) -> float:
        share = (x - low_x) / (high_x - low_x)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def down(y: float) -> float:
        share = (y - low_y) / (high_y - low_y)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    steps = [share / _STEPS for share in range(_STEPS + 1)]
    parts = []
    for share in steps:
        y = low_y + share * (high_y - low_y)
        level = f"{down(y):.1f}"
        parts.append(element("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=level, y2=level))
        parts.append(_label(number(y), _LEFT - 5, down(y) + 4, "end"))
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        x = low_x + share * (high_x - low_x)
        parts.append(_label(number(x), across(x), _HEIGHT - _BOTTOM + 15, anchor))
    parts.append(_label(x_label, (_LEFT + _WIDTH) / 2, _HEIGHT - 4, "middle"))
    path = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in drawn)
    parts.append(element("polyline", points=Html(path)))
    x, y = drawn[-1]
    parts.append(element("circle", cx=f"{across(x):.1f}", cy=f"{down(y):.1f}", r=3))
    told = (
        f"{title}: from {number(ys[0])} to {number(ys[-1])}, least {number(min(ys))}, "
        f"most {number(max(ys))}, over {x_label} {number(xs[0])} to {number(xs[-1])}"
    )
    view = f"0 0 {_WIDTH} {_HEIGHT}"
    image = element("svg", *parts, viewBox=view, role="img", aria_label=told)
    return element("figure", caption, image)


def number(value: float) -> str:
    """A number for people, with three digits that count."""
    if value and (abs(value) >= 10_000 or abs(value) < 0.001):
        return f"{value:.2e}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    # A flat line is drawn in the middle: there is no range to divide by.
    if low == high:
        return low - 0.5, high + 0.5
    return low, high


def _label(text: str, x: float, y: float, anchor: str) -> Html:
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)
