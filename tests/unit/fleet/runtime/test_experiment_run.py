"""An experiment leaves each finished cell, and goes on where it was."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from starling.fleet import reproduce_cli
from starling.fleet.reproduction.experiment_grid import QUICK, ExperimentCell
from starling.fleet.runtime import experiment_run
from starling.fleet.runtime.experiment_run import ExperimentRun
from starling.protocol.errors import EXIT_INTERRUPTED, ConfigError

GRID = replace(QUICK, rounds=(2,), splits=("iid",))


def test_quick_experiment_spends_what_it_states_and_is_not_run_twice(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["ll-bcfl", "--quick", "--rounds", "2", "--splits", "iid", "--json"]
    assert reproduce_cli.main([*words, "--out", str(tmp_path)]) == 0
    document = json.loads(capsys.readouterr().out)
    cells = {cell["noise"]: cell for cell in document["cells"]}
    assert list(cells) == ["none", "laplace", "gaussian", "record"]
    # One release of each board that had a turn spends all that was planned for one.
    for noise in ("laplace", "gaussian", "record"):
        assert 7.9 < cells[noise]["epsilon"] <= 8.0
    assert cells["record"]["privacy"]["unit"] == "one record"
    assert cells["laplace"]["privacy"]["unit"] == "everything that a board holds"
    assert all(cell["verified"] for cell in cells.values())
    assert 0.9 < document["central"] < 1.0
    assert "| iid | Laplace |" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "figure3-iid-2.png").read_bytes().startswith(b"\x89PNG")

    def no_more(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(experiment_run, "run_prepared", no_more)
    monkeypatch.setattr(experiment_run, "trained_on_all", no_more)
    assert reproduce_cli.main([*words, "--out", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == document


def test_folder_of_another_experiment_is_refused(tmp_path: Path) -> None:
    cell = ExperimentCell("none", "iid", 2)
    other = replace(GRID, seed=9).plan(cell).document()
    (tmp_path / "cells").mkdir()
    path = tmp_path / "cells" / f"{cell.name}.json"
    path.write_text(json.dumps({"plan": other}))
    with pytest.raises(ConfigError, match="another experiment") as caught:
        ExperimentRun(GRID, tmp_path, print)
    assert caught.value.file == str(path)
    path.write_text("{")
    with pytest.raises(ConfigError, match="another experiment"):
        ExperimentRun(GRID, tmp_path, print)


def test_interrupted_experiment_says_where_its_cells_are(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment_run, "prepare", interrupted)
    words = ["ll-bcfl", "--quick", "--out", str(tmp_path)]
    assert reproduce_cli.main(words) == EXIT_INTERRUPTED
    assert str(tmp_path) in capsys.readouterr().err
