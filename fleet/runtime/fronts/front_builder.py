"""Makes the fronts of the catalog, and keeps those that take minutes.

A kept front is named by a hash of everything that it was made from: sizes, seed, the
bytes of fonts or skeletons, and the edition of this code. It lies in
`$XDG_CACHE_HOME/starling/fronts`, or below `~/.cache`.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
from google.protobuf import message  # type: ignore[import-untyped] # ships no types
from numpy.typing import NDArray

from starling.durable.files import (
    is_there,
    read_limited,
    storage_errors,
    write_atomic,
)
from starling.fleet.fronts.drawn_digits import Pictures, drawn
from starling.fleet.fronts.front_catalog import (
    FONTS,
    ORIENTATION,
    PEN,
    WHITENED,
    Front,
    front_named,
)
from starling.fleet.fronts.head_model import is_front, with_metadata
from starling.fleet.fronts.orientation_features import (
    FEATURES,
    add_orientations,
    add_unit_length,
)
from starling.fleet.fronts.pen_strokes import parse_skeletons, penned
from starling.fleet.fronts.picture_frame import (
    CLASSES,
    SIDE,
    digit_glyphs,
    framed_digits,
)
from starling.fleet.fronts.whitening import Whitening, add_whitening, whitening_of
from starling.fleet.onnx_layers import ModelLayers
from starling.fleet.reference_models import build_model
from starling.fleet.runtime.dataset_catalog import public_digits
from starling.fleet.runtime.fronts.front_features import features_of
from starling.fleet.runtime.fronts.front_training import (
    FrontNetwork,
    Say,
    trained_front,
    trained_start,
)
from starling.fleet.runtime.fronts.glyph_renderer import GLYPH_SIDE, glyphs, own_fonts
from starling.protocol.errors import ConfigError, StorageError

SUFFIX = ".onnx"
_PICTURE = (1, SIDE, SIDE)
_KEEP, _POWER, _RIDGE = 60, 0.25, 0.3
_FILE_BYTES_MAX = 64 << 20
_DRAWN_AT_ONCE = 2000
SKELETONS = Path(__file__).parents[2] / "fronts" / "digit_skeletons.txt"
"""How digits are written, installed with the package."""
_EDITION = 2
"""Of how pictures are drawn and networks trained: another one makes other fronts."""
TRAINED = {
    FONTS: FrontNetwork(glyphs=20_000, digits=30_000),
    PEN: FrontNetwork(penned=80_000),
}
"""Sizes of the catalog's fronts that are trained."""


def open_front(name: str, say: Say) -> onnx.ModelProto:
    """A front of the catalog, or of a file.

    Args:
      name: One of `FRONTS`, or a file of `starling fronts build`.
      say: Told what takes long.

    Raises:
      ConfigError: If there is no such front, or the file is none.
      StorageError: If what is kept cannot be read or written.
    """
    if name.endswith(SUFFIX):
        return _read(Path(name))
    front = front_named(name)
    if not front.trained:
        return build_front(front, say)
    network = TRAINED[name]
    fonts = own_fonts() if network.glyphs else ()
    # By what it is made of: another font or size is another front, and none is ever
    # stale.
    kept = _cache() / f"{name}-{_digest(network, fonts)[:16]}{SUFFIX}"
    if is_there(kept):
        return _read(kept)
    # Refused before minutes go by.
    with storage_errors(kept.parent):
        kept.parent.mkdir(parents=True, exist_ok=True)
    say(f"the front {name} is trained once, which takes minutes; kept as {kept}")
    made = build_front(front, say, network=network, fonts=fonts)
    write_atomic(kept, made.SerializeToString(deterministic=True))
    return made


def build_front(
    front: Front,
    say: Say,
    *,
    network: FrontNetwork | None = None,
    fonts: Sequence[Path] = (),
) -> onnx.ModelProto:
    """Makes a front.

    Args:
      front: Of the catalog.
      say: Told what takes long.
      network: Sizes of a trained front; the catalog's by default.
      fonts: That a trained front is drawn of; matplotlib's by default.
    """
    if front.name == ORIENTATION:
        return with_metadata(_orientation(None), front.name, front.origin)
    if front.name == WHITENED:
        seen = framed_digits(public_digits().x)[:, None]
        found = whitening_of(
            features_of(_orientation(None), seen), _KEEP, _POWER, _RIDGE
        )
        return with_metadata(_orientation(found), front.name, front.origin)
    sizes = network or TRAINED[front.name]
    return _trained(
        front, sizes, fonts, say, lambda x, y: trained_front(sizes, x, y, say)
    )


