"""`simulate`: a fleet that learns from arrays in memory, watched as it goes."""

import difflib
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypedDict, Unpack, cast

from starling.coordinator.aggregation.strategy_registry import AggregationRule
from starling.export.onnx_model import ordinary_model, parameter_names
from starling.export.provenance import metadata
from starling.export.runtime.coordinator_home import CoordinatorModels
from starling.export.runtime.model_source import chosen
from starling.fleet.monitor.run_snapshot import VersionPoint
from starling.fleet.plan import FleetPlan
from starling.fleet.runtime.array_data import (
    CLASSIFIES,
    ArrayData,
    Arrays,
    Model,
    material_of,
)
from starling.fleet.runtime.virtual_run import Pace, run_prepared
from starling.fleet.virtual.fleet_snapshot import (
    accepted_by_board,
    refused_by_sender,
)
from starling.fleet.virtual.own_rule import (
    OwnRules,
    SelectionRule,
    checked_rule,
    checked_selection,
)
from starling.fleet.virtual.virtual_fleet import VirtualFleet
from starling.protocol.errors import ConfigError
from starling.protocol.ids import DeviceId

STOPPED = "stopped by a callback"
_BOARDS = 10
_BUFFER = 4
_VERSIONS = 100


@dataclass(frozen=True)
class TakenUpdate:
    """An update that the coordinator took.

    Attributes:
      board: Number of the board, from 0.
      count: How many of its updates were taken by now, this one included.
    """

    board: int
    count: int


@dataclass(frozen=True)
class RefusedUpdate:
    """A message or an update that the coordinator did not take.

    Attributes:
      board: Number of the board, from 0; None if nobody known sent it.
      reason: Name of a `protocol.errors.Reason`.
    """

    board: int | None
    reason: str


OnVersion = Callable[[VersionPoint], bool | None]
OnUpdate = Callable[[TakenUpdate], object]
OnRefusal = Callable[[RefusedUpdate], object]


@dataclass(frozen=True)
class Simulation:
    """A simulation that is over.

    Attributes:
      history: Each final version, with accuracy (where there are classes) and loss on
        the held-out examples.
      model: The best version as an ordinary ONNX file, with its proof in the metadata.
      version: Which version that is.
      report: As `starling fleet run` writes it to report.json.
    """

    history: tuple[VersionPoint, ...]
    model: bytes
    version: int
    report: dict[str, Any]


class PlanOptions(TypedDict, total=False):
    """Choices of a `FleetPlan`, with its defaults.

    Attributes:
      split: How boards share a tuple of arrays: iid, dirichlet:ALPHA or shards:S.
      privacy: As `fleet run --privacy`: record, record-dpsgd, device-gaussian,
        device-laplace, labels or none.
      epsilon: Total that a board's data may pay; 8 by default.
      delta: Of that epsilon; 1e-5 by default.
      releases: Updates of one board that the epsilon is planned for.
      clip: Norm to which each example's gradient is clipped.
      learning_rate: Server step.
      momentum: Server momentum.
      rule: Name of an aggregation rule; fedbuff by default.
      patience: The run ends after so many versions without a lower held-out loss.
      time_limit_s: The run ends after this time; 600 s by default.
      seed: Of everything: a simulation can be repeated to the byte; 1 by default.
    """

    split: str
    privacy: str
    epsilon: float
    delta: float
    releases: int | None
    clip: float | None
    learning_rate: float | None
    momentum: float | None
    rule: str
    patience: int | None
    time_limit_s: float
    seed: int


class SimulationOptions(PlanOptions, total=False):
    """Arguments of `simulate` that may be left out.

    Attributes:
      loss: "cross-entropy" (whole labels from 0, the default), "mse", "huber" or "bce".
      boards: How many share a tuple of arrays; 10 by default.
      held_out: Evaluates each version; a tenth of the data by default.
      test: Is looked at once, when the run is over.
      versions: The run ends at this one; 100 by default.
      buffer: Updates that make a version; 4, or the number of boards, by default.
      waves: Whether all boards of a version begin together: synchronous training.
      aggregator: A rule of aggregation of one's own, in place of `rule`: from the
        task's `AggregationPolicy` and the known variance of the noise to an
        `Aggregator`, as in `coordinator.aggregation.strategy_registry`. It begins
        without memory, and is for simulations: chains know the rules of their release.
      selector: A rule of selection of one's own: called with a sequence of
        `WaitingBoard` and the number of free places whenever a place is free, it
        returns the numbers of the boards that get one: with `waves` as many as there
        are places, else at least one while nobody is at work. By default it is the
        turn of whoever had the fewest.
      threads: That train; by default all cores, and one for the smallest models.
      on_version: Called with each version in order, once it was evaluated; returning
        True ends the run.
      on_update: Called with each update that is taken.
      on_refusal: Called with each message that is refused.
    """

    loss: str
    boards: int | None
    held_out: Arrays | None
    test: Arrays | None
    versions: int
    buffer: int | None
    waves: bool
    aggregator: AggregationRule | None
    selector: SelectionRule | None
    threads: int | None
    on_version: OnVersion | None
    on_update: OnUpdate | None
    on_refusal: OnRefusal | None


