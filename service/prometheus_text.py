"""Prometheus' text format: metrics that are declared once, and samples of them.

Source: prometheus.io/docs/instrumenting/exposition_formats (0.0.4) and
prometheus.io/docs/practices/naming.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OTHER = "other"
"""Label of what a program does not name, so that labels take few values."""
_PREFIX = "starling_"

Sample = tuple[str, Mapping[str, str], float | None]
"""A metric's name without the prefix, its labels, and its value; None is left out."""


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
      name: With unit and, for counters, `_total`.
      kind: `gauge` or `counter`.
      meaning: One line.
      labels: Their names.
    """

    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...] = ()


def gauge(name: str, meaning: str, *labels: str) -> Metric:
    """A value that goes up and down.

    Args:
      name: With its unit; the prefix is put before it.
      meaning: One line.
      labels: Their names.
    """
    return Metric(f"{_PREFIX}{name}", "gauge", meaning, labels)


def counter(name: str, meaning: str, *labels: str) -> Metric:
    """A count that only grows while its program runs.

    Args:
      name: With its unit; prefix and `_total` are put around it.
      meaning: One line.
      labels: Their names.
    """
    return Metric(f"{_PREFIX}{name}_total", "counter", meaning, labels)


def exposition(metrics: Mapping[str, Metric], samples: Iterable[Sample]) -> str:
    """The whole text, in the order of the metrics.

    Args:
      metrics: By name.
      samples: Each of one of them.
    """
    found: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for name, labels, value in samples:
        if value is not None:
            found.setdefault(f"{_PREFIX}{name}", []).append((labels, value))
    assert found.keys() <= metrics.keys(), found.keys() - metrics.keys()
    lines = []
    for name, metric in metrics.items():
        if name not in found:
            continue
        lines.append(f"# HELP {name} {metric.meaning}")
        lines.append(f"# TYPE {name} {metric.kind}")
        for labels, value in found[name]:
            assert tuple(labels) == metric.labels, name
            lines.append(f"{name}{_labels(labels)} {_number(value)}")
    return "\n".join(lines) + "\n"


def escaped_label(value: str) -> str:
    r"""A label's value: backslash, quote and line feed become `\\`, `\"` and `\n`."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    pairs = (f'{key}="{escaped_label(value)}"' for key, value in labels.items())
    return f"{{{','.join(pairs)}}}"


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(float(value))
