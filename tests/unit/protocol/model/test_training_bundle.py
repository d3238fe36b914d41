import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.protocol.errors import DecodeError, LimitError, ProtocolError
from starling.protocol.ids import H
from starling.protocol.model.lookup_table import LookupTable
from starling.protocol.model.parameter_layout import ModelParameter, local_slices
from starling.protocol.model.source_ports import SourcePort, SourcePorts
from starling.protocol.model.table_schema import (
    InputColumn,
    TableSchema,
    TargetColumn,
)
from starling.protocol.model.training_bundle import (
    CONTENT_FILES,
    MANIFEST,
    MANIFEST_BYTES_MAX,
    BundleManifest,
    Preprocessing,
    TensorSpec,
    bundle_digest,
    manifest_from_json,
    pack_bundle,
    unpack_bundle,
)
from starling.protocol.schema.msgpack_codec import encode

CONTENTS = {name: name.encode() * 3 for name in CONTENT_FILES}


def _manifest(**changes: Any) -> BundleManifest:  # noqa: ANN401 - fields of any type
    fields: dict[str, Any] = {
        "name": "digits",
        "parameters": (
            ModelParameter("w", (3, 4), 0, trainable=True),
            ModelParameter("b", (3,), 12, trainable=True, local=True),
            ModelParameter("frozen", (2, 2), None, trainable=False),
        ),
        "dimension": 15,
        "loss": "cross-entropy",
        "opset": 18,
        "input": TensorSpec((4,), "float32"),
        "target": TensorSpec((), "int64"),
        "output": TensorSpec((3,), "float32"),
        "classes": ("a", "b", "c"),
        "preprocessing": Preprocessing((0.5,), (-1.0,)),
        "tables": (LookupTable(0, 1, 9), LookupTable(2, 2, 5)),
        "digests": {name: H(content) for name, content in CONTENTS.items()},
        "clipping": "automatic",
        "example_bytes": 1 << 20,
    }
    return BundleManifest(**{**fields, **changes})


def _files(manifest: BundleManifest | None = None) -> dict[str, bytes]:
    text = (manifest or _manifest()).to_json()
    return {**CONTENTS, MANIFEST: text.encode()}


def test_manifest_read_back_is_equal() -> None:
    assert manifest_from_json(_manifest().to_json()) == _manifest()


def test_manifest_with_its_source_read_back_is_equal() -> None:
    ports = (SourcePort("ids", "int64", (1,)), SourcePort("rest", "float32", (3,)))
    made = _manifest(source=SourcePorts(ports, "logits"))

    assert manifest_from_json(made.to_json()) == made


def test_manifest_with_a_table_read_back_is_equal() -> None:
    columns = tuple([InputColumn(name) for name in "abcd"])
    made = _manifest(table=TableSchema(columns, (TargetColumn("y"),)))

    assert manifest_from_json(made.to_json()) == made
    assert '"table"' not in _manifest().to_json()


def test_manifest_refuses_a_table_that_does_not_fill_the_input() -> None:
    with pytest.raises(DecodeError, match=r"manifest\.table"):
        _manifest(table=TableSchema((InputColumn("a"),), (TargetColumn("y"),)))


def test_local_slices_are_where_local_parameters_stand_in_theta() -> None:
    assert local_slices(_manifest().parameters) == (slice(12, 15),)


