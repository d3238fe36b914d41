"""Weights in a file beside the model's are taken; those from elsewhere are refused."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest

from starling.compiler import compile_model
from starling.compiler.reader.external_tensors import with_external_tensors
from starling.protocol.errors import DecodeError, LimitError
from tests.unit.compiler.small_models import mlp


def _kept_beside(
    folder: Path, changes: Mapping[str, str] | None = None, name: str = "model.data"
) -> Path:
    """A model of which every weight is in `name`, with other entries for the first."""
    model = mlp()
    content = b""
    for tensor in model.graph.initializer:
        entries = {"location": name, "offset": len(content), "length": 0}
        entries["length"] = len(tensor.raw_data)
        content += tensor.raw_data
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=str(value))
    for entry in model.graph.initializer[0].external_data:
        entry.value = (changes or {}).get(entry.key, entry.value)
    (folder / name).write_bytes(content)
    file = folder / "model.onnx"
    file.write_bytes(model.SerializeToString())
    return file


def test_model_with_weights_in_a_file_beside_it_is_the_same_model(
    tmp_path: Path,
) -> None:
    bundle = compile_model(_kept_beside(tmp_path), loss="mse")

    assert bundle.theta.tobytes() == compile_model(mlp(), loss="mse").theta.tobytes()


def test_tensor_without_an_offset_or_a_length_is_the_whole_file(tmp_path: Path) -> None:
    model = mlp()
    tensor = model.graph.initializer[0]
    (tmp_path / "first").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="first")
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())

    bundle = compile_model(tmp_path / "model.onnx", loss="mse")

    np.testing.assert_array_equal(bundle.theta, compile_model(mlp(), loss="mse").theta)


@pytest.mark.parametrize(
    "changes",
    [
        {"location": "../model.data"},
        {"location": "/etc/passwd"},
        {"location": ".."},
        {"location": ""},
        {"location": "other.data"},
        {"location": "a\0b"},
        {"offset": "-1"},
        {"offset": "many"},
        {"length": "-8"},
        {"length": "1000000"},
        {"length": "4"},
    ],
    ids=str,
)
def test_place_that_is_none_beside_the_model_is_refused_by_name(
    tmp_path: Path, changes: Mapping[str, str]
) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "model.data").write_bytes(bytes(4096))
    first = mlp().graph.initializer[0].name

    with pytest.raises(DecodeError, match=first):
        compile_model(_kept_beside(inside, changes), loss="mse")


def _link(file: Path) -> None:
    file.rename(file.with_name("real"))
    file.symlink_to("real")


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize("change", [_link, _folder, _pipe])
def test_data_file_that_is_no_plain_file_is_refused(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    file = _kept_beside(tmp_path)
    change(tmp_path / "model.data")

    with pytest.raises(DecodeError, match=r"hidden\.weight"):
        compile_model(file, loss="mse")


def test_more_bytes_than_all_tensors_may_have_are_not_read(tmp_path: Path) -> None:
    proto = onnx.ModelProto()
    proto.ParseFromString(_kept_beside(tmp_path).read_bytes())
    size = (tmp_path / "model.data").stat().st_size

    with pytest.raises(LimitError, match=r"head\.bias.*11 left"):
        with_external_tensors(proto, tmp_path, size - 1)
