import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from starling.compiler import CompileError, cli
from starling.protocol.model.training_bundle import MANIFEST, manifest_from_json
from tests.unit.compiler.small_models import build, mlp, node, weight


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "small.onnx"
    onnx.save(mlp(), path)
    return path


def test_compile_with_json_prints_one_document_and_writes(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bundle"
    words = [str(model), "--loss", "cross-entropy", "--check", "--json"]

    code = cli.main([*words, "--classes", "a,b,c", "--scale", "0.5", "--out", str(out)])

    printed = json.loads(capsys.readouterr().out)
    manifest = manifest_from_json((out / MANIFEST).read_bytes())
    assert code == 0
    assert printed["dimension"] == manifest.dimension == 75
    assert printed["check"]["gradient"] < 1e-4
    assert manifest.name == "small"
    assert manifest.preprocessing.scale == (0.5,)


def test_compile_explained_shows_every_node(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main([str(model), "--loss", "cross-entropy", "--explain"])

    printed = capsys.readouterr().out
    for name in ("hidden", "tanh", "head", "bias", "softmax", "product of two norms"):
        assert name in printed


def test_compile_of_an_impossible_model_writes_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    nodes = [node("Unique", ["x"], ["out"], "hard")]
    path = tmp_path / "hard.onnx"
    onnx.save(build(nodes, {"w": weight(rng, 2)}, (4,), (4,)), path)

    with pytest.raises(CompileError, match="hard"):
        cli.main([str(path), "--loss", "mse", "--out", str(tmp_path / "bundle")])

    assert [item.name for item in tmp_path.iterdir()] == ["hard.onnx"]


@pytest.mark.parametrize(
    "words",
    [[], ["m.onnx"], ["m.onnx", "--loss", "hinge"], ["m.onnx", "--scale", "one"]],
    ids=["nothing", "no loss", "unknown loss", "no number"],
)
def test_compile_with_wrong_words_is_a_usage_error(words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(words)

    assert caught.value.code == 2
