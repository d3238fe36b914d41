"""The attack on models with and without noise."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from examples.onnx_text import save
from examples.privacy.epsilon import Attack, bound, losses
from tests.examples.test_readmes import run_example


@pytest.mark.slow
def test_noise_takes_the_advantage_of_an_attacker(tmp_path: Path) -> None:
    run_example("privacy", tmp_path)

    plain, eight, one = json.loads((tmp_path / "attack.json").read_text())
    assert plain["advantage"] > 0.2
    assert eight["advantage"] < plain["advantage"] - 0.1
    assert one["advantage"] < plain["advantage"] - 0.1
    assert plain["accuracy"] > eight["accuracy"] > one["accuracy"]
    assert (tmp_path / "attack.png").read_bytes()[:4] == b"\x89PNG"


def test_bound_is_above_what_the_gaussian_mechanism_gives_away() -> None:
    # Noise 4.5 at sensitivity 1 costs less than epsilon 1 at delta 1e-5.
    share = np.linspace(0.001, 0.999, 99)
    best = norm.cdf(norm.ppf(share) + 1 / 4.5)

    assert (bound(1.0, 1e-5, share) >= best).all()
    assert bound(0.0, 0.0, share) == pytest.approx(share)
    assert bound(2.0, 0.0, np.array([0.0, 1.0])) == pytest.approx([0.0, 1.0])


def test_loss_is_cross_entropy(tmp_path: Path) -> None:
    path = tmp_path / "same.onnx"
    save(path, "same (float[n, 2] x) => (float[n, 2] y) { y = Identity (x) }", {})
    x = np.log(np.array([[0.25, 0.75], [0.9, 0.1]], np.float32)) + 7

    found = losses(path.read_bytes(), (x, np.array([0, 1])))

    assert found == pytest.approx(-np.log([0.25, 0.1]), rel=1e-4)


def test_advantage_is_the_greatest_difference() -> None:
    attack = Attack(None, 0.5, np.array([0.0, 0.1, 1.0]), np.array([0.0, 0.6, 1.0]))

    assert attack.advantage == pytest.approx(0.5)
