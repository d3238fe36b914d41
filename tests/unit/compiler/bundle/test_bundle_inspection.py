import json
from pathlib import Path

import pytest

from starling.compiler import Bundle, compile_model, write_bundle
from starling.compiler.cli import main
from starling.protocol.errors import ConfigError, DecodeError
from tests.unit.compiler.small_models import mlp


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return compile_model(mlp(), loss="cross-entropy")


def test_inspect_folder_and_wire_file_say_the_same(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bundle(bundle, tmp_path / "folder")
    (tmp_path / "file").write_bytes(bundle.packed)

    texts = []
    for name in ("folder", "file"):
        assert main(["inspect", str(tmp_path / name)]) == 0
        texts.append(capsys.readouterr().out)

    assert texts[0] == texts[1]
    assert bundle.digest.hex() in texts[0]
    assert "MiB" in texts[0]


def test_inspect_json_gives_memory_for_each_graph(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bundle(bundle, tmp_path / "folder")

    main(["inspect", str(tmp_path / "folder"), "--json"])

    found = json.loads(capsys.readouterr().out)
    assert found["dimension"] == bundle.manifest.dimension
    assert set(found["process_bytes"]) == {"gradient.onnx", "private_gradient.onnx"}


def test_inspect_refuses_a_folder_without_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        main(["inspect", str(tmp_path)])


def test_inspect_refuses_a_changed_file(bundle: Bundle, tmp_path: Path) -> None:
    write_bundle(bundle, tmp_path / "folder")
    theta = tmp_path / "folder" / "theta.npy"
    theta.write_bytes(theta.read_bytes()[:-1])

    with pytest.raises(DecodeError, match="digest"):
        main(["inspect", str(tmp_path / "folder")])
