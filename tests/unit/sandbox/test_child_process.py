"""A child finds the packages of its parent, and nothing of the folder it starts in."""

import subprocess
from pathlib import Path

import pytest

from starling.sandbox import child_process


def test_child_imports_our_packages_and_not_those_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    (tmp_path / "starling").mkdir()
    (tmp_path / "starling" / "__init__.py").write_text("raise SystemExit(9)")

    done = subprocess.run(
        child_process.command("starling.sandbox.child_process"),
        env=child_process.environment(),
        cwd=tmp_path,
        check=False,
    )

    assert done.returncode == 0


def test_child_gets_no_variable_that_nobody_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECRET", "of the operator")

    assert "SECRET" not in child_process.environment()
