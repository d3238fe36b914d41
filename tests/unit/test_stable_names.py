"""The package's own names: stable, loaded on first use, and light until then."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import starling
from starling import agent, compiler, fleet

ROOT = Path(__file__).parents[2]
STABLE = {
    "FleetPlan": fleet.FleetPlan,
    "compile_model": compiler.compile_model,
    "open_trainer": agent.open_trainer,
    "run_virtual": fleet.run_virtual,
    "simulate": fleet.simulate,
    "write_bundle": compiler.write_bundle,
}


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_names_are_those_of_the_packages() -> None:
    assert set(starling.__all__) == {*STABLE, "__version__"}
    assert {name: getattr(starling, name) for name in STABLE} == STABLE


def test_names_are_listed_before_they_are_loaded() -> None:
    listed = python("import starling; print(*dir(starling))").split()

    assert set(starling.__all__) <= set(listed)


def test_import_loads_no_part_and_no_library() -> None:
    loaded = python(
        "import sys; before = set(sys.modules); import starling;"
        "print(*{name.split('.')[0] for name in set(sys.modules) - before"
        " if name.split('.')[0] not in sys.stdlib_module_names}, '|',"
        " *(name for name in sys.modules if name.startswith('starling.')))"
    )

    assert loaded == "starling |"


def test_trainer_is_opened_without_the_compiler_and_the_fleet() -> None:
    loaded = python(
        "import sys; from starling import open_trainer;"
        "print(*{'.'.join(name.split('.')[:2]) for name in sys.modules})"
    )

    assert "starling.agent" in loaded.split()
    assert not {"starling.compiler", "starling.fleet", "onnx"} & set(loaded.split())


def test_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'starling' has no attribute 'fly'"):
        _ = starling.fly  # type: ignore[attr-defined]


def test_name_whose_extra_is_missing_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent(package: str) -> None:
        raise ModuleNotFoundError("No module named 'onnx'", name="onnx")

    monkeypatch.delitem(vars(starling), "compile_model", raising=False)
    monkeypatch.setattr(importlib, "import_module", absent)

    with pytest.raises(ModuleNotFoundError, match=r"'onnx'.* extra \[compiler\]"):
        _ = starling.compile_model


def test_version_is_the_changelogs() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    newest = re.search(r"^## ([0-9.]+)", changelog, re.MULTILINE)

    assert newest is not None
    assert starling.__version__ == newest[1]
