"""Messages between a coordinator and its evaluation process.

The coordinator sends the held-out data once, then one `EvaluationRequest` after the
other; each is answered by an `EvaluationResult`. Every frame is led by its length in 8
bytes.
"""

import math
import struct
from typing import IO, Annotated

import numpy as np

from starling.coordinator.aggregation.contribution_scores import (
    STRATA_VALUES_MAX,
    RootGradients,
)
from starling.protocol.errors import DecodeError, OperationError
from starling.protocol.model.parameter_layout import DIMENSION_MAX
from starling.protocol.model.training_bundle import BUNDLE_BYTES_MAX
from starling.protocol.schema.msgpack_codec import (
    Structure,
    binary,
    structure,
    text,
)

DETAIL_CHARS_MAX = 500
_MEANS_BYTES_MAX = 4 * max(STRATA_VALUES_MAX, DIMENSION_MAX)
OUTCOME_BYTES_MAX = 8192 + _MEANS_BYTES_MAX + 4 * DIMENSION_MAX
_LENGTH = struct.Struct("<Q")
_REAL = struct.Struct("<d")


class EvaluationError(OperationError):
    """A version could not be tried."""


class EvaluationRequest(Structure, frozen=True):
    """A version to be tried.

    Attributes:
      bundle: Packed; empty if it is the one of the trial before.
      theta: (d,) little-endian float32.
      gradients: Whether the gradients of its loss are asked for, and not its loss.
    """

    bundle: Annotated[bytes, binary(BUNDLE_BYTES_MAX)]
    theta: Annotated[bytes, binary(4 * DIMENSION_MAX)]
    gradients: bool = False


TRIAL = structure(EvaluationRequest, BUNDLE_BYTES_MAX + 4 * DIMENSION_MAX + 64)


class EvaluationResult(Structure, frozen=True):
    """Result of an evaluation.

    Attributes:
      detail: Why it failed; empty if it did not.
      accuracy: The share that was right, as a float64; empty without classes.
      loss: The mean, as a float64; empty if it failed, or gradients were asked for.
      means: Of `RootGradients`, (c, d) float32; empty unless asked for, as the next.
      contrast: Of `RootGradients`, (d,) float32.
    """

    detail: Annotated[str, text(4 * DETAIL_CHARS_MAX)]
    accuracy: Annotated[bytes, binary(_REAL.size)]
    loss: Annotated[bytes, binary(_REAL.size)]
    means: Annotated[bytes, binary(_MEANS_BYTES_MAX)] = b""
    contrast: Annotated[bytes, binary(4 * DIMENSION_MAX)] = b""


OUTCOME = structure(EvaluationResult, OUTCOME_BYTES_MAX)


def failed(detail: str) -> EvaluationResult:
    """The outcome of a trial that failed."""
    # It ends up in the log and in a status.
    line = "".join(c if c.isprintable() else " " for c in detail)
    return EvaluationResult(line[:DETAIL_CHARS_MAX] or "failed", b"", b"")


def passed(accuracy: float | None, loss: float) -> EvaluationResult:
    """The outcome of a trial that did not fail."""
    share = b"" if accuracy is None else _REAL.pack(accuracy)
    return EvaluationResult("", share, _REAL.pack(loss))


def differentiated(found: RootGradients) -> EvaluationResult:
    """The outcome of a trial that was asked for gradients."""
    packed = [part.astype("<f4").tobytes() for part in (found.means, found.contrast)]
    return EvaluationResult("", b"", b"", *packed)


def root_gradients(outcome: EvaluationResult, dimension: int) -> RootGradients:
    """Gradients, if they were asked for.

    Args:
      outcome: What the process answered.
      dimension: d.

    Raises:
      EvaluationError: If the trial failed, or says what cannot be.
    """
    if outcome.detail:
        raise EvaluationError(outcome.detail)
    if not outcome.means:
        raise EvaluationError("an outcome without gradients")
    row = 4 * dimension
    if len(outcome.means) % row or len(outcome.contrast) != row:
        raise EvaluationError("gradients of another length")
    means, contrast = [
        np.frombuffer(part, "<f4").astype(np.float64)
        for part in (outcome.means, outcome.contrast)
    ]
    if not (np.isfinite(means).all() and np.isfinite(contrast).all()):
        raise EvaluationError("a gradient is no number")
    return RootGradients(means.reshape(-1, dimension), contrast)


def metrics(outcome: EvaluationResult) -> tuple[float | None, float]:
    """Accuracy, where there is one, and loss.

    Raises:
      EvaluationError: If the trial failed, or says what cannot be.
    """
    if outcome.detail:
        raise EvaluationError(outcome.detail)
    loss = _real(outcome.loss)
    accuracy = _real(outcome.accuracy) if outcome.accuracy else None
    if accuracy is not None and not 0.0 <= accuracy <= 1.0:
        raise EvaluationError(f"an accuracy of {accuracy}")
    return accuracy, loss


def _real(content: bytes) -> float:
    if len(content) != _REAL.size:
        raise EvaluationError("an outcome without a loss")
    (value,) = _REAL.unpack(content)
    # A NaN compares with nothing: no version could be ranked beside it.
    if not math.isfinite(value):
        raise EvaluationError("the loss is no number")
    return float(value)


def write_frame(sink: IO[bytes], payload: bytes) -> None:
    """Sends one frame.

    Raises:
      OSError: If the other side is gone.
    """
    sink.write(_LENGTH.pack(len(payload)))
    sink.write(payload)
    sink.flush()


def read_frame(source: IO[bytes], bytes_max: int) -> bytes | None:
    """Receives one frame; None if the other side is gone.

    Raises:
      DecodeError: If it is longer than `bytes_max`.
    """
    head = source.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > bytes_max:
        raise DecodeError(f"a frame of {length} bytes")
    payload = source.read(length)
    return payload if len(payload) == length else None