def simulate(
    model: Model,
    data: Arrays | Sequence[Arrays],
    **options: Unpack[SimulationOptions],
) -> Simulation:
    """Trains a model in a fleet of simulated boards in this process.

    Boards, coordinator and chain are the same cores as elsewhere, with the same clips,
    noise, signatures and proofs; see docs/fleet.md for what differs.

        >>> import numpy as np, starling
        >>> x = np.random.default_rng(1).normal(size=(600, 8)).astype("float32")
        >>> y = (x[:, 0] > 0).astype("int64")
        >>> def good_enough(point):
        ...     return point.accuracy > 0.95
        >>> run = starling.simulate(
        ...     "softmax", (x, y), boards=5, versions=30, on_version=good_enough
        ... )
        >>> run.history[0].accuracy < 0.8 < run.history[run.version].accuracy
        True
        >>> run.report["chain"]["verified"]
        True
        >>> import onnxruntime
        >>> session = onnxruntime.InferenceSession(run.model)
        >>> session.run(None, {"x": x[:2]})[0].shape
        (2, 2)

    Args:
      model: A name of `fleet.reference_models.MODELS`, an ONNX file or its content.
      data: A tuple of arrays x (n, ...) and y (n, ...), dealt out to the boards; or a
        list with such a tuple for each board.
      options: See `SimulationOptions` and `PlanOptions`.

    Returns:
      History, the best version's ONNX file, and the report.

    Raises:
      ConfigError: Naming the argument at fault.
      CompileError: If the model cannot be trained.
    """
    _require_known(options)
    dealt, pools = isinstance(data, tuple), _pools(data)
    count = (options.get("boards") or _BOARDS) if dealt else len(pools)
    given = ArrayData(pools, options.get("held_out"), options.get("test"), dealt)
    loss, waves = options.get("loss", CLASSIFIES), options.get("waves", False)
    rules = _rules(options)
    material = material_of(model, given, loss, partial(_plan, options, count))
    # A chain on disk is what a version is proven from.
    with tempfile.TemporaryDirectory() as spare:
        run = run_prepared(
            material,
            Pace(waves=waves),
            threads=options.get("threads"),
            home=Path(spare) / "home",
            watch=_Watcher(options),
            rules=rules,
        )
        exported, version = _best(Path(spare) / "home" / "coordinator")
    return Simulation(run.last.versions, exported, version, run.document)


def _pools(data: Arrays | Sequence[Arrays]) -> Sequence[Arrays]:
    """The arrays of each board, or of all together."""
    if isinstance(data, tuple):
        return [cast("Arrays", data)]
    if not isinstance(data, Sequence):
        raise ConfigError(
            "expected a tuple (x, y), or a list with one for each board", key="data"
        )
    return cast("Sequence[Arrays]", data)


def _require_known(options: SimulationOptions) -> None:
    """Refuses other arguments as Python does, with what was perhaps meant."""
    known = SimulationOptions.__annotations__
    if unknown := options.keys() - known.keys():
        close = difflib.get_close_matches(min(unknown), known, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {sorted(known)}"
        raise TypeError(
            f"simulate() got an unexpected argument {min(unknown)!r}: {hint}"
        )


def _rules(options: SimulationOptions) -> OwnRules:
    """Rules of one's own; a wrong one is told before a model is compiled for it."""
    return OwnRules(
        checked_rule(options.get("aggregator")),
        checked_selection(options.get("selector")),
    )


def _plan(options: SimulationOptions, boards: int, model: str) -> FleetPlan:
    buffer = options.get("buffer")
    chosen = {k: v for k, v in options.items() if k in PlanOptions.__annotations__}
    return FleetPlan(
        devices=boards,
        buffer=min(_BUFFER, boards) if buffer is None else buffer,
        data="arrays",
        model=model,
        until_version=options.get("versions", _VERSIONS),
        **cast("dict[str, Any]", chosen),
    )


def _best(home: Path) -> tuple[bytes, int]:
    """The best version as an ONNX file, and its number."""
    source = CoordinatorModels(home)
    try:
        found = source.proven(chosen(source, 0, None))
    finally:
        source.close()
    told = metadata(found, parameter_names(found.opened))
    return ordinary_model(found.opened, found.theta, told), found.claim.row.version


class _Watcher:
    """Tells callbacks what happened since it was asked last."""

    def __init__(self, options: SimulationOptions) -> None:
        self._on_version = options.get("on_version")
        self._on_update = options.get("on_update")
        self._on_refusal = options.get("on_refusal")
        self._versions = 0
        self._accepted = Counter[DeviceId]()
        self._refused = Counter[tuple[DeviceId | None, str]]()

    def __call__(self, fleet: VirtualFleet) -> str:
        """See `fleet.runtime.virtual_run.run_prepared`."""
        numbers = {identity: at for at, identity in enumerate(fleet.identities)}
        if self._on_update is not None:
            for identity, count in accepted_by_board(fleet.coordinators).items():
                for taken in range(self._accepted[identity], count):
                    self._on_update(TakenUpdate(numbers[identity], taken + 1))
                self._accepted[identity] = count
        if self._on_refusal is not None:
            for sender, reasons in refused_by_sender(fleet.coordinators).items():
                board = None if sender is None else numbers.get(sender)
                for reason, count in reasons.items():
                    for _ in range(self._refused[sender, reason], count):
                        self._on_refusal(RefusedUpdate(board, reason))
                    self._refused[sender, reason] = count
        return self._report_versions(fleet)

    def _report_versions(self, fleet: VirtualFleet) -> str:
        if self._on_version is None or fleet.versions.head < self._versions:
            return ""
        # The newest is evaluated in the background.
        fleet.finish()
        points = fleet.snapshot(0.0).versions[self._versions :]
        self._versions += len(points)
        # All of them, also after one that says stop: each version is told once.
        stops = [self._on_version(point) for point in points]
        return STOPPED if any(stops) else ""
