"""int8 by the runtime's own tools, and plain words where they are missing."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from starling.export.onnx_model import ordinary_model
from starling.export.provenance import ProvenModel
from starling.export.runtime.examples import TriedModel, tried
from starling.export.runtime.quantisation import (
    inputs_of,
    measured_file,
    outputs_of,
    quantised,
    source_of,
    with_metadata,
)
from starling.protocol.errors import EngineError, OperationError
from starling.protocol.model.source_ports import SourcePort, SourcePorts


@pytest.fixture
def examples(model: ProvenModel, digits: Path) -> TriedModel:
    return tried(model, digits, "")


@pytest.fixture
def exported(model: ProvenModel) -> bytes:
    return ordinary_model(model.opened, model.theta, {"starling.version": "5"})


def test_exported_file_gives_what_evaluate_gave(
    model: ProvenModel, examples: TriedModel, exported: bytes
) -> None:
    manifest = model.opened.manifest

    found = outputs_of(exported, manifest, examples.x)

    np.testing.assert_allclose(found, examples.outputs, rtol=1e-5, atol=1e-6)
    assert measured_file(exported, manifest, examples) == examples.metrics


def test_quantised_file_runs_and_keeps_its_metadata(
    model: ProvenModel, examples: TriedModel, exported: bytes
) -> None:
    manifest = model.opened.manifest

    small = with_metadata(quantised(exported, manifest, examples), {"k": "v"})

    told = onnxruntime.InferenceSession(small).get_modelmeta().custom_metadata_map
    assert told["starling.version"] == "5"
    assert told["k"] == "v"
    outputs = outputs_of(small, manifest, examples.x)
    same = outputs.argmax(axis=1) == examples.outputs.argmax(axis=1)
    assert same.mean() > 0.9
    assert not np.array_equal(outputs, examples.outputs)


def test_missing_tools_are_named_with_the_command(
    model: ProvenModel,
    examples: TriedModel,
    exported: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime.quantization", None)

    with pytest.raises(OperationError, match="pip install"):
        quantised(exported, model.opened.manifest, examples)


def test_file_that_is_no_model_is_refused(
    model: ProvenModel, examples: TriedModel
) -> None:
    with pytest.raises(EngineError, match="exported model"):
        outputs_of(b"no model", model.opened.manifest, examples.x)
    with pytest.raises(EngineError, match="int8"):
        quantised(b"no model", model.opened.manifest, examples)


def test_a_row_is_taken_apart_into_the_source_models_inputs() -> None:
    ports = SourcePorts(
        (SourcePort("ids", "int64", (2,)), SourcePort("map", "float32", (2, 2))), "y"
    )
    x = np.arange(12, dtype=np.float32).reshape(2, 6)

    found = inputs_of(ports, x)

    assert found["ids"].dtype == np.int64
    assert found["ids"].tolist() == [[0, 1], [6, 7]]
    assert found["map"].tolist() == [[[2, 3], [4, 5]], [[8, 9], [10, 11]]]


def test_a_bundle_that_knows_no_names_has_those_of_its_graph(
    model: ProvenModel,
) -> None:
    plain = replace(model.opened.manifest, source=None)

    assert source_of(plain) == SourcePorts(
        (SourcePort("x", "float32", (64,)),), "output"
    )
