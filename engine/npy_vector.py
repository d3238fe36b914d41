"""Reads a vector of parameters from an .npy file, without numpy's own reader.

That one evaluates the header, believes the shape before it looks at the length, and
opens pickles and archives. Here the header is compared with the one that numpy writes
for a vector of that length, so that one array has one file.

Source: numpy/lib/format.py, format version 1.0.
"""

import numpy as np
from numpy.typing import NDArray

from starling.protocol.errors import DecodeError, LimitError, NonFinite
from starling.protocol.model.parameter_layout import DIMENSION_MAX

_MAGIC = b"\x93NUMPY\x01\x00"
_LENGTH_BYTES = 2
_ALIGNMENT = 64
_WIDTH = 4


def vector_file(values: NDArray[np.float32]) -> bytes:
    """The .npy file of a vector, (d,) float32."""
    assert values.ndim == 1
    return _header(len(values)) + values.astype("<f4").tobytes()


def read_vector(content: bytes, place: str) -> NDArray[np.float32]:
    """Reads what `vector_file` writes; so does `numpy.save`.

    Args:
      content: The file.
      place: Its name, for errors.

    Returns:
      (d,) float32 with d in [1, DIMENSION_MAX], all of them finite; not to be written
      to.

    Raises:
      LimitError: If it is longer than any vector.
      DecodeError: If it is anything but such a vector.
      NonFinite: If one of its values is no number.
    """
    most = len(_header(DIMENSION_MAX)) + _WIDTH * DIMENSION_MAX
    if len(content) > most:
        raise LimitError(f"{place}: {len(content)} bytes, {most} allowed")
    start = len(_MAGIC) + _LENGTH_BYTES
    head = start + int.from_bytes(content[len(_MAGIC) : start], "little")
    # From the length, and the header has to agree: what it claims sets nothing aside.
    count = (len(content) - head) // _WIDTH
    if count < 1 or content[:head] != _header(count):
        raise DecodeError(f"{place}: expected an .npy file of (d,) float32")
    if len(content) != head + _WIDTH * count:
        raise DecodeError(f"{place}: {len(content)} bytes for {count} values")
    values = np.frombuffer(content, "<f4", count, head).astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        raise NonFinite(f"{place}: a parameter is no number")
    return values


def _header(count: int) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({count},), }}"
    unpadded = len(_MAGIC) + _LENGTH_BYTES + len(text) + 1
    text += " " * (-unpadded % _ALIGNMENT) + "\n"
    return _MAGIC + len(text).to_bytes(_LENGTH_BYTES, "little") + text.encode()
