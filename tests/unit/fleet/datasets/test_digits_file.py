"""The packed digits are those that scikit-learn ships, to the last pixel."""

import hashlib
import io

import numpy as np
import pytest

from tests.digits_file import DIGITS, packed_digits

PIXELS_SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3"


def test_digits_file_holds_1797_pictures_and_their_labels() -> None:
    with np.load(DIGITS) as arrays:
        x, y = arrays["x"], arrays["y"]

    assert (x.shape, x.dtype, x.min(), x.max()) == ((1797, 64), np.uint8, 0, 16)
    assert np.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest()[:32] == PIXELS_SHA256


def test_digits_file_equals_the_copy_of_scikit_learn() -> None:
    datasets = pytest.importorskip(
        "sklearn.datasets", reason="the peer is not installed"
    )
    shipped = datasets.load_digits()

    with np.load(DIGITS) as arrays:
        assert np.array_equal(arrays["x"], shipped.data)
        assert np.array_equal(arrays["y"], shipped.target)


def test_script_writes_arrays_that_are_those_of_the_file() -> None:
    pytest.importorskip("sklearn.datasets", reason="the peer is not installed")
    made = np.load(io.BytesIO(packed_digits()))

    with np.load(DIGITS) as arrays:
        assert {name: arrays[name].tobytes() for name in arrays.files} == {
            name: made[name].tobytes() for name in made.files
        }


def test_licence_lies_beside_the_digits() -> None:
    text = DIGITS.with_name("digits-licence.txt").read_text("utf-8")

    assert "https://creativecommons.org/licenses/by/4.0/" in text
    assert "https://doi.org/10.24432/C50P49" in text
