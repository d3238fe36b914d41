"""Makes spectra of machines' vibration: `python -m examples.vibration.data DIR`.

Writes machines/NAME.npz, 300 spectra of each healthy machine, x and y the same since an
autoencoder learns its input; healthy.npz, 30 more of each that nobody learns from, for
the threshold; and test.npz of later days, with `faulty` beside x and y: half of it has
a bearing whose outer ring is chipped, so that each passing ball rings the housing. A
spectrum has 64 bands of up to 5 kHz, in units of two bels.

Source of the fault's frequency: Randall and Antoni 2011, "Rolling element bearing
diagnostics, a tutorial", table 2.
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SEED = 1
MACHINES = 10
SPECTRA, HELD_OUT, TEST = 300, 30, 60
BANDS = 64
_RATE_HZ, _SAMPLES = 10_000, 2048
_BALLS, _BALL_TO_PITCH = 9, 0.22
_RING_HZ, _DAMPING = 3200.0, 900.0
_CHIP = (0.6, 2.5)
_BELS = 2.0


def spectrum(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bands of the power spectrum, (64,), about in [-1, 1]."""
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    bands = power[1:].reshape(BANDS, -1).mean(axis=1)
    found: NDArray[np.float64] = (np.log10(bands) - _BELS) / 2
    return found


class Machine:
    """A shaft with its own speed, unbalance, gear and housing."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._turns_hz = rng.uniform(27, 29)
        self._strengths = rng.lognormal(-0.5, 0.3, 12)
        self._teeth = 23
        self._noise = rng.lognormal(-1.9, 0.15)

    def measure(self, chip: float = 0.0) -> NDArray[np.float64]:
        """A spectrum under some load; `chip` is the strength of each ball's blow."""
        rng = self._rng
        load, turns_hz = rng.uniform(0.7, 1.3), self._turns_hz * rng.normal(1, 0.004)
        time_s = np.arange(_SAMPLES) / _RATE_HZ
        signal = rng.normal(0, self._noise, _SAMPLES)
        for order, strength in enumerate(self._strengths, start=1):
            # Turns of the shaft, and of each tooth that meets another.
            hertz = turns_hz * (order if order < 7 else (order - 6) * self._teeth)
            phase = rng.uniform(0, 2 * np.pi)
            signal += load * strength * np.sin(2 * np.pi * hertz * time_s + phase)
        if chip:
            signal += chip * load * self._blows(time_s, turns_hz)
        return spectrum(signal)

    def _blows(
        self, time_s: NDArray[np.float64], turns_hz: float
    ) -> NDArray[np.float64]:
        """Ringing of the housing, each time a ball passes the chip."""
        between_s = 2 / (_BALLS * turns_hz * (1 - _BALL_TO_PITCH))
        since_s = (time_s + self._rng.uniform(0, between_s)) % between_s
        return np.exp(-_DAMPING * since_s) * np.sin(2 * np.pi * _RING_HZ * since_s)


def write(path: Path, rows: list[NDArray[np.float64]], faulty: list[bool]) -> None:
    """Writes spectra (n, 64) as float32, x and y the same."""
    x = np.array(rows, np.float32)
    np.savez(path, x=x, y=x, faulty=np.array(faulty))


def main() -> int:
    """Writes the machines' files, what the threshold comes from, and the test."""
    folder = Path(sys.argv[1])
    (folder / "machines").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED)
    healthy: list[NDArray[np.float64]] = []
    test: list[NDArray[np.float64]] = []
    faulty: list[bool] = []
    for number in range(MACHINES):
        machine = Machine(rng)
        learned = [machine.measure() for _ in range(SPECTRA)]
        x = np.array(learned, np.float32)
        np.savez(folder / "machines" / f"machine-{number:02}.npz", x=x, y=x)
        healthy += [machine.measure() for _ in range(HELD_OUT)]
        chips = [rng.uniform(*_CHIP) if place % 2 else 0.0 for place in range(TEST)]
        test += [machine.measure(chip) for chip in chips]
        faulty += [chip > 0 for chip in chips]
    write(folder / "healthy.npz", healthy, [False] * len(healthy))
    write(folder / "test.npz", test, faulty)
    return 0


if __name__ == "__main__":
    sys.exit(main())
