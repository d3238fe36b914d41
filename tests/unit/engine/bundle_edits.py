"""One small bundle, and ways to put something else into it that its manifest names."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import onnx

from starling.compiler import compile_model
from starling.fleet.reference_models import build_model
from starling.protocol.ids import H
from starling.protocol.model.training_bundle import (
    CONTENT_FILES,
    MANIFEST,
    manifest_from_json,
    pack_bundle,
)
from tests.unit.engine.small_graphs import bytes_field


@cache
def honest() -> Mapping[str, bytes]:
    model = build_model("softmax", (8,), 4, np.random.default_rng(0))
    return compile_model(model, loss="cross-entropy").files


def repacked(changes: Mapping[str, bytes]) -> bytes:
    """The bundle with other files, and a manifest that stands by them."""
    files = {**honest(), **changes}
    manifest = manifest_from_json(files[MANIFEST])
    digests = {name: H(files[name]) for name in CONTENT_FILES}
    manifest = dataclasses.replace(manifest, digests=digests)
    return pack_bundle({**files, MANIFEST: manifest.to_json().encode()})


def edited(name: str, change: Callable[[onnx.ModelProto], object]) -> bytes:
    model = onnx.load_from_string(honest()[name])
    change(model)
    return repacked({name: model.SerializeToString()})


def with_hidden_operator(name: str, operator: str, bit: int = 32) -> bytes:
    """A graph's last node is another operator for readers of 32 bits of a tag."""
    model = onnx.load_from_string(honest()[name])
    last = model.graph.node[-1].SerializeToString()
    del model.graph.node[-1]
    hidden = last + bytes_field(4, operator.encode(), bit)
    body = model.graph.SerializeToString() + bytes_field(1, hidden)
    model.ClearField("graph")
    return repacked({name: model.SerializeToString() + bytes_field(7, body)})


def with_external_constant(name: str, location: str) -> bytes:
    """A graph has one more constant, whose bytes lie in a file."""
    model = onnx.load_from_string(honest()[name])
    tensor = model.graph.initializer.add(name="secret", dims=[32], data_type=2)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, content in (("location", location), ("offset", "0"), ("length", "32")):
        tensor.external_data.add(key=key, value=content)
    return repacked({name: model.SerializeToString()})
