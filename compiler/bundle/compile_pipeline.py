"""From a model to a bundle, and from a bundle to a folder.

The pipeline: load, check, read the network, choose the loss, write the four graphs
(each going forward and back by the rules), put their large constants into one file and
the manifest beside them, check every graph as a board will, and run two examples.
Nothing is written before all of that has succeeded.
"""

import gc
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from starling.compiler.autodiff.gradient_factors import GradientFactors
from starling.compiler.autodiff.losses import Loss, find_loss
from starling.compiler.autodiff.scored_network import scored_network
from starling.compiler.bundle.memory_estimate import needs
from starling.compiler.bundle.shared_constants import with_shared_constants
from starling.compiler.bundle.source_signature import source_ports
from starling.compiler.bundle.training_graphs import (
    evaluate_graph,
    gradient_graph,
    infer_graph,
    private_graph,
)
from starling.compiler.bundle.trial_run import check_memory, tried
from starling.compiler.ir.graph_writer import OPSET
from starling.compiler.ir.network import Network
from starling.compiler.parameters.parameter_selection import WeightOptions, matching
from starling.compiler.reader.model_file import load
from starling.compiler.reader.network_reader import read_network
from starling.compiler.rewrite.batch.fixed_batch import blaming_fixed_batch
from starling.engine.npy_vector import read_vector, vector_file
from starling.engine.onnx_writer import write_graph
from starling.engine.opened_bundle import OpenedBundle, open_packed
from starling.protocol.errors import ConfigError
from starling.protocol.ids import Digest, H
from starling.protocol.model.parameter_layout import ModelParameter
from starling.protocol.model.table_schema import TableSchema
from starling.protocol.model.training_bundle import (
    EVALUATE,
    GRADIENT,
    INFER,
    MANIFEST,
    PRIVATE_GRADIENT,
    THETA,
    BundleManifest,
    LossSettings,
    Preprocessing,
    TensorSpec,
    bundle_digest,
    pack_bundle,
)
from starling.protocol.privacy.clipping_functions import CLIPPINGS, NORM

ORIGIN = "starling.origin"
"""Key of a model's metadata: which data its weights come from."""
_SEED = 20240229
"""Of the examples on which a bundle is run, so that a model is refused twice alike."""


@dataclass(frozen=True)
class Bundle:
    """A compiled model.

    Attributes:
      manifest: What it holds.
      files: Name to bytes, the manifest included.
      opened: The same files, as boards read them.
      network: The model that was compiled.
      factors: Name of a parameter to the factors of its gradient.
    """

    manifest: BundleManifest
    files: Mapping[str, bytes]
    opened: OpenedBundle = field(repr=False, compare=False)
    network: Network = field(repr=False, compare=False)
    factors: Mapping[str, GradientFactors] = field(repr=False, compare=False)

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines for whoever compiled the model."""
        return self.network.notes

    @property
    def theta(self) -> NDArray[np.float32]:
        """(d,) float32: the initial parameters."""
        return read_vector(self.files[THETA], THETA)

    def standalone(self, name: str) -> bytes:
        """A graph with all of its constants, as a runtime takes it from memory."""
        return write_graph(self.opened.graphs[name])

    @property
    def packed(self) -> bytes:
        """The wire form; see `protocol.model.training_bundle.pack_bundle`."""
        return pack_bundle(self.files)

    @property
    def digest(self) -> Digest:
        """By which a task names this bundle."""
        return bundle_digest(self.packed)


@dataclass(frozen=True)
class _ManifestOptions:
    """Those arguments of `compile_model` that the manifest states."""

    name: str | None
    loss: str
    settings: LossSettings
    local: Sequence[str]
    classes: Sequence[str]
    preprocessing: Preprocessing | None
    clipping: str
    table: TableSchema | None


@contextmanager
def _uncollected() -> Iterator[None]:
    """Leaves unreachable cycles for later.

    Compiling makes millions of small objects and hardly a cycle; to look through them
    again and again takes a fifth of the time.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@_uncollected()
