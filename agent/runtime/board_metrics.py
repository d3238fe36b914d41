"""Metrics of a board, as a file for the textfile collector of node_exporter.

Opt-in, and nothing listens: a board answers nobody but its broker. The figures are
those of the status. No loss, no accuracy and no count of the data is among them.

Source: github.com/prometheus/node_exporter, "Textfile Collector".
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from starling.agent.config import AgentConfig
from starling.agent.runtime.status_file import GROUP_MODE
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.agent.step.state import ReadinessCondition
from starling.durable.files import replace_unsynced
from starling.protocol.errors import ConfigError
from starling.service.prometheus_text import (
    OTHER,
    Metric,
    Sample,
    counter,
    exposition,
    gauge,
)

SUFFIX = ".prom"
"""Of the files that the collector reads."""
_CONDITIONS = {each.value: each.name.lower() for each in ReadinessCondition}
_OUTCOMES = ("final", "stale")
_DAY_S = 86_400.0

_ROWS = (
    gauge("agent_status_timestamp_seconds", "Unix time at which this was written."),
    gauge("agent_condition", "1 for what the board does now, else 0.", "condition"),
    gauge("agent_broker_connected", "1 if the broker is connected."),
    gauge("agent_coordinators", "Coordinators that were heard.", "state"),
    gauge("agent_refused", "1 while what the board sent last was refused."),
    gauge("agent_task_version", "Newest version that the chain proved to the board."),
    gauge("agent_inference_version", "Version that the board's inference uses."),
    gauge("agent_chain_height_blocks", "Height up to which the board trusts."),
    gauge("agent_spool_updates", "Updates that wait for their proof."),
    counter("agent_updates", "Updates that left the spool, ever.", "outcome"),
    counter("agent_sent_bytes", "Bytes published since the start."),
    counter("agent_received_bytes", "Bytes received since the start."),
    gauge("agent_privacy_epsilon", "Epsilon that the data have paid."),
    gauge("agent_privacy_epsilon_limit", "Epsilon that the owner allows."),
    gauge("agent_certificate_remaining_seconds", "Until the certificate ends."),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ROWS}
"""By name, in the order in which they are written."""


def metrics_file(home: AgentHome, config: AgentConfig) -> Path | None:
    """The file that the owner wants; None for none.

    Args:
      home: What a relative path starts from.
      config: With `metrics.textfile`.

    Raises:
      ConfigError: If the collector would not read a file of that name, or it would lie
        among the data, which then would change all the time.
    """
    if not config.metrics.textfile:
        return None
    path = home.path / config.metrics.textfile
    why = ""
    if path.suffix != SUFFIX:
        why = f"must end in {SUFFIX}; the collector reads no other file"
    # Links are followed: a path that only looks to be elsewhere changes the data all
    # the same.
    elif path.resolve().is_relative_to(home.data(config).resolve()):
        why = "is in the folder of the data; metrics need another one"
    if why:
        raise ConfigError(why, file=str(home.config_file), key="metrics.textfile")
    return path


def write_textfile(path: Path, document: Mapping[str, Any], now_s: float) -> None:
    """Replaces the file; not synced, as it is worth nothing after a power cut.

    Args:
      path: Ends in `SUFFIX`; its folder must exist.
      document: Of `status_file.describe`.
      now_s: Unix time.

    Raises:
      StorageError: If the disk refuses, or the folder is missing.
    """
    content = exposition(METRICS, _samples(document, now_s)).encode()
    replace_unsynced(path, content, GROUP_MODE)


def _samples(document: Mapping[str, Any], now_s: float) -> Iterator[Sample]:
    none = dict[str, str]()
    days = document["certificate_days"]
    yield "agent_status_timestamp_seconds", none, round(now_s, 3)
    now = _CONDITIONS.get(document["condition"], OTHER)
    for each in (*_CONDITIONS.values(), OTHER):
        yield "agent_condition", {"condition": each}, each == now
    yield "agent_broker_connected", none, document["connected"]
    for state in ("online", "away"):
        yield "agent_coordinators", {"state": state}, document["coordinators"][state]
    yield "agent_refused", none, document["refused"] is not None
    yield "agent_task_version", none, document["version"]
    yield "agent_inference_version", none, document["inference_version"]
    yield "agent_chain_height_blocks", none, document["height"]
    yield "agent_spool_updates", none, len(document["spool"])
    # Each is there from the first look on: a counter that began at 1 has no rate.
    for outcome in _OUTCOMES:
        count = document["outcomes"].get(outcome, 0)
        yield "agent_updates_total", {"outcome": outcome}, count
    yield "agent_sent_bytes_total", none, document["bytes_up"]
    yield "agent_received_bytes_total", none, document["bytes_down"]
    yield "agent_privacy_epsilon", none, document["privacy"]["epsilon"]
    yield "agent_privacy_epsilon_limit", none, document["privacy"]["epsilon_cap"]
    # Seconds are the base unit of time in Prometheus.
    left_s = None if days is None else days * _DAY_S
    yield "agent_certificate_remaining_seconds", none, left_s
