"""Writes pictures by class: `python -m examples.camera.data DIR`.

public/CLASS/NUMBER.pgm is what the maker of the cameras has, of five classes;
cameras/NAME/CLASS/NUMBER.pgm is what cameras see: five other classes, and each camera
sees some of them more often. MNIST is taken where it is (`mnist` below STARLING_DATA):
digits 0 to 4 for the maker, 5 to 9 for the cameras. Else ten shapes are drawn.
"""

import gzip
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from examples.real_data import find

SEED = 1
SIDE = 28
PUBLIC, CAMERAS, SEEN = 300, 10, 200
_EVENNESS = 2.0
_NAMES = (
    "ring",
    "disc",
    "square",
    "cross",
    "bar",
    "angle",
    "tee",
    "diamond",
    "frame",
    "wedge",
)
Pictures = dict[str, NDArray[np.uint8]]
"""By class (n, 28, 28)."""


def recorded(folder: Path) -> Pictures:
    """The training part of MNIST."""
    with gzip.open(folder / "train-images-idx3-ubyte.gz") as file:
        raw = np.frombuffer(file.read(), np.uint8, offset=16)
    with gzip.open(folder / "train-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    pictures = raw.reshape(-1, SIDE, SIDE)
    return {str(digit): pictures[labels == digit] for digit in range(10)}


def made(rng: np.random.Generator) -> Pictures:
    """Ten shapes, turned, moved and grainy."""
    count = CAMERAS * SEEN
    return {
        name: np.array([_drawn(name, rng) for _ in range(count)]) for name in _NAMES
    }


def _drawn(name: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """One picture; points inside of the shape are bright."""
    angle, size = rng.normal(0, 0.2), rng.uniform(7, 10)
    axis = np.arange(SIDE) - (SIDE - 1) / 2
    down, right = axis[:, None] - rng.normal(0, 1.5), axis[None, :] - rng.normal(0, 1.5)
    u = (np.cos(angle) * right + np.sin(angle) * down) / size
    v = (np.cos(angle) * down - np.sin(angle) * right) / size
    radius, reach = np.hypot(u, v), np.maximum(np.abs(u), np.abs(v))
    inside = {
        "ring": np.abs(radius - 0.8) < 0.2,
        "disc": radius < 0.9,
        "square": reach < 0.8,
        "cross": (np.minimum(np.abs(u), np.abs(v)) < 0.25) & (reach < 1),
        "bar": (np.abs(u) < 0.3) & (np.abs(v) < 1),
        "angle": ((np.abs(u + 0.7) < 0.25) | (np.abs(v - 0.7) < 0.25)) & (reach < 0.95),
        "tee": ((np.abs(u) < 0.25) | (np.abs(v + 0.7) < 0.25)) & (reach < 0.95),
        "diamond": np.abs(u) + np.abs(v) < 1,
        "frame": np.abs(reach - 0.75) < 0.2,
        "wedge": (v > -0.8) & (v < 0.8) & (np.abs(u) < (v + 0.8) / 1.6),
    }[name]
    light = rng.uniform(90, 200) * inside + rng.normal(30, 15, (SIDE, SIDE))
    found: NDArray[np.uint8] = np.clip(light, 0, 255).astype(np.uint8)
    return found


def write(pictures: NDArray[np.uint8], folder: Path) -> None:
    """Writes pictures (n, 28, 28) as binary PGM."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures):
        head = f"P5\n{SIDE} {SIDE}\n255\n".encode()
        (folder / f"{number:04}.pgm").write_bytes(head + picture.tobytes())


def main() -> int:
    """Writes the maker's pictures, and those of the cameras."""
    folder, rng = Path(sys.argv[1]), np.random.default_rng(SEED)
    real = find("mnist")
    pictures = recorded(real) if real else made(rng)
    names = list(pictures)
    for name in names[:5]:
        write(pictures[name][:PUBLIC], folder / "public" / name)
    used = dict.fromkeys(names[5:], 0)
    for camera in range(CAMERAS):
        shares = rng.dirichlet([_EVENNESS] * 5)
        for name, share in zip(names[5:], shares, strict=True):
            start, count = used[name], max(3, round(share * SEEN))
            used[name] += count
            own = folder / "cameras" / f"camera-{camera:02}" / name
            write(pictures[name][start : start + count], own)
    return 0


if __name__ == "__main__":
    sys.exit(main())