LAYOUTS: dict[str, dict[str, Any]] = {
    "dimension": {"dimension": 16},
    "gap": {"parameters": (ModelParameter("w", (15,), 1, trainable=True),)},
    "frozen in theta": {
        "parameters": (
            ModelParameter("w", (15,), 0, trainable=True),
            ModelParameter("f", (1,), 15, trainable=False),
        )
    },
    "name twice": {
        "parameters": (
            ModelParameter("w", (12,), 0, trainable=True),
            ModelParameter("w", (3,), 12, trainable=True),
        )
    },
    "frozen and local": {
        "parameters": (
            ModelParameter("w", (15,), 0, trainable=True),
            ModelParameter("f", (1,), None, trainable=False, local=True),
        )
    },
    "nothing to send": {
        "parameters": (ModelParameter("w", (15,), 0, trainable=True, local=True),)
    },
    "classes": {"classes": ("a",)},
    "files": {"digests": {"infer.onnx": H(b"")}},
    "scale without offset": {"preprocessing": Preprocessing((1.0, 2.0), (0.0,))},
    "tables overlap": {"tables": (LookupTable(0, 2, 9), LookupTable(1, 1, 9))},
    "table beyond": {"tables": (LookupTable(3, 2, 9),)},
    "scale per channel": {
        "preprocessing": Preprocessing((1.0,) * 3, (0.0,) * 3),
    },
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_manifest_that_contradicts_itself_is_refused(case: str) -> None:
    with pytest.raises(DecodeError):
        _manifest(**LAYOUTS[case])


EDITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "other format": lambda d: d.update(format=1),
    "negative bytes": lambda d: d.update(example_bytes=-1),
    "missing field": lambda d: d.pop("loss"),
    "unknown field": lambda d: d.update(more=1),
    "unknown clipping": lambda d: d.update(clipping="none"),
    "unknown loss": lambda d: d.update(loss="hinge"),
    "loss of another kind": lambda d: d.update(loss=["mse"]),
    "opset too new": lambda d: d.update(opset=99),
    "opset as truth": lambda d: d.update(opset=True),
    "empty name": lambda d: d.update(name=""),
    "control letters": lambda d: d.update(name="a\x1b[2J"),
    "negative size": lambda d: d["input"].update(shape=[-4]),
    "deep shape": lambda d: d["input"].update(shape=[1] * 9),
    "huge shape": lambda d: d["input"].update(shape=[1 << 20, 1 << 20]),
    "unknown dtype": lambda d: d["input"].update(dtype="float64"),
    "offset as text": lambda d: d["parameters"][0].update(offset="0"),
    "trainable as number": lambda d: d["parameters"][0].update(trainable=1),
    "parameters no list": lambda d: d.update(parameters={}),
    "parameter no object": lambda d: d.update(parameters=[3]),
    "scale huge": lambda d: d["preprocessing"].update(scale=[1e300]),
    "scale text": lambda d: d["preprocessing"].update(scale=["1"]),
    "table without rows": lambda d: d.update(tables=[[0, 1, 0]]),
    "table too short": lambda d: d.update(tables=[[0, 1]]),
    "digest short": lambda d: d["files"].update({"theta.npy": "00"}),
    "digest no text": lambda d: d["files"].update({"theta.npy": 7}),
    "digest upper case": lambda d: d["files"].update({"theta.npy": "AB" * 32}),
    "file unknown": lambda d: d["files"].update({"../../etc": "00" * 32}),
}


@pytest.mark.parametrize("case", EDITS)
def test_manifest_text_out_of_bounds_is_refused(case: str) -> None:
    document = json.loads(_manifest().to_json())
    EDITS[case](document)

    with pytest.raises(DecodeError):
        manifest_from_json(json.dumps(document))


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", "{", '{"format": NaN}', '{"a": 1, "a": 1}', "[" * 100_000],
    ids=["empty", "list", "null", "open", "nan", "key twice", "deep"],
)
def test_manifest_that_is_no_manifest_is_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        manifest_from_json(text)


def test_manifest_longer_than_the_limit_is_refused() -> None:
    with pytest.raises(LimitError):
        manifest_from_json(" " * (MANIFEST_BYTES_MAX + 1))


def test_bundle_packed_unpacks_to_the_same_files() -> None:
    files = _files()

    assert unpack_bundle(pack_bundle(files)) == files


def test_bundle_digest_is_of_the_packed_bytes() -> None:
    packed = pack_bundle(_files())

    assert bundle_digest(packed) == H(packed)


def _rows() -> list[list[Any]]:
    return [[name, content] for name, content in sorted(_files().items())]


TAMPERED: dict[str, Callable[[], Any]] = {
    "nothing": lambda: [],
    "no array": lambda: b"x",
    "unsorted": lambda: _rows()[::-1],
    "file missing": lambda: _rows()[1:],
    "file twice": lambda: [*_rows(), _rows()[-1]],
    "unknown file": lambda: [*_rows(), ["z.onnx", b""]],
    "path": lambda: [["../theta.npy", b""], *_rows()],
    "content no bytes": lambda: [[name, 1] for name, _ in _rows()],
    "row too long": lambda: [[*row, 0] for row in _rows()],
    "content changed": lambda: [
        [name, content + (b"!" if name == "theta.npy" else b"")]
        for name, content in _rows()
    ],
}


@pytest.mark.parametrize("case", TAMPERED)
def test_bundle_tampered_with_is_refused(case: str) -> None:
    with pytest.raises(DecodeError):
        unpack_bundle(encode(TAMPERED[case]()))


def test_bundle_truncated_at_any_byte_is_refused() -> None:
    packed = pack_bundle(_files())

    for length in range(len(packed)):
        with pytest.raises(DecodeError):
            unpack_bundle(packed[:length])


@given(st.binary(max_size=300))
def test_bundle_of_noise_raises_only_protocol_errors(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        unpack_bundle(data)
