"""Writes what watches measure, by person: `python -m examples.watches.data DIR`.

Each person's folder holds a CSV file a recording: acceleration (m/s2) and rate of turn
(rad/s) of the wrist by three axes, the activity, and who it was. Real recordings are
taken where they are (`spsw-har` below STARLING_DATA): 23 people, 104 samples a second,
Matey-Sanz et al. 2023, Data in Brief 109809, CC BY 4.0. Else 12 people are made.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from examples.real_data import find

SEED = 1
RATE_HZ = 104
MADE_PEOPLE, MADE_RECORDINGS = 12, 2
AXES = ("ax", "ay", "az", "gx", "gy", "gz")
ACTIVITIES = ("seated", "standing_up", "walking", "turning", "sitting_down")
_WATCH = 1
# Of made activities: steps a second, swing (m/s2), turning (rad/s), gravity's slope.
_MADE = {
    "seated": (0.0, 0.1, 0.0, 0.0),
    "standing_up": (0.5, 2.0, 0.8, 1.0),
    "walking": (1.9, 3.5, 0.4, 0.0),
    "turning": (1.6, 2.0, 2.0, 0.0),
    "sitting_down": (0.5, 2.0, -0.8, -1.0),
}
_MADE_SECONDS = {
    "seated": 6,
    "standing_up": 3,
    "walking": 8,
    "turning": 3,
    "sitting_down": 3,
}
Recording = tuple[str, NDArray[np.float64], list[str]]
"""Whose it is, samples (n, 6) and the activity of each."""


def recorded(path: Path) -> Iterator[Recording]:
    """The watches' part of the real data set."""
    with np.load(path) as file:
        held = {name: file[name] for name in file.files}
    bounds = zip(held["offset"], held["offset"][1:], strict=False)
    for number, (start, stop) in enumerate(bounds):
        if held["device"][number] == _WATCH:
            samples = held["signal"][start:stop] * held["scale"]
            labels = [ACTIVITIES[label] for label in held["label"][start:stop]]
            yield f"person {held['subject'][number]:02}", samples, labels


def made(rng: np.random.Generator) -> Iterator[Recording]:
    """Recordings of people who differ in pace, swing and how they wear the watch."""
    for person in range(MADE_PEOPLE):
        pace, swing = rng.normal(1, 0.1), rng.lognormal(0, 0.25)
        tilt = rng.normal([0.2, 0.3, 0.93], 0.1)
        for _ in range(MADE_RECORDINGS):
            parts = [
                (_activity(name, pace, swing, tilt, rng), name) for name in ACTIVITIES
            ]
            labels = [name for samples, name in parts for _ in samples]
            yield f"person {person:02}", np.concatenate([s for s, _ in parts]), labels


def _activity(
    name: str,
    pace: float,
    swing: float,
    tilt: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Samples (n, 6) of one activity."""
    hertz, strength, turning, slope = _MADE[name]
    seconds = _MADE_SECONDS[name] * rng.uniform(0.8, 1.2)
    time_s = np.arange(0, seconds, 1 / RATE_HZ)[:, None]
    wave = np.sin(2 * np.pi * (hertz * pace * time_s + rng.random(6)))
    lean = slope * np.linspace(-1, 1, len(time_s))[:, None] * np.array([3.0, 0, -2.0])
    accelerations = 9.81 * tilt + lean + strength * swing * wave[:, :3]
    turns = turning * np.array([0.2, 0.3, 1.0]) + 0.3 * strength * wave[:, 3:]
    noise = rng.normal(0, [0.4] * 3 + [0.15] * 3, (len(time_s), 6))
    return np.hstack([accelerations, turns]) + noise


def write(recordings: Iterator[Recording], folder: Path) -> None:
    """Writes a CSV file a recording into a folder a person."""
    header = ",".join((*AXES, "activity", "person"))
    for number, (person, samples, labels) in enumerate(recordings):
        own = folder / person.replace(" ", "-")
        own.mkdir(parents=True, exist_ok=True)
        lines = [
            f"{','.join(f'{value:.3f}' for value in row)},{label},{person}"
            for row, label in zip(samples, labels, strict=True)
        ]
        text = "\n".join([header, *lines]) + "\n"
        (own / f"{number:03}.csv").write_text(text, "utf-8")


def main() -> int:
    """Writes real recordings, or made ones."""
    real = find("spsw-har/spsw_har.npz")
    found = recorded(real) if real else made(np.random.default_rng(SEED))
    write(found, Path(sys.argv[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