def build_start(
    front: Front,
    model: str,
    say: Say,
    *,
    network: FrontNetwork,
    fonts: Sequence[Path] = (),
) -> onnx.ModelProto:
    """Makes a reference model whose weights were trained on a front's pictures.

    Boards then train all of it, from there.

    Args:
      front: Of the catalog, a trained one.
      model: Of `fleet.reference_models.MODELS`.
      say: Told what takes long.
      network: How it is trained.
      fonts: As of `build_front`.

    Raises:
      ConfigError: If there is no such model.
    """
    # Refused before minutes go by.
    build_model(model, _PICTURE, CLASSES, np.random.default_rng(network.seed))
    return _trained(
        front,
        network,
        fonts,
        say,
        lambda x, y: trained_start(model, network, x, y, say),
    )


def _trained(
    front: Front,
    network: FrontNetwork,
    fonts: Sequence[Path],
    say: Say,
    train: Callable[[NDArray[np.float32], NDArray[np.int64]], onnx.ModelProto],
) -> onnx.ModelProto:
    """Trains on a front's pictures; the model says where it comes from."""
    if network.glyphs and not fonts:
        fonts = own_fonts()
    made = train(*_drawn_set(network, fonts, say))
    return with_metadata(made, front.name, _origin(front, network, fonts))


def _orientation(whitening: Whitening | None) -> onnx.ModelProto:
    layers = ModelLayers(np.random.default_rng(0))
    features, count = add_orientations(layers, "x"), FEATURES
    unit = add_unit_length(layers, features, "tiny")
    if whitening is not None:
        count = whitening.directions.shape[1]
        unit = add_unit_length(layers, add_whitening(layers, unit, whitening), "less")
    layers.linear("head", unit, (count, CLASSES))
    return layers.model("front", _PICTURE, CLASSES)


def _drawn_set(
    network: FrontNetwork, fonts: Sequence[Path], say: Say
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Pictures (n, 1, 28, 28) and their digits (n,): by pen, of fonts, of UCI's."""
    rng = np.random.default_rng((network.seed, 1))
    parts: list[tuple[Pictures, NDArray[np.int64]]] = []
    if network.penned:
        say(f"drawing {network.penned:,} pictures with a pen")
        skeletons = parse_skeletons(SKELETONS.read_text())
        parts.append(penned(skeletons, network.penned, rng))
    if network.glyphs:
        say(f"drawing {network.glyphs:,} pictures of {len(fonts)} fonts")
        made = glyphs(fonts)
        digits = np.arange(len(made)) % CLASSES
        parts += _distorted(network, (made, digits), network.glyphs, rng, strokes=True)
    if network.digits:
        seen = public_digits()
        made = digit_glyphs(seen.x, GLYPH_SIDE)
        parts += _distorted(network, (made, seen.y), network.digits, rng, strokes=False)
    pictures, labels = zip(*parts, strict=True)
    return np.concatenate(pictures)[:, None], np.concatenate(labels).astype(np.int64)


def _distorted(
    network: FrontNetwork,
    sources: tuple[Pictures, NDArray[np.int64]],
    count: int,
    rng: np.random.Generator,
    *,
    strokes: bool,
) -> Iterator[tuple[Pictures, NDArray[np.int64]]]:
    """So many of `sources`, a part at a time."""
    pictures, digits = sources
    for start in range(0, count, _DRAWN_AT_ONCE):
        size = min(_DRAWN_AT_ONCE, count - start)
        chosen = rng.integers(0, len(pictures), size)
        made = drawn(pictures[chosen], rng, network.bend, strokes=strokes)
        yield made, digits[chosen]


def _origin(front: Front, network: FrontNetwork, fonts: Sequence[Path]) -> str:
    of = []
    if network.penned:
        of.append(f"{network.penned:,} pictures by pen")
    if network.glyphs:
        families = sorted({path.stem.split("-")[0] for path in fonts})
        shown = ", ".join(families[:12]) + (", ..." if len(families) > 12 else "")
        of.append(f"{network.glyphs:,} pictures of {len(fonts)} fonts ({shown})")
    if network.digits:
        of.append(f"{network.digits:,} of UCI's digits")
    recipe = _digest(network, fonts)[:16]
    return f"{front.origin}: {' and '.join(of)}, seed {network.seed}, recipe {recipe}"


def _digest(network: FrontNetwork, fonts: Sequence[Path]) -> str:
    """Hash of what a trained front is made from."""
    files = [*fonts, SKELETONS] if network.penned else fonts
    content = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    recipe = json.dumps([_EDITION, asdict(network), sorted(content)])
    return hashlib.sha256(recipe.encode()).hexdigest()


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "starling" / "fronts"


def _read(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load_model_from_string(read_limited(path, _FILE_BYTES_MAX))
    except StorageError as error:
        raise ConfigError(str(error), key="--front") from error
    except message.DecodeError as error:
        raise ConfigError("is no ONNX model", file=str(path), key="--front") from error
    if not is_front(model):
        raise ConfigError(
            "is no file of `starling fronts build`: it has no head.weight; an ordinary "
            "model goes with --model FILE --train PATTERN",
            file=str(path),
            key="--front",
        )
    return model
