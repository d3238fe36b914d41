"""Which home a folder is, and which version is meant."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from starling.export.provenance import ProvenModel, VersionRow
from starling.export.runtime.board_home import BoardModels
from starling.export.runtime.coordinator_home import CoordinatorModels
from starling.export.runtime.model_source import ModelSource, chosen, open_source
from starling.protocol.errors import ConfigError, OperationError


class Rows:
    """A source of nothing but rows."""

    def __init__(self, rows: Sequence[VersionRow], *, by_loss: bool = False) -> None:
        self._rows = tuple(rows)
        self.by_loss = by_loss

    def rows(self, task: int) -> tuple[VersionRow, ...]:
        del task
        return self._rows

    def ranks_by_loss(self, task: int) -> bool:
        del task
        return self.by_loss

    def proven(self, row: VersionRow) -> ProvenModel:
        raise NotImplementedError(row)

    def contributors(self, row: VersionRow) -> dict[str, int]:
        del row
        return {}

    def close(self) -> None:
        pass


def _source(*losses: float | None, kept: int = 99) -> ModelSource:
    return Rows(
        [
            VersionRow(0, version, version <= kept, loss=loss)
            for version, loss in enumerate(losses)
        ]
    )


def test_folders_are_told_apart(board: Path, coordinator: Path, report: Path) -> None:
    for home, given, kind in (
        (board, None, BoardModels),
        (coordinator, None, CoordinatorModels),
        (None, report, CoordinatorModels),
    ):
        source = open_source(home, given, None)
        assert isinstance(source, kind)
        source.close()


def test_the_pinned_genesis_must_be_the_chains(board: Path, coordinator: Path) -> None:
    for home in (board, coordinator):
        open_source(home, None, coordinator / "genesis").close()


def test_neither_and_both_folders_are_refused(report: Path) -> None:
    for home, given in ((None, None), (report, report)):
        with pytest.raises(ConfigError, match="give --home DIR or --report DIR"):
            open_source(home, given, None)


def test_best_is_the_lowest_loss_where_nothing_is_accurate() -> None:
    source = _source(3.0, 1.0, 2.0)

    assert chosen(source, 0, "best").version == 1
    assert chosen(source, 0, None).version == 1
    assert chosen(source, 0, "latest").version == 2
    assert chosen(source, 0, "0").version == 0


def test_best_of_unequal_classes_is_not_who_knows_the_frequent_one_alone() -> None:
    rows = [
        VersionRow(0, number, True, accuracy=accuracy, loss=loss)
        for number, (accuracy, loss) in enumerate([(0.86, 0.7), (0.74, 0.4)])
    ]

    assert chosen(Rows(rows), 0, "best").version == 0
    weighted = Rows(rows, by_loss=True)
    assert chosen(weighted, 0, "best").version == 1
    assert chosen(weighted, 0, None).version == 1


def test_best_of_nothing_that_was_evaluated_says_what_to_do() -> None:
    source = _source(None, None)

    with pytest.raises(OperationError, match="--version latest"):
        chosen(source, 0, "best")
    assert chosen(source, 0, None).version == 1


@pytest.mark.parametrize("odd", ["9" * 5000, "-1", "\u00b2", "first"])
def test_version_that_is_no_number_of_one_is_refused(odd: str) -> None:
    with pytest.raises(ConfigError, match="is not best, latest or N"):
        chosen(_source(1.0), 0, odd)


def test_best_that_is_gone_is_not_replaced_silently() -> None:
    source = _source(3.0, 2.0, 1.0, kept=1)

    with pytest.raises(OperationError, match="the best that is kept is 1"):
        chosen(source, 0, "best")
    assert chosen(source, 0, None).version == 1


def test_nothing_kept_says_so() -> None:
    with pytest.raises(OperationError, match="no version of task 0 is kept whole"):
        chosen(_source(1.0, kept=-1), 0, None)