def compile_model(
    model: bytes | Path | onnx.ModelProto,
    *,
    loss: str,
    train: Sequence[str] = (),
    local: Sequence[str] = (),
    name: str | None = None,
    classes: Sequence[str] = (),
    preprocessing: Preprocessing | None = None,
    settings: LossSettings | None = None,
    output: str | None = None,
    clipping: str = NORM,
    tie: Sequence[Sequence[str]] = (),
    untie: bool = False,
    freeze: Sequence[str] = (),
    table: TableSchema | None = None,
    tell: Callable[[str], object] = lambda _: None,
) -> Bundle:
    """Compiles an ordinary ONNX model into a training bundle.

    Args:
      model: Serialised, as a file, or already parsed; the first axis of
        its inputs is the batch.
      loss: "cross-entropy" (int64 labels), "mse", "huber" or "bce" (float32 targets).
      train: Patterns (as a shell knows them) of weights to train; the others stay as
        they are, inside the graphs. Empty trains all.
      local: Patterns of trained weights that stay on the board and are never sent.
      name: Of the bundle; the graph's own by default.
      classes: What the outputs stand for; empty, or one name per output.
      preprocessing: What a board does to raw data first; nothing by default.
      settings: Class weights, label smoothing, where huber becomes linear.
      output: Name of the output that the loss reads, where the model has several.
      clipping: Of private gradients; one of
        `protocol.privacy.clipping_functions.CLIPPINGS`.
      tie: Groups of weights of equal values (turned round or reshaped, too) that are
        one.
      untie: Parts weights that PyTorch's newer exporter may have merged.
      freeze: Patterns of weights that stay as they are, of those that `train` leaves.
      table: What columns of a table x and y are, where they are made of some.
      tell: Hears of each stage before it begins, and of each warning.

    Raises:
      ConfigError: If the file cannot be read, or an argument does not fit the model.
      DecodeError, LimitError: If the file is malformed or too large.
      CompileError: If the model cannot be trained; names every node in the way.
    """
    settings = settings or LossSettings()
    options = _ManifestOptions(
        name, loss, settings, local, classes, preprocessing, clipping, table
    )
    criterion = find_loss(loss, settings)
    tell("reading the model")
    proto = load(model)
    tell(f"finding shapes and rules of {len(proto.graph.node)} nodes")
    network = read_network(proto, WeightOptions(train, tie, untie, freeze), output)
    for line in network.notes:
        tell(f"warning: {line}")
    return _compiled(proto, network, criterion, options, tell)


def _compiled(
    proto: onnx.ModelProto,
    network: Network,
    criterion: Loss,
    options: _ManifestOptions,
    tell: Callable[[str], object],
) -> Bundle:
    tell(f"writing graphs for {network.dimension:,} parameters")
    end = scored_network(network, criterion)
    target = criterion.target(end.network.shapes[end.scores])
    with blaming_fixed_batch(network.batch):
        graphs, factors = _graphs(network, criterion, options.clipping)
    files = with_shared_constants(graphs)
    files[THETA] = _theta(network)
    # The private graph is the largest: it holds the forward pass, the way back and the
    # norms. The difference of the two is what one more example takes.
    one, two = needs(files[PRIVATE_GRADIENT], (1, 2)).values()
    # Before anything runs: the trial would meet the limit as a killed process.
    check_memory(one.process)
    manifest = BundleManifest(
        name=options.name or network.name,
        parameters=_parameters(network, options.local),
        dimension=network.dimension,
        loss=options.loss,
        opset=OPSET,
        input=TensorSpec(_row(network, network.input), "float32"),
        target=target,
        output=_scored(network, options.classes),
        classes=tuple(options.classes),
        preprocessing=options.preprocessing or Preprocessing(),
        digests={key: H(content) for key, content in files.items()},
        loss_settings=options.settings,
        clipping=options.clipping,
        tables=network.tables,
        table=options.table,
        source=source_ports(proto, network),
        origin=_origin(proto),
        example_bytes=max(0, two.peak - one.peak),
    )
    files[MANIFEST] = manifest.to_json().encode()
    # What a board would refuse, or cannot run, must not leave the compiler.
    opened = open_packed(pack_bundle(files))
    rng = np.random.Generator(np.random.PCG64(_SEED))
    tell("running two examples")
    tried(opened.graphs, opened.theta, manifest, rng)
    return Bundle(manifest, files, opened, network, factors)


