"""Layers of fronts: they compute what their pages say, from what they say."""

import numpy as np
import onnx
import pytest

from starling.compiler import compile_model
from starling.engine.opened_bundle import open_packed
from starling.fleet.fronts.drawn_digits import drawn, sampled
from starling.fleet.fronts.front_catalog import FRONTS, check_not_seen, front_named
from starling.fleet.fronts.head_model import (
    HEAD,
    NAME,
    head_model,
    is_front,
    metadata,
    with_metadata,
)
from starling.fleet.fronts.orientation_features import (
    FEATURES,
    add_orientations,
    add_unit_length,
    orientation_filters,
)
from starling.fleet.fronts.picture_frame import (
    digit_glyphs,
    framed_digits,
    resampling,
)
from starling.fleet.fronts.whitening import whitening_of
from starling.fleet.onnx_layers import ModelLayers
from starling.fleet.runtime.dataset_catalog import public_digits
from starling.fleet.runtime.fronts.front_features import features_of
from starling.protocol.errors import ConfigError

RNG = np.random.default_rng(3)


def small_front() -> onnx.ModelProto:
    layers = ModelLayers(np.random.default_rng(1))
    features = add_orientations(layers, "x")
    unit = add_unit_length(layers, features, "tiny")
    layers.linear("head", unit, (FEATURES, 10))
    return with_metadata(layers.model("front", (1, 28, 28), 10), "own", "from nothing")


def test_resampling_keeps_a_picture_of_the_frame_s_own_size() -> None:
    assert np.array_equal(resampling(28), np.eye(28, dtype=np.float32))


@pytest.mark.parametrize(("side", "span"), [(8, 20), (14, 28), (56, 28)])
def test_resampling_keeps_brightness_inside_and_none_outside(
    side: int, span: int
) -> None:
    rows = resampling(side, span).sum(1)
    edge = (28 - span) // 2
    assert rows[edge + 1 : 28 - edge - 1] == pytest.approx(np.ones(span - 2))
    assert not rows[: max(0, edge - 2)].any()


def test_digits_stand_in_the_middle_of_the_frame() -> None:
    framed = framed_digits(public_digits().x[:50])
    assert framed.shape == (50, 28, 28)
    assert framed[:, 4:24, 4:24].sum() > 0.95 * framed.sum()
    sharp = digit_glyphs(public_digits().x[:50], 48)
    assert sharp.shape == (50, 48, 48)
    assert set(np.unique(sharp[:, 0])) == {0.0}


def test_filters_see_edges_and_no_even_ground() -> None:
    filters = orientation_filters()
    assert np.abs(filters.sum((1, 2, 3))).max() < 1e-12
    assert np.abs(filters).sum((1, 2, 3)) == pytest.approx(np.ones(8))
    # Opposite directions are each other's negatives.
    assert filters[4:] == pytest.approx(-filters[:4])


def test_features_have_unit_length_and_follow_the_direction() -> None:
    upright, level = np.zeros((2, 1, 1, 28, 28), np.float32)
    upright[..., 14] = 1
    level[..., 14, :] = 1
    found = features_of(small_front(), np.concatenate([upright, level]))
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(2), abs=1e-4)
    strokes = found.reshape(2, 8, 81).sum(2)
    assert strokes[0].argmax() % 4 == 0
    assert strokes[1].argmax() % 4 == 2


def test_whitening_makes_variances_alike_and_repeats() -> None:
    mixed = RNG.normal(size=(4000, 6)) @ np.diag([9, 5, 3, 1, 1, 1]) + 4
    found = whitening_of(mixed.astype(np.float32), 3, 0.5, 1e-6)
    white = (mixed - found.mean) @ found.directions
    assert np.cov(white.T) == pytest.approx(np.eye(3), abs=0.02)
    again = whitening_of(mixed.astype(np.float32)[::-1], 3, 0.5, 1e-6)
    assert again.directions == pytest.approx(found.directions, rel=1e-6, abs=1e-9)


def test_sampled_takes_lines_between_pixels() -> None:
    ramp = np.broadcast_to(np.arange(5, dtype=np.float32), (1, 5, 5))
    y, x = np.full((1, 1, 3), 2.0), np.array([[[0.5, 1.25, 3.0]]])
    assert sampled(ramp, y, x).ravel() == pytest.approx([0.5, 1.25, 3.0])


def test_drawn_digits_lie_in_the_frame_as_mnist_s_do() -> None:
    glyphs = np.zeros((40, 48, 48), np.float32)
    glyphs[:, 8:40, 20:26] = 1
    found = drawn(glyphs, np.random.default_rng(1), 1.0)
    assert found.shape == (40, 28, 28)
    assert (found.min(), found.max()) == pytest.approx((0.0, 1.0))
    mass = found.sum((1, 2))
    across = (found.sum(1) * np.arange(28)).sum(1) / mass
    down = (found.sum(2) * np.arange(28)).sum(1) / mass
    assert across == pytest.approx(np.full(40, 13.5), abs=0.7)
    assert down == pytest.approx(np.full(40, 13.5), abs=0.7)
    # No two are alike, and the same seed draws the same.
    assert len(np.unique(found.reshape(40, -1), axis=0)) == 40
    assert np.array_equal(found, drawn(glyphs, np.random.default_rng(1), 1.0))


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 20, 20), (64,)])
def test_head_alone_is_trained_and_the_origin_stays(shape: tuple[int, ...]) -> None:
    made = head_model(small_front(), shape, 7)
    assert is_front(made)
    bundle = compile_model(made, loss="cross-entropy", train=(HEAD,))
    manifest = open_packed(bundle.packed).manifest
    assert manifest.dimension == FEATURES * 7 + 7
    assert manifest.input.shape == shape
    assert (manifest.origin, metadata(made, NAME)) == ("from nothing", "own")


@pytest.mark.parametrize("shape", [(3, 28, 28), (1, 28, 20), (28,), (1, 600, 600)])
def test_what_is_no_square_grey_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="square grey pictures") as caught:
        head_model(small_front(), shape, 10)
    assert caught.value.key == "--front"


def test_framed_digits_are_what_the_entrance_makes_of_them() -> None:
    x = public_digits().x[:20]
    flat = features_of(head_model(small_front(), (64,), 10), x)
    seen = features_of(small_front(), framed_digits(x)[:, None])
    assert flat == pytest.approx(seen, abs=1e-5)


def test_front_that_has_seen_the_records_is_refused() -> None:
    with pytest.raises(ConfigError, match="measured on these very records"):
        check_not_seen(FRONTS["whitened"], "digits")
    check_not_seen(FRONTS["whitened"], "mnist")
    check_not_seen(FRONTS["orientation"], "digits")
    with pytest.raises(ConfigError, match="orientation, whitened, fonts"):
        front_named("resnet")
