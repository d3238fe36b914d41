"""Changed graphs by the thousand, and what protobuf's own reader makes of them."""

import random
from collections.abc import Iterator, Sequence
from functools import cache

import onnx
from google.protobuf import message  # type: ignore[import-untyped] # ships no types

from starling.compiler import compile_model
from starling.engine.graph_check import checked_graph
from starling.engine.onnx_writer import write_graph
from starling.engine.opened_bundle import GRAPHS
from starling.protocol.errors import ProtocolError
from tests.unit.compiler.small_models import cnn, mlp
from tests.unit.engine.bundle_edits import honest
from tests.unit.engine.small_graphs import bytes_field, number_field, varint

_MESSAGES = {
    # Fields that hold messages, by the field that leads there from the model.
    (): {7: "graph", 8: "opset"},
    (7,): {1: "node", 5: "tensor", 11: "value", 12: "value"},
    (7, 1): {5: "attribute"},
    (7, 11): {2: "type"},
    (7, 12): {2: "type"},
    (7, 11, 2): {1: "tensor type"},
    (7, 12, 2): {1: "tensor type"},
    (7, 11, 2, 1): {2: "shape"},
    (7, 12, 2, 1): {2: "shape"},
    (7, 11, 2, 1, 2): {1: "axis"},
    (7, 12, 2, 1, 2): {1: "axis"},
}
NAMES = (b"Add", b"Sub", b"Mul", b"x", b"theta", b"out", b"", b"RandomNormal", b"a\xff")
Entry = tuple[int, int, bytes]
"""Field number, wire type, content."""


@cache
def seeds() -> tuple[bytes, ...]:
    """Graphs of several models, as the compiler writes them."""
    models = (mlp(), cnn())
    bundles = [compile_model(each, loss="cross-entropy").files for each in models]
    bundles.append(honest())
    graphs = [files[name] for files in bundles for name in GRAPHS]
    return tuple(sorted(graphs, key=len))


def split(data: bytes) -> list[Entry]:
    """The fields of a message that is in order."""
    found, position = [], 0
    while position < len(data):
        key, position = _number(data, position)
        if key & 7 == 0:
            start = position
            _, position = _number(data, position)
            content = data[start:position]
        elif key & 7 == 5:
            content, position = data[position : position + 4], position + 4
        else:
            length, position = _number(data, position)
            content, position = data[position : position + length], position + length
        found.append((key >> 3, key & 7, content))
    return found


def _number(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position


def join(entries: Sequence[Entry]) -> bytes:
    return b"".join(
        [
            varint(number << 3 | wire)
            + (varint(len(content)) if wire == 2 else b"")
            + content
            for number, wire, content in entries
        ]
    )


def mutated(rng: random.Random) -> bytes:
    """A graph with one to four changes, or noise."""
    data = rng.choice(seeds())
    kind = rng.random()
    if kind < 0.05:
        return rng.randbytes(rng.randrange(200))
    for _ in range(rng.randint(1, 4)):
        data = _bytes_changed(data, rng) if kind < 0.3 else _fields_changed(data, rng)
    return data


def _bytes_changed(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    match rng.randrange(4):
        case 0:
            return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        case 1:
            return data[:at] + rng.randbytes(rng.randint(1, 8)) + data[at:]
        case 2:
            return data[:at] + data[at + rng.randint(1, 8) :]
        case _:
            other = rng.choice(seeds())
            start = rng.randrange(len(other))
            return data[:at] + other[start : start + rng.randint(1, 64)] + data[at:]


def _fields_changed(
    data: bytes, rng: random.Random, path: tuple[int, ...] = ()
) -> bytes:
    """Changes one field of the message at `path`, or of one below it."""
    try:
        entries = split(data)
    except IndexError:
        # An earlier change has broken this message.
        return _bytes_changed(data, rng)
    below = _MESSAGES.get(path, {})
    inner = [at for at, each in enumerate(entries) if each[0] in below and each[1] == 2]
    if inner and rng.random() < 0.8:
        at = rng.choice(inner)
        number, wire, content = entries[at]
        entries[at] = (number, wire, _fields_changed(content, rng, (*path, number)))
        return join(entries)
    return _changed(entries, rng)


def _changed(entries: list[Entry], rng: random.Random) -> bytes:
    at = rng.randrange(len(entries)) if entries else 0
    number, wire, content = entries[at] if entries else (1, 2, b"")
    match rng.randrange(9):
        case 0:
            entries.insert(rng.randint(0, len(entries)), (number, wire, content))
        case 1 if entries:
            del entries[at]
        case 2 if len(entries) > 1:
            other = rng.randrange(len(entries))
            entries[at], entries[other] = entries[other], entries[at]
        case 3:
            bit = rng.randint(30, 63)
            hidden = bytes_field(rng.randint(1, 30), rng.choice(NAMES), bit)
            return join(entries) + hidden
        case 4:
            extra = rng.randint(0, 30)
            return join(entries) + bytes_field(extra, rng.choice(NAMES))
        case 5:
            return join(entries) + number_field(rng.randint(0, 30), rng.getrandbits(64))
        case 6 if wire == 0 and entries:
            value, _ = _number(content, 0)
            entries[at] = (number, wire, varint(value, rng.randint(0, 3)))
        case 7 if wire == 0 and entries:
            bits = rng.choice([1, 3, 8, 32, 63, 64])
            entries[at] = (number, wire, varint(rng.getrandbits(bits)))
        case 8 if wire == 2 and entries:
            entries[at] = (number, wire, rng.choice(NAMES))
        case _:
            rng.shuffle(entries)
    return join(entries)


def normal(data: bytes) -> bytes:
    """What protobuf's reader sees, in one form; whatever it does not know stays in it.

    Raises:
      message.DecodeError: If it cannot read it.
    """
    model = onnx.ModelProto()
    model.ParseFromString(data)
    model.ClearField("producer_name")
    model.ClearField("producer_version")
    # Whether an empty text is written makes no difference to anybody.
    model.graph.name = model.graph.name or ""
    for each in model.opset_import:
        each.domain = each.domain or ""
    for node in model.graph.node:
        node.name = node.name or ""
        if not node.domain:
            node.ClearField("domain")
    for tensor in model.graph.initializer:
        tensor.raw_data = tensor.raw_data or b""
    found: bytes = model.SerializeToString(deterministic=True)
    return found


def accepted(seed: int, count: int) -> Iterator[tuple[bytes, bytes]]:
    """The changed graphs that pass the check, each with what is written of it."""
    rng = random.Random(seed)
    for _ in range(count):
        data = mutated(rng)
        try:
            yield data, write_graph(checked_graph(data))
        except ProtocolError:
            continue


def disagreement(data: bytes, written: bytes) -> str:
    """Where protobuf's reader sees something else than we wrote; empty if nowhere."""
    try:
        return "" if normal(data) == normal(written) else data.hex()
    except message.DecodeError:
        return data.hex()