def _origin(proto: onnx.ModelProto) -> str:
    """Origin of the frozen weights, as the model's own metadata state it."""
    found = [item.value for item in proto.metadata_props if item.key == ORIGIN]
    return found[0] if found else ""


def started_from(bundle: Bundle, theta: NDArray[np.float32]) -> Bundle:
    """The same bundle with other initial parameters: a warm start.

    Args:
      bundle: A compiled model.
      theta: (d,) float32, finite.

    Raises:
      ConfigError: If it is not of the bundle's length, or not finite.
    """
    dimension = bundle.manifest.dimension
    if theta.shape != (dimension,) or not np.isfinite(theta).all():
        raise ConfigError(
            f"{theta.size} values; the model trains {dimension}, all of them finite",
            key="--start",
        )
    # The manifest names files by digest, so that other parameters make another bundle.
    files = {**bundle.files, THETA: vector_file(theta.astype(np.float32))}
    digests = {**bundle.manifest.digests, THETA: H(files[THETA])}
    manifest = replace(bundle.manifest, digests=digests)
    files[MANIFEST] = manifest.to_json().encode()
    opened = replace(bundle.opened, manifest=manifest, theta=theta.astype(np.float32))
    return replace(bundle, manifest=manifest, files=files, opened=opened)


def write_bundle(bundle: Bundle, folder: Path) -> None:
    """Writes a bundle as a folder, all of it or nothing.

    Args:
      bundle: To write.
      folder: Made by this call; replaced if it holds an earlier bundle.

    Raises:
      ConfigError: If the folder holds anything else, or cannot be written.
    """
    try:
        # A mistyped --out must not cost a folder of somebody's files.
        if folder.exists() and not {p.name for p in folder.iterdir()} <= {
            *bundle.files
        }:
            raise ConfigError("holds other files than a bundle's", file=str(folder))
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{folder.name}-", dir=folder.parent
        ) as scratch:
            # The folder of before is moved in here as well, and goes with it at the
            # end.
            fresh, former = Path(scratch) / "fresh", Path(scratch) / "former"
            fresh.mkdir()
            for name, content in bundle.files.items():
                (fresh / name).write_bytes(content)
            if folder.exists():
                folder.rename(former)
            fresh.rename(folder)
    except OSError as error:
        detail = error.strerror or "cannot be written"
        raise ConfigError(detail, file=str(folder)) from error


def _graphs(
    network: Network, criterion: Loss, clipping: str
) -> tuple[dict[str, bytes], dict[str, GradientFactors]]:
    if clipping not in CLIPPINGS:
        raise ConfigError(f"{clipping!r} is not known", key="--clipping")
    private, factors = private_graph(network, criterion, clipping)
    return {
        INFER: infer_graph(network),
        EVALUATE: evaluate_graph(network, criterion),
        GRADIENT: gradient_graph(network, criterion),
        PRIVATE_GRADIENT: private,
    }, factors


def _scored(network: Network, classes: Sequence[str]) -> TensorSpec:
    """The output, which has a value for each class if these are named."""
    row = _row(network, network.output)
    if classes and len(classes) != math.prod(row):
        raise ConfigError(f"the model has {math.prod(row)} outputs", key="--classes")
    return TensorSpec(row, "float32")


def _theta(network: Network) -> bytes:
    flat = [array.reshape(-1) for array in network.parameters.values()]
    return vector_file(np.concatenate(flat).astype(np.float32))


def _parameters(network: Network, local: Sequence[str]) -> tuple[ModelParameter, ...]:
    rows = []
    offset = 0
    kept = set(matching(list(network.parameters), local, "--local"))
    for name, array in network.parameters.items():
        rows.append(ModelParameter(name, array.shape, offset, True, name in kept))
        offset += array.size
    for name in network.frozen:
        shape = network.constants[name].shape
        rows.append(ModelParameter(name, shape, None, trainable=False))
    return tuple(rows)


def _row(network: Network, name: str) -> tuple[int, ...]:
    return tuple([size for size in network.shapes[name] if size is not None])
