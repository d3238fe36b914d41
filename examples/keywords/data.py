"""Makes spoken words as WAV files: `python -m examples.keywords.data DIR`.

Writes speakers/NAME/WORD/NUMBER.wav, half a second each, 8 kHz, 16 bits. A word is two
vowels that glide into each other, and hiss where there is a fricative: a pulse of the
speaker's pitch through two resonances, which is how vowels come about. To learn from
real speech, put your own files there in the same order.

Source of the vowels' formants: Peterson and Barney 1952, table II.
"""

import sys
import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SEED = 1
SPEAKERS, TAKES = 10, 15
RATE_HZ, SAMPLES = 8000, 4000
_VOWELS = {"i": (270, 2290), "a": (730, 1090), "u": (300, 870), "e": (530, 1840)}
WORDS = {"go": "au", "left": "ei", "stop": "sua", "yes": "ies"}
"""By word its sounds; `s` is hiss."""


def resonance(
    signal: NDArray[np.float64], hertz: NDArray[np.float64], width_hz: float
) -> NDArray[np.float64]:
    """A resonance whose frequency (n,) may move; signal and result are (n,)."""
    radius = np.exp(-np.pi * width_hz / RATE_HZ)
    turn = 2 * radius * np.cos(2 * np.pi * hertz / RATE_HZ)
    found = np.zeros(len(signal) + 2)
    for place, value in enumerate(signal):
        earlier = turn[place] * found[place + 1] - radius**2 * found[place]
        found[place + 2] = (1 - radius) * value + earlier
    return found[2:]


def spoken(word: str, pitch_hz: float, size: float, rng: np.random.Generator) -> bytes:
    """A word as 16-bit samples.

    Args:
      word: Of `WORDS`.
      pitch_hz: Of the speaker's voice.
      size: Of the speaker's head: formants are lower by it.
      rng: Draws how it is said this time.
    """
    sounds = WORDS[word]
    time_s = np.arange(SAMPLES) / RATE_HZ
    middles = np.linspace(0.12, 0.38, len(sounds)) + rng.normal(0, 0.015)
    voiced = [name for name in sounds if name != "s"]
    places = [middles[place] for place, name in enumerate(sounds) if name != "s"]
    pitch = pitch_hz * rng.normal(1, 0.05) * (1 - 0.3 * time_s)
    pulses = np.diff(np.floor(np.cumsum(pitch) / RATE_HZ), prepend=0.0)
    source = pulses * 8 + rng.normal(0, 0.02, SAMPLES)
    total = source
    for formant, width_hz in enumerate((90.0, 120.0)):
        goals = [_VOWELS[name][formant] / size for name in voiced]
        total = resonance(total, np.interp(time_s, places, goals), width_hz)
    total *= np.exp(-(((time_s - np.mean(places)) / 0.13) ** 2))
    total /= np.abs(total).max()
    if "s" in sounds:
        loud = np.exp(-(((time_s - middles[sounds.index("s")]) / 0.05) ** 2))
        total += loud * np.diff(rng.normal(0, 0.25, SAMPLES + 1))
    total += rng.normal(0, 0.02, SAMPLES)
    total *= rng.uniform(0.3, 0.9) / np.abs(total).max()
    return (total * 32767).astype("<i2").tobytes()


def main() -> int:
    """Writes the words of each speaker."""
    folder = Path(sys.argv[1])
    rng = np.random.default_rng(SEED)
    for speaker in range(SPEAKERS):
        pitch_hz, size = rng.uniform(95, 220), rng.uniform(0.85, 1.15)
        for word in WORDS:
            own = folder / f"speaker-{speaker:02}" / word
            own.mkdir(parents=True, exist_ok=True)
            for take in range(TAKES):
                with wave.open(str(own / f"{take:02}.wav"), "wb") as file:
                    file.setparams((1, 2, RATE_HZ, 0, "NONE", "not compressed"))
                    file.writeframes(spoken(word, pitch_hz, size, rng))
    return 0


if __name__ == "__main__":
    sys.exit(main())
