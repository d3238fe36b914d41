"""`starling fronts` names what there is, and writes files that a fleet takes."""

import json
from pathlib import Path

import pytest

from starling.compiler import compile_model
from starling.fleet import fronts_cli
from starling.fleet.fronts.front_catalog import PEN
from starling.fleet.plan import FleetPlan
from starling.fleet.runtime.fronts import front_builder
from starling.fleet.runtime.fronts.front_training import FrontNetwork
from starling.fleet.runtime.training_material import prepare
from starling.protocol.errors import ConfigError, StorageError


def test_list_and_show_say_where_fronts_come_from(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert fronts_cli.main(["list"]) == 0
    listed = capsys.readouterr().out
    assert "made from no data" in listed
    assert fronts_cli.main(["list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == ["orientation", "whitened", "fonts", "pen"]
    assert fronts_cli.main(["show", "whitened"]) == 0
    assert "not for data digits" in capsys.readouterr().out
    assert fronts_cli.main(["show", "whitened", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == rows[1]


def test_built_file_is_a_front_of_a_fleet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "deep" / "own.onnx"
    assert fronts_cli.main(["build", "orientation", "--out", str(path)]) == 0
    assert str(path) in capsys.readouterr().err
    material = prepare(FleetPlan(model="head", front=str(path)))
    assert any("made from no data" in note for note in material.data.notes)


def test_built_start_is_a_model_of_a_fleet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = FrontNetwork(penned=128, epochs=1)
    monkeypatch.setattr(front_builder, "TRAINED", {PEN: small})
    path = tmp_path / "start.onnx"
    words = ["build", PEN, "--model", "softmax", "--out", str(path)]
    assert fronts_cli.main(words) == 0
    manifest = compile_model(path, loss="cross-entropy").manifest
    assert manifest.dimension == 7850
    assert "128 pictures by pen" in manifest.origin


def test_build_refuses_a_place_for_which_there_is_no_folder_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    words = ["build", PEN, "--out", str(tmp_path / "file" / "x" / "pen.onnx")]

    with pytest.raises(StorageError, match="file/x: Not a directory"):
        fronts_cli.main(words)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "flags", "why"),
    [
        ("whitened", ["--seed", "2"], "is not trained"),
        ("orientation", ["--model", "cnn"], "is not trained"),
        ("whitened", ["--fonts", "/"], "is not made from fonts"),
        ("pen", ["--fonts", "/"], "is not made from fonts"),
    ],
)
def test_build_refuses_what_only_another_front_takes(
    tmp_path: Path, name: str, flags: list[str], why: str
) -> None:
    words = ["build", name, "--out", str(tmp_path / "x.onnx"), *flags]
    with pytest.raises(ConfigError, match=f"{name} {why}") as caught:
        fronts_cli.main(words)
    assert caught.value.key == flags[0]
