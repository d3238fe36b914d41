"""What the scoreboard finds out about a model in Starling's hands."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from benchmarks.models.compiling import MODEL, REFERENCE, _compile, _train
from starling.compiler import compile_model
from tests.unit.compiler.small_models import build, mlp, node, weight

RNG = np.random.default_rng(3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A perceptron as a toolkit leaves it: file, examples, outputs."""
    made = tmp_path_factory.mktemp("mlp")
    data = mlp().SerializeToString()
    (made / MODEL).write_bytes(data)
    x = RNG.standard_normal((8, 8)).astype(np.float32)
    (output,) = onnxruntime.InferenceSession(data).run(None, {"x": x})
    np.savez(made / REFERENCE, x=x, output=output)
    return made


def test_compiled_model_is_counted_trained_and_compared(folder: Path) -> None:
    found = _compile("cross-entropy", folder)
    trained = _train(folder)

    assert (
        found["counted"]
        == found["trained"]
        == compile_model(mlp(), loss="cross-entropy").manifest.dimension
    )
    assert found["nodes"] == 5
    assert trained["trains"]
    assert trained["private"]
    assert trained["output_error"] < 1e-6
    assert "norm_error" not in trained


def test_output_that_is_not_the_toolkits_shows_in_the_error(
    folder: Path, tmp_path: Path
) -> None:
    held = np.load(folder / REFERENCE)
    (tmp_path / MODEL).write_bytes((folder / MODEL).read_bytes())
    np.savez(tmp_path / REFERENCE, x=held["x"], output=held["output"] + 1)

    _compile("cross-entropy", tmp_path)

    assert _train(tmp_path)["output_error"] > 0.1


def test_model_that_cannot_be_trained_says_why(tmp_path: Path) -> None:
    nodes = [node("Gemm", ["x", "w"], ["h"]), node("Det", ["h"], ["out"])]
    model = build(nodes, {"w": weight(RNG, 4, 4)}, (4,), ())
    (tmp_path / MODEL).write_bytes(model.SerializeToString())

    found = _compile("mse", tmp_path)

    assert "Det" in found["refused"]
