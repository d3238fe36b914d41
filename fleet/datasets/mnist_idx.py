"""The IDX format of the MNIST files.

Source: "The MNIST database of handwritten digits", section FILE FORMATS: two zero
bytes, a kind, the number of dimensions, each dimension as a big-endian 32 bit number,
then the values.
"""

import math
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from starling.protocol.errors import ConfigError

_UNSIGNED_BYTE = 8
_GZIP_MAGIC = b"\x1f\x8b"
IDX_BYTES_MAX = 256 << 20


def read_idx(content: bytes, file: str) -> NDArray[np.uint8]:
    """Reads one IDX file of unsigned bytes, gzipped or not.

    Args:
      content: The file's bytes.
      file: Its name, for messages.

    Raises:
      ConfigError: Naming the file, if it is not such a file or is cut short.
    """
    raw = _inflate(content, file) if content[:2] == _GZIP_MAGIC else content
    if len(raw) < 4 or raw[:3] != bytes((0, 0, _UNSIGNED_BYTE)) or not raw[3]:
        raise ConfigError("not an IDX file of unsigned bytes", file=file)
    rank = raw[3]
    start = 4 + 4 * rank
    if len(raw) < start:
        raise ConfigError("cut short in its header", file=file)
    shape = struct.unpack(f">{rank}I", raw[4:start])
    # Before anything is shaped: what a header announces sets nothing aside.
    if len(raw) - start != math.prod(shape):
        raise ConfigError(
            f"holds {len(raw) - start} values where {shape} were announced", file=file
        )
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def _inflate(content: bytes, file: str) -> bytes:
    inflater = zlib.decompressobj(wbits=31)
    try:
        raw = inflater.decompress(content, IDX_BYTES_MAX)
    except zlib.error as error:
        raise ConfigError(f"damaged gzip: {error}", file=file) from error
    if not inflater.eof:
        raise ConfigError("gzip cut short, or too large", file=file)
    return raw
