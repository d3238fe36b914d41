"""Pictures as arrays: PGM and PPM by ourselves, all others by Pillow."""

from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from starling.protocol.errors import ConfigError
from starling.records import portable_pixmap
from starling.records.errors import DataError

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
_GREY = ("1", "L", "LA")


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Reads one picture.

    Returns:
      (channels, height, width) uint8; 1 channel for grey, 3 for colours.

    Raises:
      DataError: If it is no picture or is cut short.
      ConfigError: If Pillow is needed and missing, or the file cannot be read.
    """
    if path.suffix.lower() in portable_pixmap.SUFFIXES:
        try:
            content = path.read_bytes()
        except OSError as error:
            detail = f"cannot be read: {error.strerror}"
            raise ConfigError(detail, file=str(path)) from error
        return portable_pixmap.read_pixmap(content, str(path))
    library = _pillow(path)
    try:
        with library.open(path) as picture:
            mode = "L" if picture.mode in _GREY else "RGB"
            pixels = np.asarray(picture.convert(mode), np.uint8)
    # Pillow raises these, and SyntaxError, for bytes that are none of its formats.
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise DataError(
            "is no picture, or is cut short: copy it anew", file=str(path)
        ) from error
    except library.DecompressionBombError as error:
        raise DataError("has too many pixels", file=str(path)) from error
    if mode == "L":
        return pixels[None]
    return pixels.transpose(2, 0, 1)


def _pillow(path: Path) -> ModuleType:
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{path.suffix} pictures need Pillow: pip install pillow; PGM and PPM "
            "files need nothing",
            file=str(path),
        ) from error
    return Image
