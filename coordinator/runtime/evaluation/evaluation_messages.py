"""Messages between a coordinator and its evaluation process.

The coordinator sends the held-out data once, then one `EvaluationRequest` after the
other; each is answered by an `EvaluationResult`. Every frame is led by its length in 8
bytes.
"""

import math
import struct
from typing import IO, Annotated

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
OUTCOME_BYTES_MAX = 4096
_LENGTH = struct.Struct("<Q")
_REAL = struct.Struct("<d")


class EvaluationError(OperationError):
    """A version could not be tried."""


class EvaluationRequest(Structure, frozen=True):
    """A version to be tried.

    Attributes:
      bundle: Packed; empty if it is the one of the trial before.
      theta: (d,) little-endian float32.
    """

    bundle: Annotated[bytes, binary(BUNDLE_BYTES_MAX)]
    theta: Annotated[bytes, binary(4 * DIMENSION_MAX)]


TRIAL = structure(EvaluationRequest, BUNDLE_BYTES_MAX + 4 * DIMENSION_MAX + 64)


class EvaluationResult(Structure, frozen=True):
    """Result of an evaluation.

    Attributes:
      detail: Why it failed; empty if it did not.
      accuracy: The share that was right, as a float64; empty without classes.
      loss: The mean, as a float64; empty if it failed.
    """

    detail: Annotated[str, text(4 * DETAIL_CHARS_MAX)]
    accuracy: Annotated[bytes, binary(_REAL.size)]
    loss: Annotated[bytes, binary(_REAL.size)]


OUTCOME = structure(EvaluationResult, OUTCOME_BYTES_MAX)


def failed(detail: str) -> EvaluationResult:
    """The outcome of a trial that failed."""
    line = "".join(c if c.isprintable() else " " for c in detail)
    return EvaluationResult(line[:DETAIL_CHARS_MAX] or "failed", b"", b"")


def passed(accuracy: float | None, loss: float) -> EvaluationResult:
    """The outcome of a trial that did not fail."""
    share = b"" if accuracy is None else _REAL.pack(accuracy)
    return EvaluationResult("", share, _REAL.pack(loss))


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
