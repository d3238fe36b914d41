"""Writes the lives of jet engines: `python -m examples.turbofans.data DIR`.

Each row is a flight: the airline, the engine, 14 sensors, and how many flights are
left, 125 at most, since an engine in health says nothing about its end (Heimes 2008).
Writes flights.csv, and test.csv of an airline that does not take part. NASA's C-MAPSS
FD001 is taken where it is (`cmapss` below STARLING_DATA): Saxena et al. 2008, public
domain. Else engines are made that wear out alike.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from examples.real_data import find

SEED = 1
LEFT_MAX = 125
AIRLINES, TEST_AIRLINES = 10, 2
MADE_ENGINES = 60
SENSORS = (2, 3, 4, 7, 8, 9, 11, 12, 13, 14, 15, 17, 20, 21)
"""Of 21 in C-MAPSS those that move in FD001."""
_SETTINGS = 3
# Of made sensors: where they start, how far they go until the end, and their noise.
_STARTS = (
    642,
    1589,
    1406,
    554,
    2388,
    9050,
    47.4,
    522,
    2388,
    8140,
    8.43,
    392,
    38.9,
    23.3,
)
_DRIFTS = (1.3, 16, 25, -2.2, 0.2, 25, 0.75, -1.9, 0.2, 12, 0.1, 3.2, -0.55, -0.33)
_NOISES = (0.4, 5, 6, 0.6, 0.05, 12, 0.18, 0.5, 0.05, 10, 0.03, 1.2, 0.14, 0.08)
Life = NDArray[np.float64]
"""Sensors of an engine's flights, (flights, 14), the last one before its end."""


def recorded(path: Path) -> Iterator[Life]:
    """Engines of FD001 that were run until they failed."""
    with np.load(path) as file:
        unit, x = file["FD001_train_unit"], file["FD001_train_x"]
    places = [_SETTINGS + number - 1 for number in SENSORS]
    for engine in np.unique(unit):
        yield x[unit == engine][:, places].astype(np.float64)


def made(rng: np.random.Generator) -> Iterator[Life]:
    """Engines whose wear grows exponentially, from a flight of their own on."""
    for _ in range(MADE_ENGINES):
        flights = int(rng.integers(140, 300))
        onset = int(rng.integers(20, flights - 90))
        wear = np.clip((np.arange(flights) - onset) / (flights - onset), 0, None)
        drift = np.array(_DRIFTS) * rng.normal(1, 0.1, len(SENSORS))
        noise = rng.normal(0, _NOISES, (flights, len(SENSORS)))
        yield np.array(_STARTS) + drift * np.expm1(2.0 * wear)[:, None] / 4 + noise


def write(lives: list[Life], folder: Path) -> None:
    """Writes both files; engines go to airlines in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    header = ["airline", "engine", *(f"s{number}" for number in SENSORS), "left"]
    files: dict[str, list[str]] = {"flights.csv": [], "test.csv": []}
    for number, life in enumerate(lives):
        airline = number % (AIRLINES + TEST_AIRLINES)
        lines = files["flights.csv" if airline < AIRLINES else "test.csv"]
        for flight, row in enumerate(life):
            left = min(LEFT_MAX, len(life) - flight - 1)
            cells = ",".join(f"{value:.6g}" for value in row)
            lines.append(f"airline {airline:02},engine {number:03},{cells},{left}")
    for name, lines in files.items():
        text = "\n".join([",".join(header), *lines]) + "\n"
        (folder / name).write_text(text, "utf-8")


def main() -> int:
    """Writes real lives, or made ones."""
    real = find("cmapss/cmapss.npz")
    found = recorded(real) if real else made(np.random.default_rng(SEED))
    write(list(found), Path(sys.argv[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
