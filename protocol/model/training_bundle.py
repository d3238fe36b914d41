"""The training bundle: all files that a board needs to train one model, and their law.

A bundle holds the gradient graphs, the evaluation graphs, the large constants of all of
them, the initial parameters and a manifest in JSON that names the parameters and the
digests of the other files. On the wire it is one canonical msgpack array of
`[name, bytes]`, sorted by name; the digest of a bundle is `H` of those bytes. Unpacking
checks names, sizes and every digest, so that what comes out is what the operator
published.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from starling.protocol.errors import DecodeError, LimitError
from starling.protocol.ids import DIGEST_BYTES, Digest, H
from starling.protocol.model.lookup_table import LookupTable, check_tables, read_tables
from starling.protocol.model.parameter_layout import (
    DIMENSION_MAX,
    NAME_CHARS_MAX,
    ModelParameter,
    check_layout,
    read_parameter,
    read_shape,
)
from starling.protocol.model.source_ports import SourcePorts, read_source
from starling.protocol.model.table_schema import TableSchema, read_table
from starling.protocol.privacy.clipping_functions import CLIPPINGS, NORM
from starling.protocol.schema.json_document import (
    check_fields,
    choice,
    integer,
    items,
    numbers,
    read_json,
    text,
)
from starling.protocol.schema.msgpack_codec import Codec, binary, encode, many
from starling.protocol.schema.msgpack_codec import text as wire_text
from starling.protocol.wire.chunks import WHOLE_BYTES_MAX

FORMAT = 2
GRADIENT = "gradient.onnx"
PRIVATE_GRADIENT = "private_gradient.onnx"
EVALUATE = "evaluate.onnx"
INFER = "infer.onnx"
CONSTANTS = "constants.bin"
THETA = "theta.npy"
MANIFEST = "manifest.json"
CONTENT_FILES = (CONSTANTS, EVALUATE, GRADIENT, INFER, PRIVATE_GRADIENT, THETA)
"""Every file but the manifest, which holds their digests."""

BUNDLE_BYTES_MAX = WHOLE_BYTES_MAX
"""A bundle travels as one whole."""
FILE_BYTES_MAX = 96 << 20
_ROWS_MAX = 64
"""Of a bundle as it came; which ones it must have is checked after."""
_FILES = Codec[tuple[tuple[str, bytes], ...]](
    Annotated[
        tuple[
            tuple[
                Annotated[str, wire_text(NAME_CHARS_MAX)],
                Annotated[bytes, binary(FILE_BYTES_MAX)],
            ],
            ...,
        ],
        many(_ROWS_MAX),
    ],
    BUNDLE_BYTES_MAX,
)
MANIFEST_BYTES_MAX = 1 << 20
PARAMETERS_MAX = 4096
CLASSES_MAX = 4096
CHANNELS_MAX = 4096
ORIGIN_CHARS_MAX = 1000
EXAMPLE_BYTES_MAX = 1 << 40
OPSET_MIN, OPSET_MAX = 13, 21
LOSSES = ("cross-entropy", "mse", "bce", "huber")
DTYPES = ("float32", "int64")


@dataclass(frozen=True)
class TensorSpec:
    """Input or output of the graphs, without the leading batch axis.

    Attributes:
      shape: Of one example.
      dtype: One of `DTYPES`.
    """

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Preprocessing:
    """Map from raw sensor values to model input: `x = raw * scale + offset`.

    Attributes:
      scale: One value for all, or one for each entry of the first axis of an example.
      offset: As many values as `scale`.
    """

    scale: tuple[float, ...] = (1.0,)
    offset: tuple[float, ...] = (0.0,)


@dataclass(frozen=True)
class LossSettings:
    """Options by which a loss departs from its plain form.

    Attributes:
      class_weights: Of cross-entropy; one factor for each class, or empty.
      label_smoothing: Of cross-entropy; the share in [0, 1) of each label that is
        spread evenly over all classes.
      delta: Of huber; the error above which it grows linearly, in (0, 1e9].
    """

    class_weights: tuple[float, ...] = ()
    label_smoothing: float = 0.0
    delta: float = 1.0

    def __post_init__(self) -> None:
        """Refuses what no loss can be computed with."""
        if not all(0.0 <= weight <= 1e9 for weight in self.class_weights):
            raise DecodeError("manifest.loss_settings: weights lie in [0, 1e9]")
        if not 0.0 <= self.label_smoothing < 1.0:
            raise DecodeError("manifest.loss_settings: smoothing lies in [0, 1)")
        if not 0.0 < self.delta <= 1e9:
            raise DecodeError("manifest.loss_settings: delta lies in (0, 1e9]")


@dataclass(frozen=True)
class BundleManifest:
    """Contents of a bundle; the module's text says which rules it keeps.

    Attributes:
      name: What people call the model.
      parameters: In model order; the trainable ones tile [0, dimension) in this order.
      dimension: d, the length of theta; at least 1.
      loss: One of `LOSSES`.
      opset: Version of the default ONNX operator set of all graphs.
      input: One example of x.
      target: One example of y.
      output: One example of what `infer.onnx` returns.
      classes: What the outputs stand for; empty, or one name per output.
      preprocessing: Applied to raw data before the graphs see it.
      digests: File name to `H` of the file, for each of `CONTENT_FILES`.
      loss_settings: How the loss departs from its plain form.
      clipping: Of `private_gradient.onnx`; one of
        `protocol.privacy.clipping_functions.CLIPPINGS`.
      tables: Which places of x are looked up, ascending and apart.
      table: What columns of a table the inputs and targets are; None if x and y are
        not made of named columns.
      source: What the model that was compiled calls its inputs and output; None if
        that is not known.
      origin: Which data the weights that stay as they are come from; empty if nothing
        says so.
      example_bytes: What the values of one example take at one time in the graph that
        takes most, as the compiler predicts; 0 if that is not known.
    """

    name: str
    parameters: tuple[ModelParameter, ...]
    dimension: int
    loss: str
    opset: int
    input: TensorSpec
    target: TensorSpec
    output: TensorSpec
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    digests: Mapping[str, Digest]
    loss_settings: LossSettings = LossSettings()
    clipping: str = NORM
    tables: tuple[LookupTable, ...] = ()
    table: TableSchema | None = None
    source: SourcePorts | None = None
    origin: str = ""
    example_bytes: int = 0

    def __post_init__(self) -> None:
        """Refuses what no single field can see."""
        check_layout(self.parameters, self.dimension)
        if self.classes and len(self.classes) != math.prod(self.output.shape):
            raise DecodeError("manifest.classes: one name per output, or none")
        if sorted(self.digests) != sorted(CONTENT_FILES):
            raise DecodeError("manifest.files: not exactly the files of a bundle")
        # One factor for all values, or one for each entry of the first axis: others
        # broadcast in ways that differ.
        scales = len(self.preprocessing.scale)
        if scales != len(self.preprocessing.offset):
            raise DecodeError("manifest.preprocessing: scale and offset differ")
        if scales not in {1, *self.input.shape[:1]}:
            raise DecodeError("manifest.preprocessing: not one scale per channel")
        check_tables(self.tables, math.prod(self.input.shape))
        if self.table is not None:
            self.table.check_ports(self.input.shape, self.target.shape)
        if self.source is not None:
            self.source.check_row(math.prod(self.input.shape))
        if len(self.origin) > ORIGIN_CHARS_MAX or not self.origin.isprintable():
            raise DecodeError(
                f"manifest.origin: over {ORIGIN_CHARS_MAX} letters, or not printable"
            )

    def to_json(self) -> str:
        """The manifest as JSON text, the same for equal manifests."""
        document: dict[str, object] = {
            "format": FORMAT,
            "name": self.name,
            "parameters": [item.document() for item in self.parameters],
            "dimension": self.dimension,
            "loss": self.loss,
            "loss_settings": asdict(self.loss_settings),
            "clipping": self.clipping,
            "opset": self.opset,
            "input": asdict(self.input),
            "target": asdict(self.target),
            "output": asdict(self.output),
            "tables": [[item.start, item.size, item.rows] for item in self.tables],
            "classes": list(self.classes),
            "preprocessing": asdict(self.preprocessing),
            "example_bytes": self.example_bytes,
            "files": {name: self.digests[name].hex() for name in sorted(self.digests)},
        }
        if self.table is not None:
            document["table"] = self.table.document()
        if self.source is not None:
            document["source"] = self.source.document()
        if self.origin:
            document["origin"] = self.origin
        return json.dumps(document, indent=1) + "\n"


def manifest_from_json(data: bytes | str) -> BundleManifest:
    """Reads and checks a manifest.

    Raises:
      LimitError: If the text is longer than `MANIFEST_BYTES_MAX`.
      DecodeError: If it is not JSON, or a field is missing, unknown or out of bounds.
    """
    if len(data) > MANIFEST_BYTES_MAX:
        raise LimitError(f"manifest: {len(data)} bytes, {MANIFEST_BYTES_MAX} allowed")
    document = read_json(data, "manifest")
    # Absent is the one way to say that there is none.
    keys = {*document} if isinstance(document, dict) else set()
    extra = [name for name in _OPTIONAL_FIELDS if name in keys]
    check_fields(document, "manifest", (*_MANIFEST_FIELDS, *extra))
    if document["format"] != FORMAT:
        raise DecodeError(f"manifest.format: this version reads {FORMAT} only")
    rows = items(document["parameters"], "manifest.parameters", PARAMETERS_MAX)
    classes = items(document["classes"], "manifest.classes", CLASSES_MAX)
    return BundleManifest(
        name=_text(document["name"], "name"),
        parameters=tuple([read_parameter(row) for row in rows]),
        dimension=integer(
            document["dimension"], "manifest.dimension", 1, DIMENSION_MAX
        ),
        loss=choice(document["loss"], "manifest.loss", LOSSES),
        opset=integer(document["opset"], "manifest.opset", OPSET_MIN, OPSET_MAX),
        input=_port(document["input"], "input"),
        target=_port(document["target"], "target"),
        output=_port(document["output"], "output"),
        classes=tuple([_text(entry, "classes") for entry in classes]),
        preprocessing=_preprocessing(document["preprocessing"]),
        digests=_digests(document["files"]),
        loss_settings=_loss_settings(document["loss_settings"]),
        clipping=choice(document["clipping"], "manifest.clipping", CLIPPINGS),
        tables=read_tables(document["tables"], "manifest.tables"),
        table=read_table(document["table"], "manifest.table")
        if "table" in keys
        else None,
        source=read_source(document["source"], "manifest.source")
        if "source" in keys
        else None,
        origin=text(document["origin"], "manifest.origin", ORIGIN_CHARS_MAX)
        if "origin" in keys
        else "",
        example_bytes=integer(
            document["example_bytes"], "manifest.example_bytes", 0, EXAMPLE_BYTES_MAX
        ),
    )


def pack_bundle(files: Mapping[str, bytes]) -> bytes:
    """Packs the files of a bundle into its one wire form.

    Args:
      files: The content files and the manifest, by name.

    Returns:
      Canonical bytes; `H` of them is the bundle's digest.

    Raises:
      DecodeError, LimitError: If `unpack_bundle` would refuse the result.
    """
    _check_files(files)
    packed = encode([[name, files[name]] for name in sorted(files)])
    if len(packed) > BUNDLE_BYTES_MAX:
        raise LimitError(
            f"bundle of {len(packed)} bytes: BUNDLE_BYTES_MAX is {BUNDLE_BYTES_MAX}"
        )
    return packed


def unpack_bundle(data: bytes) -> dict[str, bytes]:
    """Unpacks a bundle and checks it against its own manifest.

    Returns:
      File name to bytes, the manifest included.

    Raises:
      LimitError: If the bundle or a file is too long.
      DecodeError: If it is not canonical, a name is missing or unknown, the manifest is
        malformed, or a digest differs.
    """
    rows = _FILES.unpack(data)
    files = dict(rows)
    # Canonical bytes: one bundle must not have two digests.
    if [name for name, _ in rows] != sorted(files):
        raise DecodeError("bundle: names are not sorted, or one is there twice")
    _check_files(files)
    return files


def bundle_digest(packed: bytes) -> Digest:
    """The digest by which a task names a bundle."""
    return H(packed)


def _check_files(files: Mapping[str, bytes]) -> None:
    if sorted(files) != sorted((*CONTENT_FILES, MANIFEST)):
        raise DecodeError("bundle: not exactly the files of a bundle")
    for name, content in files.items():
        if len(content) > FILE_BYTES_MAX:
            raise LimitError(f"{name}: {len(content)} bytes, {FILE_BYTES_MAX} allowed")
    manifest = manifest_from_json(files[MANIFEST])
    for name in CONTENT_FILES:
        if H(files[name]) != manifest.digests[name]:
            raise DecodeError(f"{name}: differs from its digest in the manifest")


_MANIFEST_FIELDS = (
    *("format", "name", "parameters", "dimension", "loss", "loss_settings", "clipping"),
    *("opset", "input", "target", "output", "tables", "classes", "preprocessing"),
    *("example_bytes", "files"),
)
_OPTIONAL_FIELDS = ("origin", "source", "table")


def _text(value: object, place: str) -> str:
    return text(value, f"manifest.{place}", NAME_CHARS_MAX)


def _port(value: Any, place: str) -> TensorSpec:  # noqa: ANN401 - from the JSON reader
    check_fields(value, f"manifest.{place}", ("shape", "dtype"))
    kind = choice(value["dtype"], f"manifest.{place}", DTYPES)
    return TensorSpec(read_shape(value["shape"], f"manifest.{place}"), kind)


def _preprocessing(value: Any) -> Preprocessing:  # noqa: ANN401 - from the JSON reader
    place, names = "manifest.preprocessing", ("scale", "offset")
    check_fields(value, place, names)
    return Preprocessing(*(numbers(value[name], place, CHANNELS_MAX) for name in names))


def _loss_settings(value: Any) -> LossSettings:  # noqa: ANN401 - from the JSON reader
    place, names = "manifest.loss_settings", ("label_smoothing", "delta")
    check_fields(value, place, ("class_weights", *names))
    smoothing, delta = numbers([value[name] for name in names], place, len(names))
    weights = numbers(value["class_weights"], place, CLASSES_MAX)
    return LossSettings(weights, smoothing, delta)


def _digests(value: Any) -> dict[str, Digest]:  # noqa: ANN401 - from the JSON reader
    check_fields(value, "manifest.files", CONTENT_FILES)
    digests = {}
    for name, written in value.items():
        shown = _text(written, "files")
        try:
            digest = bytes.fromhex(shown)
        except ValueError as error:
            raise DecodeError(f"manifest.files: {name}: not hexadecimal") from error
        # One spelling alone, since the manifest's own bytes are hashed.
        if len(digest) != DIGEST_BYTES or digest.hex() != written:
            raise DecodeError(f"manifest.files: {name}: not a digest")
        digests[name] = Digest(digest)
    return digests
