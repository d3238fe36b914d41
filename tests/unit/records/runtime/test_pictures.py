"""Pictures as Pillow reads them, and which it is not given."""

from pathlib import Path

import numpy as np
import pytest

from starling.protocol.errors import ConfigError
from starling.records.data_options import DataOptions
from starling.records.errors import DataError
from starling.records.runtime import pictures
from starling.records.runtime.sources import read_source
from tests.unit.records.source_files import pgm, write


def test_png_in_colours_has_three_channels(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is an extra")
    pixels = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        image.fromarray(pixels).save(tmp_path / label / "1.png")

    found = read_source(tmp_path, DataOptions())

    np.testing.assert_array_equal(found.x[0], pixels.transpose(2, 0, 1))


def test_missing_pillow_is_told_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)

    with pytest.raises(ConfigError, match=r"need Pillow: pip install pillow"):
        pictures.read_picture(tmp_path / "a.png", "a.png")


def test_broken_png_is_named(tmp_path: Path) -> None:
    pytest.importorskip("PIL.Image", reason="Pillow is an extra")
    write(tmp_path / "a.png", b"\x89PNG no more")

    with pytest.raises(ConfigError, match=r"a\.png: is no picture, or is cut short"):
        pictures.read_picture(tmp_path / "a.png", "a.png")


@pytest.mark.parametrize(
    ("name", "mode", "frames", "said"),
    [
        ("a.png", "I;16", 1, "pixels of more than 8 bits, which would be cut off"),
        ("a.tif", "F", 1, "pixels of more than 8 bits"),
        ("a.tiff", "L", 3, "3 pictures in one"),
    ],
)
def test_picture_that_would_lose_something_is_refused(
    tmp_path: Path, name: str, mode: str, frames: int, said: str
) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is an extra")
    pages = [image.new(mode, (4, 4), at) for at in range(frames)]
    pages[0].save(tmp_path / name, save_all=frames > 1, append_images=pages[1:])

    with pytest.raises(DataError, match=said):
        pictures.read_picture(tmp_path / name, name)


def test_columns_of_pictures_are_refused(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        pgm(tmp_path / label / "1.pgm")

    with pytest.raises(ConfigError, match="files have no columns"):
        read_source(tmp_path, DataOptions(targets=("y",)))


def test_picture_of_a_size_without_end_is_none(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        write(tmp_path / label / "1.pgm", b"P5\n" + b"9" * 5000 + b" 1\n255\n0")

    with pytest.raises(DataError, match="is no PGM or PPM picture"):
        read_source(tmp_path, DataOptions())
