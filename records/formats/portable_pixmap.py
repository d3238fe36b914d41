"""PGM and PPM pictures (P5, P6): the one format that needs no library.

Source: Netpbm, pgm(5) and ppm(5).
"""

import re

import numpy as np
from numpy.typing import NDArray

from starling.records.errors import DataError

_NUMBER = rb"(\d{1,9})\s"
_HEAD = re.compile(rb"(P[56])\s+(?:#[^\n]*\n\s*)*" + rb"\s*".join([_NUMBER] * 3))
SUFFIXES = (".pgm", ".ppm")


def read_pixmap(content: bytes, file: str) -> NDArray[np.uint8]:
    """Reads one picture.

    Returns:
      (channels, height, width) uint8; 1 channel for grey, 3 for colours.

    Raises:
      DataError: If it is no such picture of 8 bits, or is cut short.
    """
    head = _HEAD.match(content)
    if head is None:
        raise DataError("is no PGM or PPM picture (P5, P6)", file=file)
    width, height, most = (int(head[place]) for place in (2, 3, 4))
    if most != 255:
        raise DataError(f"has values up to {most}: convert it to 255", file=file)
    channels = 1 if head[1] == b"P5" else 3
    body = content[head.end() :]
    # Before anything is made: the head may claim any size.
    if len(body) < width * height * channels or not width * height:
        raise DataError("is cut short: copy it anew", file=file)
    pixels = np.frombuffer(body, np.uint8, width * height * channels)
    return pixels.reshape(height, width, channels).transpose(2, 0, 1)
