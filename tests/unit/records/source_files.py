"""Files as people have them: tables, sounds and pictures, made small."""

import wave
from pathlib import Path


def write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def wav(path: Path, samples: int = 8, rate: int = 8000, width: int = 2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(bytes(range(width * samples)))


def pgm(path: Path, width: int = 3, height: int = 2) -> None:
    write(
        path,
        b"P5\n# made here\n%d %d\n255\n" % (width, height)
        + bytes(range(width * height)),
    )
