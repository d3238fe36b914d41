"""The notebooks, each cell in order, as a kernel would run them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from examples.run import FOLDER

ROOT = FOLDER.parent
PAGES = {page.stem: page for page in sorted((FOLDER / "notebooks").glob("*.ipynb"))}


def cells(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(PAGES[name].read_text("utf-8"))["cells"]
    return found


def run(name: str, folder: Path) -> str:
    """Standard output of the cells of code, as one script in an empty folder."""
    code = [cell for cell in cells(name) if cell["cell_type"] == "code"]
    script = "\n\n".join("".join(cell["source"]) for cell in code)
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": paths, "MPLBACKEND": "Agg"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_own_data_become_a_model(tmp_path: Path) -> None:
    said = run("own_data", tmp_path)

    assert "'kind': 'p" in said or "'kind': 'f" in said
    assert "chain verified: True" in said
    assert (tmp_path / "model.onnx").stat().st_size > 0


@pytest.mark.slow
def test_epsilon_is_shown_by_an_attack_with_and_without_noise(tmp_path: Path) -> None:
    said = run("epsilon", tmp_path)

    assert "no privacy: accuracy" in said
    assert "epsilon 0.1: 1.1% of the members" in said
    assert (tmp_path / "attack.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.slow
def test_chain_is_verified_and_a_changed_block_is_named(tmp_path: Path) -> None:
    said = run("verify_a_chain", tmp_path)

    assert "was changed; exit status 1" in said


def test_notebooks_are_listed_and_hold_no_outputs() -> None:
    index = (FOLDER / "README.md").read_text("utf-8")

    assert sorted(PAGES) == ["epsilon", "own_data", "verify_a_chain"]
    for name in PAGES:
        assert f"(notebooks/{name}.ipynb)" in index
        assert [cell for cell in cells(name) if cell.get("outputs")] == []
