"""The board's own parameters on disk, beside the bundle that they belong to.

Either those that stay on the board of a model whose others are the fleet's
(`personal_layers`), or a whole model of its own (`local_descent.personal_steps`).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from starling.agent.training.personal_layers import merged
from starling.durable.files import read_if_present
from starling.protocol.errors import LimitError
from starling.protocol.model.parameter_layout import local_slices
from starling.protocol.model.training_bundle import BundleManifest

_VALUE_BYTES = 4


def with_head(
    file: Path, theta: NDArray[np.float32], manifest: BundleManifest
) -> NDArray[np.float32]:
    """The fleet's parameters with the board's own, if it has any.

    Args:
      file: Of the bundle; need not exist.
      theta: (d,) float32.
      manifest: The bundle's.

    Returns:
      (d,) float32. A file that does not fit the bundle counts as none, so that the
      board starts from the bundle's own values.

    Raises:
      StorageError: If the disk refuses.
    """
    return _with_own(file, theta, local_slices(manifest.parameters))


def personal_model(file: Path, theta: NDArray[np.float32]) -> NDArray[np.float32]:
    """The board's own model, if it has one.

    Args:
      file: Of the bundle; need not exist.
      theta: (d,) float32, the fleet's: what the own model begins as.

    Returns:
      (d,) float32. A file that does not fit counts as none.

    Raises:
      StorageError: If the disk refuses.
    """
    return _with_own(file, theta, [slice(0, theta.size)])


def _with_own(
    file: Path, theta: NDArray[np.float32], places: Sequence[slice]
) -> NDArray[np.float32]:
    if not places:
        return theta
    try:
        content = read_if_present(file, _VALUE_BYTES * theta.size)
    except LimitError:
        return theta
    if content is None or len(content) % _VALUE_BYTES:
        return theta
    # A training that diverged must not spoil all that follow.
    own = np.frombuffer(content, "<f4").astype(np.float32)
    return merged(theta, own if np.isfinite(own).all() else None, places)


def head_bytes(own: NDArray[np.float32]) -> bytes:
    """The form in which (k,) float32 parameters of the board's own are kept."""
    return own.astype("<f4").tobytes()
