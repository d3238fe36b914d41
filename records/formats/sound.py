"""WAV files, by the standard library: whole numbers of 8 or 16 bits.

Letters: `c` channels, `s` samples.
"""

import io
import wave

import numpy as np
from numpy.typing import NDArray

from starling.records.errors import DataError

SUFFIXES = (".wav",)
SCALE = 1.0 / 32768.0
"""From samples of 16 bits to [-1, 1]; those of 8 bits are widened first."""


def read_wav(content: bytes, file: str) -> tuple[NDArray[np.int16], int]:
    """Reads one file.

    Returns:
      (c, s) int16, and samples a second.

    Raises:
      DataError: If it is no such file, is cut short or holds other samples.
    """
    try:
        with wave.open(io.BytesIO(content)) as sound:
            channels, width = sound.getnchannels(), sound.getsampwidth()
            rate, expected = sound.getframerate(), sound.getnframes()
            frames = sound.readframes(expected)
    except (wave.Error, EOFError) as error:
        # The form that the file names stands there in words that tell no way out.
        if str(error).startswith("unknown format"):
            detail = "samples that are no plain whole numbers: convert it, as sox -b "
            raise DataError(f"{detail}16 -e signed-integer does", file=file) from error
        raise DataError(
            f"is no WAV file: {str(error) or 'it ends at once'}; convert it, or take "
            "it away",
            file=file,
        ) from error
    if width not in (1, 2):
        raise DataError(
            f"samples of {8 * width} bits: convert it to 16, as sox -b 16 does",
            file=file,
        )
    if not expected:
        raise DataError("holds no sample: record it anew", file=file)
    # The wave module gives what there is of a file that is cut short, without a word.
    found = len(frames) // (channels * width)
    if found < expected:
        raise DataError(
            f"is cut short: {found:,} of {expected:,} samples; copy it anew", file=file
        )
    if width == 2:
        samples = np.frombuffer(frames, "<i2")
    else:
        # WAV has samples of 8 bits unsigned, around 128.
        samples = (np.frombuffer(frames, np.uint8).astype(np.int16) - 128) * 256
    return samples.reshape(-1, channels).T.astype(np.int16), rate
