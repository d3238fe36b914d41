"""Sources of models: a coordinator's home, a board's home, a fleet's report."""

from pathlib import Path
from typing import Protocol

from starling.agent.config import FILE as AGENT_FILE
from starling.coordinator.models.best_version import best_version
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.durable.files import read_limited
from starling.export.onnx_model import ordinary_model, parameter_names
from starling.export.provenance import ProvenModel, VersionRow, metadata
from starling.export.runtime.board_home import BoardModels
from starling.export.runtime.coordinator_home import CoordinatorModels
from starling.protocol.chain.genesis import GENESIS, GENESIS_BYTES_MAX, Genesis
from starling.protocol.errors import ConfigError, OperationError, ProtocolError

REPORT_FILE = "report.json"
REPORT_HOME = Path("home") / "coordinator"
"""Where a fleet's report keeps its first coordinator."""
BEST, LATEST = "best", "latest"
_DIGITS_MAX = 20


class ModelSource(Protocol):
    """A home with versions of a task's model."""

    def rows(self, task: int) -> tuple[VersionRow, ...]:
        """Facts of the versions, rising.

        Raises:
          ConfigError: If there is no such task.
          StorageError: If the home is damaged.
        """

    def ranks_by_loss(self, task: int) -> bool:
        """True if a task's best version is that of the lowest held-out loss."""

    def proven(self, row: VersionRow) -> ProvenModel:
        """A version whose certificate, digests and bundle were checked.

        Raises:
          OperationError: If its parameters are not there.
          ProofError, SignatureError, StorageError: If something is not proven.
        """

    def contributors(self, row: VersionRow) -> dict[str, int]:
        """Name of a board to how many of its updates were made from earlier versions.

        All that can be in the version, and late ones that are in a later one. Empty
        where that is not known.
        """

    def close(self) -> None:
        """Lets go of files."""


def open_source(
    home: Path | None, report: Path | None, genesis: Path | None
) -> ModelSource:
    """Opens what the flags name.

    Args:
      home: A coordinator's or a board's.
      report: Of a fleet.
      genesis: File of the genesis that the chain must have; None for the home's own.

    Raises:
      ConfigError: If both or neither are given, or there is no such thing.
      OperationError, StorageError: As the home's own reader.
    """
    if (home is None) == (report is None):
        raise ConfigError("give --home DIR or --report DIR", key="--home")
    pinned = None if genesis is None else _genesis(genesis)
    if report is not None:
        home = _home_of(report)
    assert home is not None
    # Told apart by a file that only such a home has.
    if (home / AGENT_FILE).is_file():
        return BoardModels(home, pinned)
    if (home / "state" / CHAIN_FILE).is_file():
        return CoordinatorModels(home, pinned)
    raise ConfigError("neither a coordinator's nor a board's home", file=str(home))


def chosen(source: ModelSource, task: int, version: str | None) -> VersionRow:
    """The version that is meant.

    Args:
      source: Where it is.
      task: Its task.
      version: `best`, `latest` or a number; None for the best that is kept, or the
        newest where nothing was evaluated.

    Raises:
      ConfigError: If it is none of these, or there is no such version.
      OperationError: If nothing was evaluated, or nothing is kept.
    """
    rows, by_loss = source.rows(task), source.ranks_by_loss(task)
    kept = [row for row in rows if row.kept]
    if not kept:
        raise OperationError(f"no version of task {task} is kept whole here")
    if version is None:
        return best_version(kept, by_loss=by_loss) or kept[-1]
    if version == LATEST:
        return kept[-1]
    if version == BEST:
        return _best(rows, kept, by_loss=by_loss)
    if not (version.isdecimal() and len(version) <= _DIGITS_MAX):
        raise ConfigError(f"{version!r} is not best, latest or N", key="--version")
    for row in rows:
        if row.version == int(version):
            return row
    raise ConfigError(
        f"there is no version {version}, but {rows[0].version} to {rows[-1].version}",
        key="--version",
    )


def onnx_of(model: ProvenModel) -> bytes:
    """A version as an ordinary ONNX file, with its proof in the metadata."""
    stated = metadata(model, parameter_names(model.opened))
    return ordinary_model(model.opened, model.theta, stated)


def _best(
    rows: tuple[VersionRow, ...], kept: list[VersionRow], *, by_loss: bool
) -> VersionRow:
    best = best_version(rows, by_loss=by_loss)
    if best is None:
        raise OperationError(
            "no version was evaluated on held-out data here; say --version latest"
        )
    # Another version than the one that was asked for is named, and not taken.
    if not best.kept:
        most = best_version(kept, by_loss=by_loss)
        instead = "" if most is None else f"; the best that is kept is {most.version}"
        raise OperationError(f"the best, version {best.version}, is not kept{instead}")
    return best


def _home_of(report: Path) -> Path:
    if not (report / REPORT_FILE).is_file():
        raise ConfigError("no report of a fleet", file=str(report / REPORT_FILE))
    home = report / REPORT_HOME
    if not (home / "state" / CHAIN_FILE).is_file():
        raise ConfigError(
            "the report keeps no homes; name them with --home", file=str(home)
        )
    return home


def _genesis(path: Path) -> Genesis:
    try:
        return GENESIS.unpack(read_limited(path, GENESIS_BYTES_MAX))
    except ProtocolError as error:
        raise ConfigError(f"not a genesis: {error}", file=str(path)) from error
