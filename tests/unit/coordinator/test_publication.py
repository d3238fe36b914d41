from dataclasses import replace

import numpy as np
import pytest

from compiler import compile_model
from coordinator.aggregation.strategy import unpack_grid
from coordinator.publication import (
    PrivacySection,
    TaskSettings,
    TrainingSection,
    publication,
    read_theta,
)
from fleet.models import build_model
from protocol.accounting import charge_from_sigma, epsilon_from_charge
from protocol.errors import ConfigError
from protocol.settings import load_settings, sample
from protocol.task import Q24
from protocol.vectors import from_grid

SETTINGS = TaskSettings(name="digits")


@pytest.fixture(scope="module")
def bundle() -> bytes:
    model = build_model("softmax", (4,), 3, np.random.default_rng(1))
    return compile_model(model, loss="cross-entropy").packed


def test_publication_default_settings_keep_the_budget_they_name(bundle: bytes) -> None:
    spec = publication(SETTINGS, bundle, "task.toml").spec

    charge = 15 * charge_from_sigma(spec.privacy.sigma_micro)
    assert 7.9 < epsilon_from_charge(charge, 1e-5) <= 8.0
    assert spec.privacy.epsilon_micro == 8 * 10**6
    assert spec.privacy.clip_q24 == Q24


def test_publication_version_0_is_the_bundle_s_model(bundle: bytes) -> None:
    made = publication(SETTINGS, bundle, "task.toml")

    theta = np.frombuffer(made.model.training, "<f4")
    assert made.spec.dimension == theta.size == 15
    assert made.spec.initial == made.model.digests()
    assert np.array_equal(from_grid(unpack_grid(made.model.theta)), theta)


def test_task_settings_sample_reads_back_as_the_defaults() -> None:
    text = sample(TaskSettings, {"name": "digits"})

    assert load_settings(TaskSettings, text, "task.toml") == SETTINGS


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (replace(SETTINGS, leases=5), "fewer leases than the buffer"),
        (
            replace(SETTINGS, training=TrainingSection(mode="local")),
            "training.mode",
        ),
        (
            replace(SETTINGS, privacy=PrivacySection(epsilon=0.001, releases=10**6)),
            "task.toml",
        ),
        (replace(SETTINGS, name="x" * 65), "name"),
    ],
    ids=["leases", "local with noise", "budget too small", "long name"],
)
def test_publication_impossible_settings_name_file_and_key(
    bundle: bytes, settings: TaskSettings, said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        publication(settings, bundle, "task.toml")

    assert "task.toml" in str(caught.value)


def test_publication_damaged_bundle_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError):
        publication(SETTINGS, b"\x90", "task.toml")


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"PK"], ids=repr)
def test_read_theta_garbage_is_a_configuration_error(content: bytes) -> None:
    with pytest.raises(ConfigError):
        read_theta(content)


def test_publication_without_noise_bounds_nothing_but_the_grid(bundle: bytes) -> None:
    settings = replace(SETTINGS, privacy=PrivacySection(mechanism="none"))

    spec = publication(settings, bundle, "task.toml").spec

    assert spec.aggregation.norm_max > 2**38
    assert spec.privacy.sigma_micro == 0
