"""Pictures and sounds of a board, for a bundle that is known."""

import wave
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from starling.agent.runtime.checks.subprocess_checks import data_checks
from starling.agent.trainer.dataset import READING_BYTES, read_dataset
from starling.broker.health_checks import Verdict
from starling.protocol.errors import ConfigError
from starling.protocol.model.training_bundle import (
    BundleManifest,
    Preprocessing,
    TensorSpec,
)
from starling.records.data_options import DEFAULT_OPTIONS
from starling.records.runtime import media_files
from starling.records.runtime.sources import read_source
from starling.records.scaling import scaled_inputs
from tests.unit.agent.trainer.test_dataset import MANIFEST

PICTURES = replace(
    MANIFEST,
    input=TensorSpec((1, 2, 3), "float32"),
    classes=("cat", "dog", "owl"),
    preprocessing=Preprocessing((1 / 255,)),
)
SOUNDS = replace(
    PICTURES,
    input=TensorSpec((1, 8), "float32"),
    preprocessing=Preprocessing((1 / 32768,)),
)


def pgm(path: Path, first: int = 0, width: int = 3, height: int = 2) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    body = bytes(range(first, first + width * height))
    path.write_bytes(b"P5\n%d %d\n255\n" % (width, height) + body)


def png(path: Path, first: int = 0, width: int = 3, height: int = 2) -> None:
    image = pytest.importorskip("PIL.Image")
    path.parent.mkdir(exist_ok=True, parents=True)
    pixels = np.arange(first, first + width * height, dtype=np.uint8)
    image.fromarray(pixels.reshape(height, width)).save(path)


def wav(path: Path, first: int = 0, samples: int = 8) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(np.arange(first, first + samples, dtype="<i2").tobytes())


KINDS: dict[str, tuple[Callable[..., None], BundleManifest]] = {
    "pgm": (pgm, PICTURES),
    "png": (png, PICTURES),
    "wav": (wav, SOUNDS),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def write(root: Path, kind: str) -> BundleManifest:
    """Two records of a dog, one of a cat."""
    make, manifest = KINDS[kind]
    make(root / "dog" / f"a.{kind}", 10)
    make(root / "dog" / f"b.{kind}", 20)
    make(root / "cat" / f"z.{kind}", 30)
    return manifest


def test_board_reads_the_same_records_as_a_fleet(tmp_path: Path, kind: str) -> None:
    manifest = write(tmp_path, kind)
    fleet = read_source(tmp_path, DEFAULT_OPTIONS)

    data = read_dataset(tmp_path, manifest)

    np.testing.assert_array_equal(data.x, scaled_inputs(fleet.x, fleet.preprocessing))
    np.testing.assert_array_equal(data.y, fleet.y)
    assert data.x.shape == (3, *manifest.input.shape)
    assert data.complaints.unusable == 0


def cut(path: Path) -> None:
    # Behind the pixels of a PNG file stand bytes that nobody misses.
    path.write_bytes(path.read_bytes()[: -36 if path.suffix == ".png" else -3])


def spoil(path: Path) -> None:
    path.write_bytes(b"nothing of that kind")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def lengthen(path: Path) -> None:
    make, _ = KINDS[path.suffix[1:]]
    size = {"samples": 50_000} if path.suffix == ".wav" else {"width": 9, "height": 9}
    make(path, **size)


@pytest.mark.parametrize("harm", [cut, spoil, empty, lengthen])
def test_file_that_does_not_fit_is_named_and_changes_no_other(
    tmp_path: Path, kind: str, harm: Callable[[Path], None]
) -> None:
    manifest = write(tmp_path, kind)
    sound = read_dataset(tmp_path, manifest)
    harm(tmp_path / "dog" / f"a.{kind}")

    data = read_dataset(tmp_path, manifest)

    np.testing.assert_array_equal(data.x, sound.x[[0, 2]])
    assert data.y.tolist() == [0, 1]
    (said,) = data.complaints.first
    assert said.startswith(f"dog/a.{kind}: ")
    assert data.complaints.unusable == 1


def test_folder_of_no_class_of_the_model_is_no_record(tmp_path: Path) -> None:
    write(tmp_path, "pgm")
    pgm(tmp_path / "fox" / "a.pgm")
    pgm(tmp_path / "other board" / "owl" / "a.pgm")

    data = read_dataset(tmp_path, PICTURES)

    assert data.y.tolist() == [0, 1, 1]
    assert data.complaints.first == [
        "fox/a.pgm: its folder is none of the model's classes"
    ]


@pytest.mark.parametrize(
    "manifest", [replace(PICTURES, classes=()), replace(PICTURES, loss="mse")]
)
def test_model_without_classes_by_name_takes_no_folders(
    tmp_path: Path, manifest: BundleManifest
) -> None:
    write(tmp_path / "data", "pgm")

    data = read_dataset(tmp_path / "data", manifest)

    assert len(data.x) == 0
    assert data.complaints.first[0].startswith("data: the model has no classes by name")


def test_file_beyond_the_memory_for_data_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(9):
        pgm(tmp_path / "cat" / f"{number}.pgm", number)
    opened: list[str] = []
    known = media_files.read_record

    def noted(path: Path, shown: str, shape: tuple[int, ...]) -> object:
        opened.append(shown)
        return known(path, shown, shape)

    monkeypatch.setattr("starling.records.runtime.bundle_files.read_record", noted)
    monkeypatch.setattr("starling.records.runtime.bundle_files.PIECE_RECORDS", 2)
    one = 2 * (4 * 6 + 8) + 16

    data = read_dataset(tmp_path, PICTURES, bytes_max=READING_BYTES + 3 * one)

    assert data.x[:, 0, 0, 0].tolist() == pytest.approx([0, 1 / 255, 2 / 255])
    assert len(opened) == 4
    assert "beyond 3 records" in data.complaints.first[0]


def test_folder_without_anything_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    with pytest.raises(ConfigError, match="no folders of pictures"):
        read_dataset(tmp_path, PICTURES)


def test_check_of_a_board_names_a_file_that_is_cut_short(
    tmp_path: Path, kind: str
) -> None:
    write(tmp_path, kind)
    cut(tmp_path / "dog" / f"b.{kind}")

    (row,) = data_checks(tmp_path, "", 192)

    found = f"2 records in 3 files, 1 unusable; the first: dog/b.{kind}: "
    assert row.found.startswith(found)
    assert "cut short" in row.found
    assert row.verdict is Verdict.WARN
