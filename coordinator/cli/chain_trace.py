"""`starling chain trace`: from a bad version to the contributions that carried it."""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starling.coordinator.config import FILE
from starling.coordinator.lineage import trace_report
from starling.coordinator.lineage.contribution_evidence import Loss, Measure, Real
from starling.coordinator.lineage.version_trace import traced
from starling.coordinator.runtime.evaluation.evaluator import Evaluator, load_held_out
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.lineage.lineage_source import LineageSource, Progress
from starling.protocol.errors import ConfigError, ProtocolError
from starling.protocol.ids import DeviceId, Version, device_from_name
from starling.service.arguments import home_of

_BATCH = 512


def add_options(verb: argparse.ArgumentParser) -> None:
    """Adds the verb's own options."""
    verb.add_argument("--task", type=int, default=0, help="the task (default: 0)")
    verb.add_argument(
        "--version", type=int, help="the version to trace (default: the newest)"
    )
    verb.add_argument(
        "--from",
        dest="first",
        type=int,
        metavar="VERSION",
        help="look at what came after this version only (default: at all that is kept)",
    )
    verb.add_argument(
        "--data",
        type=Path,
        metavar="FILE.npz",
        help="held-out examples x and y (default: evaluation.data of the home)",
    )
    verb.add_argument(
        "--inputs",
        type=Path,
        metavar="FILE.npz",
        help="inputs x that it answers badly, with the right answers y",
    )
    verb.add_argument(
        "--without",
        nargs="+",
        default=[],
        metavar="BOARD",
        help="leave these boards out in place of those that the evidence names",
    )


def trace(
    arguments: argparse.Namespace, progress: Progress
) -> tuple[dict[str, Any], list[str]]:
    """Traces a version of a home.

    Returns:
      The result as plain values, and for people.

    Raises:
      ConfigError, OperationError, StorageError: Printed by the caller.
    """
    home = home_of(arguments)
    # Without examples norms, agreement and copies are weighed all the same.
    files = {Measure.HARM: _held_out(home, arguments.data)}
    if arguments.inputs is not None:
        files[Measure.BLAME] = arguments.inputs
    named = _boards(arguments.without)
    # The boards' names are read before: a walk through the chain may take minutes.
    source = LineageSource(home, arguments.task, progress)
    try:
        last = source.head if arguments.version is None else arguments.version
        first = None if arguments.first is None else Version(arguments.first)
        lineage = source.lineage(Version(last), first)
        with _losses(source, {key: at for key, at in files.items() if at}) as losses:
            found = traced(lineage, losses, named)
    finally:
        source.close()
    shown = {"task": arguments.task, **trace_report.document(found)}
    return shown, trace_report.lines(found, arguments.task)


def _held_out(home: Path, given: Path | None) -> Path | None:
    """The held-out examples that were given, or that the home evaluates with."""
    if given is not None or not (home / FILE).exists():
        return given
    named = CoordinatorHome(home).config().evaluation.data
    return home / named if named else None


def _boards(names: list[str]) -> tuple[DeviceId, ...]:
    try:
        return tuple(device_from_name(name) for name in names)
    except ProtocolError as error:
        raise ConfigError(str(error), key="--without") from error


@contextmanager
def _losses(
    source: LineageSource, files: dict[Measure, Path]
) -> Iterator[dict[Measure, Loss]]:
    """A loss for each file of examples; graphs run in processes of their own."""
    bundle = source.bundle()
    evaluators = []
    with tempfile.TemporaryDirectory() as folder:
        made: dict[Measure, Loss] = {}
        for measure, path in files.items():
            evaluator = Evaluator(load_held_out(path), _BATCH, Path(folder) / measure)
            evaluators.append(evaluator)
            made[measure] = _loss(evaluator, source, bundle)
        try:
            yield made
        finally:
            for evaluator in evaluators:
                evaluator.stop()


def _loss(evaluator: Evaluator, source: LineageSource, bundle: bytes) -> Loss:
    def loss(theta: Real) -> float:
        # The form in which boards are given a model, and in which the worker reads it.
        packed = theta.astype("<f4").tobytes()
        return evaluator.evaluate(source.spec.bundle, bundle, packed)[1]

    return loss
