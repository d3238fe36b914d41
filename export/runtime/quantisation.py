"""Exported models in int8, made by ONNX Runtime's own tools.

Ranges of values are calibrated on examples, weights are int8 by channel, and each
operator's inputs and outputs go through QuantizeLinear and DequantizeLinear (QDQ), so
that the file still runs in any ONNX Runtime.

Source: onnxruntime.quantization.quantize_static; Jacob et al. 2018, arXiv:1712.05877.
"""

import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from starling.export.runtime.examples import TriedModel, batches, metrics_of
from starling.protocol.errors import EngineError, OperationError
from starling.protocol.learning.metrics import Metrics
from starling.protocol.model.source_ports import SourcePort, SourcePorts
from starling.protocol.model.training_bundle import BundleManifest

CALIBRATION_MAX = 512
"""Examples that ranges are taken from: the first ones."""
EXTRA = "pip install 'starling-fl[compiler]'"
_SEVERITY_FATAL = 4
_DTYPES = {"float32": "f4", "int64": "i8", "int32": "i4", "bool": "?"}


def quantised(model: bytes, manifest: BundleManifest, examples: TriedModel) -> bytes:
    """The model in int8.

    Args:
      model: As `export.onnx_model.ordinary_model` makes it.
      manifest: Of its bundle.
      examples: To calibrate on.

    Raises:
      OperationError: If the tools are not installed.
      EngineError: If they refuse the model.
    """
    try:
        import onnx
        from onnxruntime import quantization
        from onnxruntime.quantization import shape_inference
    except ImportError as error:
        raise OperationError(
            f"--quantize needs the package {error.name!r}; run: {EXTRA}"
        ) from error
    ports = source_of(manifest)
    feeds = [inputs_of(ports, examples.x[rows]) for rows in batches(CALIBRATION_MAX)]
    # The tools take and leave files, and nothing but files.
    with tempfile.TemporaryDirectory() as scratch:
        source, ready, target = [
            Path(scratch) / f"{name}.onnx" for name in ("source", "ready", "target")
        ]
        source.write_bytes(model)
        try:
            shape_inference.quant_pre_process(
                source, ready, skip_symbolic_shape=True, verbose=0
            )
            quantization.quantize_static(
                ready,
                target,
                _Calibration(iter(feeds)),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
            )
            found = onnx.load_model(target)
        # Whatever their code runs into with a graph that they do not know.
        except Exception as error:
            line = str(error).strip().partition("\n")[0][:200]
            raise EngineError(f"int8: {line or type(error).__name__}") from error
    before = onnx.load_model_from_string(model)
    # They add and drop entries on the way: the proof goes over as it was.
    del found.metadata_props[:]
    found.metadata_props.extend(before.metadata_props)
    made: bytes = found.SerializeToString()
    return made


def with_metadata(model: bytes, more: Mapping[str, str]) -> bytes:
    """The model with further entries in its metadata."""
    import onnx

    found = onnx.load_model_from_string(model)
    for key, value in more.items():
        found.metadata_props.add(key=key, value=value)
    made: bytes = found.SerializeToString()
    return made


def measured_file(
    model: bytes, manifest: BundleManifest, examples: TriedModel
) -> Metrics:
    """Metrics of an exported file, run by stock ONNX Runtime.

    Args:
      model: The file's content.
      manifest: Of its bundle.
      examples: With the outputs of the proven model, whose losses say what kind of
        outputs they are.

    Raises:
      EngineError: If ONNX Runtime refuses it.
    """
    outputs = outputs_of(model, manifest, examples.x)
    return metrics_of(manifest, outputs, examples.y, examples.losses)


def outputs_of(
    model: bytes, manifest: BundleManifest, x: NDArray[Any]
) -> NDArray[np.float32]:
    """(n, *output): what an exported file returns for (n, *input) x.

    Raises:
      EngineError: If ONNX Runtime refuses it.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SEVERITY_FATAL
    ports = source_of(manifest)
    try:
        session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        parts = [
            session.run([ports.output], inputs_of(ports, x[rows]))[0]
            for rows in batches(len(x))
        ]
    # Its errors have no common base.
    except Exception as error:
        line = str(error).strip().partition("\n")[0][:200]
        raise EngineError(f"exported model: {line}") from error
    return np.concatenate(parts)


def source_of(manifest: BundleManifest) -> SourcePorts:
    """The names that an exported model has."""
    plain = SourcePort("x", "float32", manifest.input.shape)
    return manifest.source or SourcePorts((plain,), "output")


def inputs_of(ports: SourcePorts, x: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """The source model's inputs of (n, *input) x, by name."""
    flat, start = x.reshape(len(x), -1), 0
    found = {}
    for port in ports.inputs:
        size = math.prod(port.shape)
        part = flat[:, start : start + size]
        found[port.name] = part.reshape(len(x), *port.shape).astype(_DTYPES[port.dtype])
        start += size
    return found


class _Calibration:
    """See `onnxruntime.quantization.CalibrationDataReader`."""

    def __init__(self, feeds: Iterator[dict[str, NDArray[Any]]]) -> None:
        self._feeds = feeds

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next inputs; None at the end."""
        return next(self._feeds, None)
