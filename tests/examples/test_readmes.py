"""The commands of each example's README, run as they stand there, on made data."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from examples.onnx_text import save
from examples.run import FOLDER, commands, names
from examples.vibration.detect import detected

ROOT = Path(__file__).parents[2]
LEAST = {
    "bank": {"roc_auc": 0.77, "macro_f1": 0.6},
    "camera": {"accuracy": 0.65},
    "keywords": {"accuracy": 0.9, "macro_f1": 0.9},
    "turbofans": {"r2": 0.7},
    "vibration": {"r2": 0.8},
    "watches": {"accuracy": 0.9, "macro_f1": 0.9},
}
"""What the newest version must reach on held-out examples, of made data."""
LONGEST = {"camera", "keywords", "vibration", "watches"}
"""Half a minute of processor time and more each."""


def run_example(name: str, out: Path) -> str:
    """Standard output of all commands.

    Fails with the words of the command that fails.
    """
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    surroundings = {**os.environ, "PYTHONPATH": paths, "STARLING_DATA": ""}
    said = []
    for words in commands(name, out):
        done = subprocess.run(
            words,
            env=surroundings,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{words[1:]}\n{done.stdout}\n{done.stderr}"
        said.append(done.stdout)
    return "".join(said)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.soak] if name in LONGEST else [])
        for name in sorted(LEAST)
    ],
)
def test_readme_ends_in_a_model_that_has_learned(name: str, tmp_path: Path) -> None:
    run_example(name, tmp_path)

    session = onnxruntime.InferenceSession(tmp_path / "trained.onnx")
    report: dict[str, Any] = json.loads((tmp_path / "report/report.json").read_text())
    found = report["metrics"]["held_out"]
    assert session.get_modelmeta().custom_metadata_map["starling.receipt"]
    assert "## Proof" in (tmp_path / "CARD.md").read_text("utf-8")
    assert {
        key: found[key] for key, least in LEAST[name].items() if found[key] < least
    } == {}
    assert report["chain"]["verified"]
    assert report["baseline"]["distance"] >= 0


def test_detection_finds_faults_that_are_louder_than_health(tmp_path: Path) -> None:
    quiet, loud = np.zeros((200, 64), np.float32), np.zeros((200, 64), np.float32)
    quiet[:, 0] = np.linspace(0, 1, 200)
    loud[:100] = 2.0
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data/healthy.npz", x=quiet)
    np.savez(tmp_path / "data/test.npz", x=loud, faulty=np.arange(200) < 100)
    text = "zero (float[n, 64] x) => (float[n, 64] y) { y = Sub (x, x) }"
    save(tmp_path / "trained.onnx", text, {})

    found = detected(tmp_path)

    assert found["threshold"] == pytest.approx(0.99**2 / 64, rel=0.02)
    assert (found["faults_found"], found["false_alarms"]) == (1.0, 0.0)
    assert found["roc_auc"] == 1.0


def test_every_example_is_in_the_index_and_is_tried() -> None:
    index = (FOLDER / "README.md").read_text("utf-8")

    assert names() == sorted([*LEAST, "privacy"])
    assert [name for name in names() if f"({name}/README.md)" not in index] == []


def test_commands_write_into_the_folder_that_is_asked_for(tmp_path: Path) -> None:
    words = [word for line in commands("bank", tmp_path) for word in line]

    assert str(tmp_path / "report") in words
    assert [word for word in words if word.startswith(("build/", "examples/"))] == []
