"""A run of the scoreboard does what is not done, and keeps what others did."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.models import __main__ as program
from benchmarks.models.exporting import PEER
from benchmarks.models.public_model import EXPORT, SCRIPT, PublicModel


def public(name: str) -> PublicModel:
    return PublicModel(name, "sound", "own code", object, (3,))


CATALOGUE = [("module", public("one")), ("module", public("two"))]


class _Tried:
    """Stands for the processes that try models."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.kinds: list[tuple[tuple[str, ...], tuple[str, ...]]] = []

    def rows(
        self,
        module: str,
        models: Mapping[str, PublicModel],
        forms: Sequence[str],
        peers: Sequence[str],
        keep: Path | None,
    ) -> Iterator[dict[str, Any]]:
        assert (module, keep) == ("module", None)
        self.asked += models
        self.kinds.append((tuple(forms), tuple(peers)))
        for model in models.values():
            for form in forms or model.ways:
                yield {
                    "model": model.name,
                    "form": form,
                    "family": model.family,
                    "refused": "tried",
                    "parameters": 1,
                    "used": 1,
                }


@pytest.fixture
def result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "results" / "models.json"
    monkeypatch.setattr(program, "RESULT", file)
    monkeypatch.setattr(program, "catalogue", lambda modules: iter(CATALOGUE))
    return file


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> _Tried:
    made = _Tried()
    monkeypatch.setattr(program, "_rows", made.rows)
    return made


def test_first_run_tries_each_model_in_each_form(result: Path, tried: _Tried) -> None:
    assert program.main([]) == 0

    assert tried.asked == ["one", "two"]
    assert list(json.loads(result.read_text())) == [
        f"{name} | {form}" for name in ("one", "two") for form in (SCRIPT, EXPORT)
    ]


def test_run_that_was_stopped_goes_on_where_it_was(result: Path, tried: _Tried) -> None:
    program.main(["--only", "one"])
    program.main([])
    program.main([])

    assert tried.asked == ["one", "two"]


def test_model_with_a_form_left_is_tried_again(result: Path, tried: _Tried) -> None:
    program.main(["--only", "one", "--form", SCRIPT])
    program.main(["--only", "one"])

    assert tried.asked == ["one", "one"]


def test_again_repeats_what_is_done(result: Path, tried: _Tried) -> None:
    program.main(["--only", "two"])
    program.main(["--only", "t*", "--again"])

    assert tried.asked == ["two", "two"]


def test_rows_of_a_run_beside_this_one_are_kept(result: Path, tried: _Tried) -> None:
    program.main(["--only", "one"])
    others = {**json.loads(result.read_text()), "other | form": {"model": "other"}}
    result.write_text(json.dumps(others))

    program.main([])

    assert "other | form" in json.loads(result.read_text())


def test_peers_are_timed_only_where_times_are_asked_for(
    result: Path, tried: _Tried
) -> None:
    program.main(["--only", "one"])
    program.main(["--only", "two", "--timed"])

    assert tried.kinds == [((), ()), ((), (PEER,))]


def test_json_has_the_rows_that_were_asked_for(
    result: Path, tried: _Tried, capsys: pytest.CaptureFixture[str]
) -> None:
    program.main([])
    capsys.readouterr()

    program.main(["--only", "two", "--json"])

    found = json.loads(capsys.readouterr().out)
    assert [row["model"] for row in found.values()] == ["two", "two"]
