"""Tensors that a model keeps in a file beside its own, as ONNX's external data.

PyTorch's newer exporter writes weights so unless it is told not to. A model comes from
anywhere: the file has to be a plain one in the model's folder, called by its name.

Source: ONNX, docs/ExternalData.md.
"""

from collections.abc import Iterator
from pathlib import Path

import onnx

from starling.protocol.errors import DecodeError, LimitError

_DIGITS_MAX = 18
"""Of a number of bytes."""


def with_external_tensors(
    proto: onnx.ModelProto, folder: Path, bytes_max: int
) -> onnx.ModelProto:
    """The model with all of its tensors inside.

    Args:
      proto: As parsed; it is changed.
      folder: Of the model's file.
      bytes_max: Of all tensors that are read.

    Raises:
      DecodeError: If a tensor names another place than a plain file in the folder, or
        bytes that it does not have.
      LimitError: If they have more bytes in all.
    """
    left = bytes_max
    for tensor in _outside(proto.graph):
        found = {entry.key: entry.value for entry in tensor.external_data}
        content = _read(tensor.name, found, folder, left)
        left -= len(content)
        del tensor.external_data[:]
        tensor.data_location = onnx.TensorProto.DEFAULT
        tensor.raw_data = content
    return proto


def _outside(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    held = [a.t for node in graph.node for a in node.attribute if a.HasField("t")]
    for tensor in (*graph.initializer, *held):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            yield tensor


def _read(name: str, found: dict[str, str], folder: Path, bytes_max: int) -> bytes:
    location = found.get("location", "")
    # A model may come from anybody, and must not name a file elsewhere.
    if location in ("", ".", "..") or {*"/\\\0"}.intersection(location):
        raise DecodeError(
            f"model: {name!r} is kept in {location[:100]!r}, which is no file beside it"
        )
    path = folder / location
    try:
        # A link in the folder may lead to a secret, which would end up in the bundle.
        whole = path.is_file() and not path.is_symlink()
        there = path.stat().st_size
        start = _count(found.get("offset", "0"))
        size = _count(found.get("length", str(there - start)))
        # Offsets come from the file; a short read would shift weights without a word.
        if not whole or min(start, size) < 0 or start + size > there:
            raise DecodeError(f"model: {location[:100]!r} does not hold {name!r}")
        if size > bytes_max:
            raise LimitError(f"model: {size:,} bytes of {name!r}, {bytes_max:,} left")
        with path.open("rb") as opened:
            opened.seek(start)
            return opened.read(size)
    except OSError as error:
        raise DecodeError(
            f"model: {name!r} is kept in {location[:100]!r}, which cannot be read: "
            "copy it beside the model, or save the model as one file"
        ) from error


def _count(text: str) -> int:
    """A number of bytes; -1 for what is none."""
    return int(text) if text.isdecimal() and len(text) <= _DIGITS_MAX else -1
