"""Tries final versions on held-out data, in a thread of its own.

The only user of ONNX Runtime in this package; it runs the bundle's `evaluate.onnx`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from protocol.bundle import EVALUATE, Manifest, Preprocessing
from protocol.errors import ConfigError
from protocol.ids import Digest

LOSS_WITH_CLASSES = "cross-entropy"


@dataclass(frozen=True)
class HeldOut:
    """Examples that no board trains on.

    Attributes:
      x: (n, ...) raw values.
      y: (n,) int64 labels, or (n, ...) float32 targets.
    """

    x: NDArray[Any]
    y: NDArray[Any]


def load_held_out(path: Path) -> HeldOut:
    """Reads an .npz file with arrays x and y.

    Raises:
      ConfigError: If it is missing, holds something else, or has no example.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            held_out = HeldOut(arrays["x"], arrays["y"])
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise ConfigError(
            f"expected an .npz file with arrays x and y: {error}",
            file=str(path),
            key="evaluation.data",
        ) from error
    if not 0 < len(held_out.x) == len(held_out.y):
        raise ConfigError("x and y differ in length, or are empty", file=str(path))
    return held_out


class Evaluator:
    """Runs one bundle's evaluation graph; keeps the session of the last bundle."""

    def __init__(self, held_out: HeldOut, batch: int) -> None:
        """Takes the held-out data.

        Args:
          held_out: The examples.
          batch: How many are evaluated at once.
        """
        self._held_out = held_out
        self._batch = batch
        self._loaded: tuple[Digest, Any, Manifest] | None = None

    def load(self, bundle: Digest, files: dict[str, bytes], manifest: Manifest) -> None:
        """Prepares a bundle's graph, unless it is prepared already."""
        if self._loaded is not None and self._loaded[0] == bundle:
            return
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            files[EVALUATE], options, providers=["CPUExecutionProvider"]
        )
        self._loaded = (bundle, session, manifest)

    def evaluate(self, theta: NDArray[np.float32]) -> tuple[float | None, float]:
        """Accuracy, where the loss knows classes, and mean loss.

        Args:
          theta: (d,) float32 parameters.
        """
        assert self._loaded is not None
        _, session, manifest = self._loaded
        x, y = self._held_out.x, self._held_out.y
        classes = manifest.loss == LOSS_WITH_CLASSES
        loss_sum, right = 0.0, 0
        for start in range(0, len(x), self._batch):
            part = slice(start, start + self._batch)
            target = y[part].astype(manifest.target.dtype)
            raw = preprocess(x[part], manifest.preprocessing)
            feeds = {
                "theta": theta,
                "x": raw.astype(manifest.input.dtype).reshape(
                    (len(target), *manifest.input.shape)
                ),
                "y": target.reshape((len(target), *manifest.target.shape)),
            }
            loss, output = session.run(["loss", "output"], feeds)
            loss_sum += float(np.sum(loss, dtype=np.float64))
            right += int(np.sum(np.argmax(output, -1) == target)) if classes else 0
        count = len(x)
        return (right / count if classes else None), loss_sum / count


def preprocess(raw: NDArray[Any], law: Preprocessing) -> NDArray[np.float32]:
    """What the bundle says that a board does to raw values: scale, then shift.

    Args:
      raw: (n, ...) values.
      law: One scale and offset for all, or one for each entry of an example's first
        axis.
    """
    scale = np.asarray(law.scale, np.float32)
    offset = np.asarray(law.offset, np.float32)
    if scale.size > 1:
        shape = (1, scale.size, *(1,) * (raw.ndim - 2))
        scale, offset = scale.reshape(shape), offset.reshape(shape)
    return raw.astype(np.float32) * scale + offset
