"""Pictures as arrays: PGM and PPM by ourselves, all others by Pillow."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starling.protocol.errors import ConfigError
from starling.records.errors import DataError
from starling.records.formats import portable_pixmap

SUFFIXES = (
    *portable_pixmap.SUFFIXES,
    ".png",
    ".jpg",
    ".jpeg",
    ".bmp",
    ".gif",
    ".tif",
    ".tiff",
    ".webp",
)
SCALE = 1.0 / 255.0
"""From the values of a pixel to [0, 1]."""
HEAD_BYTES_MAX = 1 << 16
"""Of a file whose length is known but for what stands before its values."""
_GREY = ("1", "L", "LA")
_DEEP = ("I", "F")
_DEEP_STARTS = ("I;", "RGB;", "F;")


def read_picture(
    path: Path, shown: str, wanted: Sequence[int] | None = None
) -> NDArray[np.uint8]:
    """Reads one picture.

    Args:
      path: The file.
      shown: As messages name it.
      wanted: Height and width; a picture of others is not decoded. None for any.

    Returns:
      (channels, height, width) uint8; 1 channel for grey, 3 for colours.

    Raises:
      DataError: If it is no picture, is cut short or of another size.
      ConfigError: If Pillow is needed and missing, or the file cannot be read.
    """
    if path.suffix.lower() in portable_pixmap.SUFFIXES:
        most = None if wanted is None else 3 * math.prod(wanted) + HEAD_BYTES_MAX
        return portable_pixmap.read_pixmap(file_start(path, most), shown)
    library = _pillow(path, shown)
    try:
        with warnings.catch_warnings():
            # Many pixels are refused below if they do not fit, and a bomb is an error.
            warnings.simplefilter("ignore", library.DecompressionBombWarning)
            picture = library.open(path)
        with picture:
            if wanted is not None and picture.size[::-1] != tuple(wanted):
                width, height = picture.size
                raise DataError(
                    f"{width} x {height} pixels, where the model takes {wanted[1]} x "
                    f"{wanted[0]}: bring it to that size",
                    file=shown,
                )
            mode = _mode_of(picture, shown)
            pixels = np.asarray(picture.convert(mode), np.uint8)
    # Pillow raises these, and SyntaxError, for bytes that are none of its formats.
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        detail = "is no picture, or is cut short: copy it anew"
        raise DataError(detail, file=shown) from error
    except library.DecompressionBombError as error:
        raise DataError("has too many pixels", file=shown) from error
    if mode == "L":
        return pixels[None]
    return pixels.transpose(2, 0, 1)


def _mode_of(picture: Any, shown: str) -> str:  # noqa: ANN401 - Pillow's own
    """As what its pixels are read, L or RGB.

    Raises:
      DataError: If that would lose what is in them.
    """
    # Pillow cuts such pixels off at 255 without a word.
    if picture.mode in _DEEP or picture.mode.startswith(_DEEP_STARTS):
        detail = (
            "pixels of more than 8 bits, which would be cut off: scale them to 0 to "
            "255 (16 bits: ImageMagick's -depth 8), or write arrays as .npz"
        )
        raise DataError(detail, file=shown)
    # Cameras put a preview behind a picture, as MPO.
    if getattr(picture, "n_frames", 1) > 1 and picture.format != "MPO":
        detail = f"{picture.n_frames} pictures in one: write each as a file of its own"
        raise DataError(detail, file=shown)
    return "L" if picture.mode in _GREY else "RGB"


def file_start(path: Path, most: int | None) -> bytes:
    """The first bytes of a file; all of them without a bound.

    Raises:
      ConfigError: If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(-1 if most is None else most)
    except OSError as error:
        detail = f"cannot be read: {error.strerror}"
        raise ConfigError(detail, file=str(path)) from error


def _pillow(path: Path, shown: str) -> ModuleType:
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{path.suffix} pictures need Pillow: pip install pillow; PGM and PPM "
            "files need nothing",
            file=shown,
        ) from error
    return Image
