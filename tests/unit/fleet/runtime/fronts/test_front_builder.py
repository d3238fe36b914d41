"""Fronts are made, kept, read, and say where they come from."""

from pathlib import Path

import numpy as np
import pytest

from starling.agent.trainer.engines.engine_registry import open_trainer
from starling.compiler import compile_model
from starling.fleet.fronts.front_catalog import FONTS, FRONTS, PEN, check_not_seen
from starling.fleet.fronts.head_model import NAME, metadata
from starling.fleet.fronts.pen_strokes import parse_skeletons, penned
from starling.fleet.runtime.fronts import front_builder
from starling.fleet.runtime.fronts.front_builder import (
    SKELETONS,
    build_front,
    build_start,
    open_front,
)
from starling.fleet.runtime.fronts.front_features import features_of
from starling.fleet.runtime.fronts.front_training import FrontNetwork
from starling.fleet.runtime.fronts.glyph_renderer import (
    fonts_below,
    glyphs,
    own_fonts,
)
from starling.protocol.errors import ConfigError, StorageError

SMALL = FrontNetwork((4, 4), 8, glyphs=128, digits=64, epochs=1)
SMALL_PEN = FrontNetwork((4, 4), 8, penned=600, epochs=1)


def quiet(line: str) -> None:
    assert line


def test_own_fonts_have_ten_different_digits() -> None:
    fonts = own_fonts()
    assert {"DejaVuSans.ttf", "cmr10.ttf", "STIXGeneral.ttf"} <= {p.name for p in fonts}
    drawn = glyphs(fonts[:2])
    assert drawn.shape == (20, 48, 48)
    assert len(np.unique(drawn.reshape(20, -1), axis=0)) == 20
    assert (drawn.reshape(20, -1).max(1) > 0.5).all()


def test_folder_without_fonts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no.ttf").write_bytes(b"no font")
    with pytest.raises(ConfigError, match="with ten digits"):
        fonts_below(tmp_path)
    assert fonts_below(own_fonts()[0].parent)


def test_trained_front_repeats_and_names_its_fonts() -> None:
    fonts = own_fonts()[:2]
    told: list[str] = []
    first, second = [
        build_front(FRONTS[FONTS], told.append, network=SMALL, fonts=fonts)
        for _ in range(2)
    ]
    assert first == second
    origin = metadata(first, "starling.origin")
    assert "128 pictures of 2 fonts" in origin
    assert "64 of UCI's digits, seed 1" in origin
    assert any("epoch 1 of 1" in line for line in told)
    x = np.random.default_rng(1).random((30, 1, 28, 28), np.float32)
    found = features_of(first, x)
    assert found.shape == (30, 8)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(30), abs=1e-3)


def test_trained_front_is_kept_and_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(front_builder, "TRAINED", {FONTS: SMALL, PEN: SMALL_PEN})
    told: list[str] = []
    first = open_front(FONTS, told.append)
    kept = list((tmp_path / "starling" / "fronts").iterdir())
    assert len(kept) == 1
    assert any(str(kept[0]) in line for line in told)
    told.clear()
    assert open_front(FONTS, told.append) == first
    assert open_front(str(kept[0]), told.append) == first
    assert told == []
    # What another edition of the code made is not taken for this one's.
    monkeypatch.setattr(front_builder, "_EDITION", 0)
    open_front(FONTS, told.append)
    assert len(list(kept[0].parent.iterdir())) == 2


def test_cache_that_cannot_be_made_is_refused_before_anything_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(front_builder, "TRAINED", {PEN: SMALL_PEN})
    told: list[str] = []

    with pytest.raises(StorageError, match="file/starling/fronts: Not a directory"):
        open_front(PEN, told.append)
    assert told == []


def test_pen_front_is_of_no_data_and_none_is_refused_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(front_builder, "TRAINED", {PEN: SMALL_PEN})
    told: list[str] = []
    first, second = [open_front(PEN, told.append) for _ in range(2)]
    assert first == second
    origin = metadata(first, "starling.origin")
    assert "made from no data" in origin
    assert "600 pictures by pen, seed 1" in origin
    assert any("drawing 600 pictures" in line for line in told)
    check_not_seen(FRONTS[PEN], "digits")


def test_start_is_the_whole_model_trained_on_a_front_s_pictures() -> None:
    network = FrontNetwork(penned=2000, epochs=3)
    told: list[str] = []
    first, second = [
        build_start(FRONTS[PEN], "softmax", told.append, network=network)
        for _ in range(2)
    ]
    assert first == second
    assert "2,000 pictures by pen" in metadata(first, "starling.origin")
    assert any("epoch 3 of 3" in line for line in told)
    rng = np.random.default_rng(2)
    x, y = penned(parse_skeletons(SKELETONS.read_text()), 500, rng)
    trainer = open_trainer(compile_model(first, loss="cross-entropy").packed)
    said = trainer.infer(trainer.theta, x[:, None].astype(np.float32)).argmax(1)
    # Six of ten and not one of ten, on pictures that it was not trained on.
    assert (said == y).mean() > 0.6


def test_start_of_no_model_is_refused_before_anything_is_drawn() -> None:
    told: list[str] = []
    with pytest.raises(ConfigError, match="'tree' is not one of softmax"):
        build_start(FRONTS[PEN], "tree", told.append, network=SMALL_PEN)
    assert told == []


def test_what_a_trained_front_s_features_are_on_its_own_pictures() -> None:
    x = penned(parse_skeletons(SKELETONS.read_text()), 600, np.random.default_rng(2))[0]
    found = features_of(build_front(FRONTS[PEN], quiet, network=SMALL_PEN), x[:, None])
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(len(x)), abs=1e-3)
    # Centred: no direction that all pictures have in common, as raw features have.
    assert np.linalg.norm(found.mean(0)) < 0.5


def test_front_without_training_is_made_at_once() -> None:
    found = open_front("whitened", quiet)
    assert metadata(found, NAME) == "whitened"
    assert metadata(found, "starling.origin") == FRONTS["whitened"].origin


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no model", "is no ONNX model"), (b"", "has no head.weight")],
    ids=["noise", "empty"],
)
def test_file_that_is_no_front_is_refused(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "own.onnx"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        open_front(str(path), quiet)
    assert caught.value.key == "--front"


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.onnx"):
        open_front(str(tmp_path / "none.onnx"), quiet)
