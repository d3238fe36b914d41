"""The engines that run a bundle's graphs, and the door to them."""

from collections.abc import Callable, Mapping
from pathlib import Path

from starling.agent.trainer.engines.onnxruntime_engine import OrtTrainer
from starling.agent.trainer.engines.ort_training_engine import OrtTrainingTrainer
from starling.agent.training.training_inputs import Trainer
from starling.durable.files import read_limited
from starling.engine.opened_bundle import OpenedBundle, open_packed
from starling.protocol.errors import ConfigError
from starling.protocol.model.training_bundle import (
    BUNDLE_BYTES_MAX,
    CONTENT_FILES,
    FILE_BYTES_MAX,
    MANIFEST,
    pack_bundle,
)

Engine = Callable[[OpenedBundle, int], Trainer]
"""From a bundle and the threads of one graph."""

ENGINES: Mapping[str, Engine] = {"ort": OrtTrainer, "ort-training": OrtTrainingTrainer}
"""Every engine by name; the first is on every board."""


def open_trainer(
    source: Path | bytes, threads: int = 1, engine: str = "ort"
) -> Trainer:
    """Opens a training bundle.

    Args:
      source: A bundle's folder, its packed file, or its packed bytes.
      threads: That one graph may use.
      engine: One of `ENGINES`.

    Returns:
      The bundle's graphs as functions.

    Raises:
      ConfigError: If there is no such engine.
      DecodeError, LimitError, NonFinite: If it is no bundle, or holds graphs or
        parameters that a board refuses.
      EngineError: If the engine cannot run it.
      StorageError: If it cannot be read.
    """
    if engine not in ENGINES:
        raise ConfigError(f"{engine!r} is none of {', '.join(ENGINES)}", key="engine")
    if isinstance(source, Path):
        source = _packed(source)
    # A folder goes the way of a packed bundle, so that both are checked alike.
    return ENGINES[engine](open_packed(source), threads)


def _packed(path: Path) -> bytes:
    if not path.is_dir():
        return read_limited(path, BUNDLE_BYTES_MAX)
    names = (*CONTENT_FILES, MANIFEST)
    return pack_bundle(
        {name: read_limited(path / name, FILE_BYTES_MAX) for name in names}
    )
