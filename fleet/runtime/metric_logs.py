"""Logs of a run for other tools, written while it runs: `--log KIND`.

| `--log` | written to | needs |
|---|---|---|
| `tensorboard:DIR` | an event file in the folder | nothing |
| `mlflow:URI` | a run of the experiment `starling`, at a server or store | mlflow |
| `wandb`, `wandb:PROJECT` | a run of Weights & Biases, by its own settings | wandb |

A run's facts are its parameters, and a version is a step. Once one of these tools fails
in mid-run, its log ends with a warning and the fleet goes on.
"""

import importlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from starling.durable.files import storage_errors
from starling.fleet.monitor.run_snapshot import RunHeading, RunSnapshot
from starling.fleet.report import event_file
from starling.protocol.errors import ConfigError, StorageError

log = logging.getLogger("starling.fleet")

EXPERIMENT = "starling"
_KINDS = "tensorboard:DIR, mlflow:URI, wandb or wandb:PROJECT"


class MetricReceiver(Protocol):
    """A tool's own way to take figures; what it raises ends this log alone."""

    def begin(self, facts: Mapping[str, str]) -> None:
        """Takes what does not change while the run lasts."""

    def version(self, time_s: float, step: int, values: Mapping[str, float]) -> None:
        """Takes the figures of a version, at a Unix time."""

    def end(self) -> None:
        """Ends the run."""


class EventFile:
    """An event file of TensorBoard that grows by a record for each version."""

    def __init__(self, folder: Path, now_s: float) -> None:
        """Begins a file; makes its folder.

        Raises:
          StorageError: If the disk refuses.
        """
        # Its readers find files by this name, and read them in order of the time.
        self._path = folder / f"events.out.tfevents.{now_s:.6f}.starling.{os.getpid()}"
        with storage_errors(self._path):
            folder.mkdir(parents=True, exist_ok=True)
            self._path.write_bytes(event_file.begin(now_s))

    def begin(self, facts: Mapping[str, str]) -> None:
        """Nothing: an event file has no place for texts that all readers show."""

    def version(self, time_s: float, step: int, values: Mapping[str, float]) -> None:
        """Adds a record."""
        with storage_errors(self._path), self._path.open("ab") as file:
            file.write(event_file.scalars(time_s, step, values))

    def end(self) -> None:
        """Nothing: each record stands by itself."""


class MlflowRun:
    """A run at an MLflow tracking server, or in a store of files."""

    def __init__(self, uri: str) -> None:
        """Begins a run in the experiment `starling`.

        Raises:
          ConfigError: If mlflow is missing.
          Exception: Of mlflow, if there is no such server or store.
        """
        self._mlflow = _imported("mlflow")
        self._client = self._mlflow.MlflowClient(tracking_uri=uri)
        found = self._client.get_experiment_by_name(EXPERIMENT)
        experiment = (
            self._client.create_experiment(EXPERIMENT)
            if found is None
            else found.experiment_id
        )
        self._run: str = self._client.create_run(experiment).info.run_id

    def begin(self, facts: Mapping[str, str]) -> None:
        """Logs the facts as parameters."""
        for key, text in facts.items():
            self._client.log_param(self._run, key, text)

    def version(self, time_s: float, step: int, values: Mapping[str, float]) -> None:
        """Logs all figures of a version in one request."""
        metric = self._mlflow.entities.Metric
        made = [metric(k, v, int(time_s * 1000), step) for k, v in values.items()]
        self._client.log_batch(self._run, metrics=made)

    def end(self) -> None:
        """Says that the run is over."""
        self._client.set_terminated(self._run)


class WandbRun:
    """A run of Weights & Biases, online or not as its environment says."""

    def __init__(self, project: str) -> None:
        """Begins a run.

        Raises:
          ConfigError: If wandb is missing.
          Exception: Of wandb, if nobody is signed in there.
        """
        self._run: Any = _imported("wandb").init(project=project)

    def begin(self, facts: Mapping[str, str]) -> None:
        """Takes the facts as the run's configuration."""
        self._run.config.update(dict(facts))

    def version(self, time_s: float, step: int, values: Mapping[str, float]) -> None:
        """Logs all figures of a version at its step."""
        self._run.log({**values, "time_s": time_s}, step=step)

    def end(self) -> None:
        """Ends the run."""
        self._run.finish()


class MetricLog:
    """Gives each version to a receiver once, when its evaluation is known."""

    def __init__(
        self,
        name: str,
        receiver: MetricReceiver,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Writes nothing yet.

        Args:
          name: As it was asked for, for messages.
          receiver: Where it goes.
          clock: Unix time, in seconds.
        """
        self._name = name
        self._receiver: MetricReceiver | None = receiver
        self._clock = clock
        self._has_begun = False
        self._written = -1

    def look(
        self, heading: RunHeading, snapshot: RunSnapshot, *, is_last: bool = False
    ) -> None:
        """Writes the versions that are evaluated; at the end all.

        Args:
          heading: Of the run.
          snapshot: Now.
          is_last: Whether this is how the run ended.

        Raises:
          StorageError: If the disk refuses.
        """
        if self._receiver is None:
            return
        try:
            self._write(self._receiver, heading, snapshot, is_last=is_last)
        # A file of ours, and the operator's disk: neither is the tool's weather.
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001 - of any tool, of which a run is independent
            log.warning("--log %s ends here: %s", self._name, _first_line(error))
            self._receiver = None

    def _write(
        self,
        receiver: MetricReceiver,
        heading: RunHeading,
        snapshot: RunSnapshot,
        *,
        is_last: bool,
    ) -> None:
        if not self._has_begun:
            receiver.begin(run_facts(heading))
            self._has_begun = True
        begun_s = self._clock() - snapshot.time_s
        evaluated = [p.version for p in snapshot.versions if p.loss is not None]
        # In order: a step that was logged before its loss is known cannot be changed.
        until = snapshot.version if is_last else max(evaluated, default=-1)
        for point in snapshot.versions:
            if self._written < point.version <= until:
                figures = event_file.version_scalars(point)
                receiver.version(begun_s + point.time_s, point.version, figures)
                self._written = point.version
        if is_last:
            receiver.end()
            self._receiver = None


def run_facts(heading: RunHeading) -> dict[str, str]:
    """Facts that do not change while a run lasts, by name."""
    facts: dict[str, object] = {
        "title": heading.title,
        "until_version": heading.until_version,
    }
    if heading.privacy is not None:
        facts |= asdict(heading.privacy)
    return {key: str(fact) for key, fact in facts.items()}


def metric_logs(asked: list[str]) -> list[MetricLog]:
    """Logs of the values of `--log`.

    Raises:
      ConfigError: If one names no kind of log that there is, its library is missing,
        or the tool refuses to begin.
      StorageError: If the disk refuses.
    """
    return [MetricLog(text, _receiver(text)) for text in asked]


def _receiver(text: str) -> MetricReceiver:
    kind, _, place = text.partition(":")
    if kind == "tensorboard" and place:
        return EventFile(Path(place), time.time())
    try:
        if kind == "mlflow" and place:
            return MlflowRun(place)
        if kind == "wandb":
            return WandbRun(place or EXPERIMENT)
    except ConfigError:
        raise
    except Exception as error:
        said = _first_line(error)
        raise ConfigError(f"{text!r} does not begin: {said}", key="--log") from error
    raise ConfigError(f"{text!r} is none of {_KINDS}", key="--log")


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{name} is missing, which the extra [{name}] brings: pip install {name}",
            key="--log",
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200] or type(error).__name__
