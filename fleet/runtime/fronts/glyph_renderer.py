"""The ten digits of each font, as pictures; by the renderer that matplotlib brings."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.ft2font import FT2Font
from numpy.typing import NDArray

from starling.protocol.errors import ConfigError

DIGITS = "0123456789"
GLYPH_SIDE = 48
"""Pixels of a glyph's picture."""
_POINTS, _DOTS_PER_INCH = 32, 72
_PATTERNS = (
    "DejaVuSans*.ttf",
    "DejaVuSerif*.ttf",
    "STIXGeneral*.ttf",
    *(f"cm{shape}10.ttf" for shape in ("b", "r", "ss", "ti", "tt")),
)
"""Of matplotlib's own fonts, those of letters and digits."""
_SUFFIXES = (".ttf", ".otf")
_FONTS_MAX = 400


def own_fonts() -> list[Path]:
    """The fonts that come with matplotlib, by name; those without digits are left."""
    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    found = {path for pattern in _PATTERNS for path in folder.glob(pattern)}
    return [path for path in sorted(found) if _opened(path) is not None]


def fonts_below(folder: Path) -> list[Path]:
    """All fonts below a folder that have ten digits, by path.

    Raises:
      ConfigError: If there is none.
    """
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in _SUFFIXES and _opened(path) is not None
    ]
    if not found:
        raise ConfigError(
            f"holds no {' or '.join(_SUFFIXES)} file with ten digits",
            file=str(folder),
            key="--fonts",
        )
    return found[:_FONTS_MAX]


def glyphs(fonts: Sequence[Path]) -> NDArray[np.float32]:
    """Renders the digits.

    Args:
      fonts: Of `own_fonts` or `fonts_below`.

    Returns:
      (10 * fonts, 48, 48) float32 in [0, 1]: the digits 0 to 9 of each font in turn.
    """
    pictures = []
    for path in fonts:
        font = _opened(path)
        assert font is not None
        pictures += [_glyph(font, digit) for digit in DIGITS]
    return np.stack(pictures)


def _opened(path: Path) -> FT2Font | None:
    """The font; None if it has not ten different digits, or is none."""
    try:
        font = FT2Font(str(path))
        indices = {font.get_char_index(ord(digit)) for digit in DIGITS}
    except (OSError, RuntimeError, ValueError):
        return None
    # Place 0 is the box of a missing character, and symbols may show one picture for
    # all.
    if 0 in indices or len(indices) < len(DIGITS):
        return None
    font.set_size(_POINTS, _DOTS_PER_INCH)
    return font


def _glyph(font: FT2Font, digit: str) -> NDArray[np.float32]:
    font.set_text(digit, 0.0)
    font.draw_glyphs_to_bitmap(antialiased=True)
    ink = np.asarray(font.get_image(), np.float32)[:GLYPH_SIDE, :GLYPH_SIDE] / 255
    framed = np.zeros((GLYPH_SIDE, GLYPH_SIDE), np.float32)
    top, left = [(GLYPH_SIDE - size) // 2 for size in ink.shape]
    framed[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return framed
