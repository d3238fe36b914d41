from dataclasses import replace

import numpy as np
import pytest

from starling.agent.privacy.ledger import PrivacyLedger
from starling.compiler import compile_model
from starling.coordinator.aggregation.strategy import unpack_grid
from starling.coordinator.task_file.optimiser_settings import (
    OptimiserSection,
    PersonalSection,
)
from starling.coordinator.task_file.privacy_settings import PrivacySection
from starling.coordinator.task_file.privacy_statement import promise
from starling.coordinator.task_file.task_settings import (
    TaskSettings,
    TrainingSection,
    publication,
)
from starling.engine.opened_bundle import GRAPHS
from starling.fleet.reference_models import build_model
from starling.protocol.errors import ConfigError
from starling.protocol.ids import ChainId, TaskId, Version
from starling.protocol.learning.codec_terms import CODEC_NAMES
from starling.protocol.learning.local_optimiser import NO_PERSONAL, PersonalPolicy
from starling.protocol.learning.task import Q24, TASK
from starling.protocol.learning.vector_codecs import from_grid
from starling.protocol.model.training_bundle import THETA, LossSettings
from starling.protocol.privacy.gaussian_dp import (
    Budget,
    charge_from_sigma,
    epsilon_from_charge,
)
from starling.protocol.privacy.mechanisms import stated_charge
from starling.protocol.schema.toml_settings import load_settings, sample
from tests.unit.engine.bundle_edits import repacked, with_hidden_operator

SETTINGS = TaskSettings(name="digits")
SMALL = replace(SETTINGS, pledge_most=256)


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
        (replace(SETTINGS, strategy="fedavg", momentum=0.0), "staleness_max: fedavg"),
        (replace(SETTINGS, strategy="fedasync"), "momentum: fedasync has none"),
        (
            replace(
                SETTINGS,
                training=TrainingSection(descent=OptimiserSection(optimiser="adam")),
            ),
            "training.descent: boards take no steps",
        ),
        (
            replace(
                SETTINGS,
                training=TrainingSection(
                    mode="local", descent=OptimiserSection(warmup=3)
                ),
                privacy=PrivacySection(mechanism="record-dpsgd"),
            ),
            "training.descent: steps that are noised",
        ),
    ],
    ids=[
        "leases",
        "local with noise",
        "budget too small",
        "long name",
        "fedavg that is not in step",
        "fedasync with momentum",
        "optimiser without steps",
        "schedule of noised steps",
    ],
)
def test_publication_impossible_settings_name_file_and_key(
    bundle: bytes, settings: TaskSettings, said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        publication(settings, bundle, "task.toml")

    assert "task.toml" in str(caught.value)


def test_publication_names_the_own_models_of_boards_only_where_there_are_any(
    bundle: bytes,
) -> None:
    section = TrainingSection(personal=PersonalSection(epochs=3, pull=0.5))
    asked = publication(replace(SETTINGS, training=section), bundle, "task").spec
    plain = publication(SETTINGS, bundle, "task").spec

    assert asked.personal == PersonalPolicy(3, Q24 // 2)
    assert plain.personal == NO_PERSONAL
    assert len(TASK.pack(asked)) > len(TASK.pack(plain))


PRIVATE = [
    ("record-dpsgd", "local"),
    ("device-gaussian", "gradient"),
    ("device-gaussian", "local"),
    ("device-laplace", "local"),
]


@pytest.mark.parametrize(("mechanism", "mode"), PRIVATE)
def test_publication_of_other_mechanisms_lets_boards_pay_what_is_planned(
    bundle: bytes, mechanism: str, mode: str
) -> None:
    section = PrivacySection(mechanism, clip=0.01, releases=6)
    training = TrainingSection(mode=mode)
    settings = replace(SMALL, privacy=section, training=training)

    spec = publication(settings, bundle, "task.toml").spec

    ledger = PrivacyLedger.load(Budget(8.0, 1e-5), [])
    chain, task = ChainId(bytes(32)), TaskId(0)
    assert ledger.releases_left(chain, task, spec.privacy) == 6
    for base in range(6):
        slot = (chain, task, Version(base))
        ledger, charge, _ = ledger.charge(slot, spec.privacy)
        assert charge.units >= stated_charge(spec.privacy) > 0
    assert ledger.epsilon() <= 8.0
    shown = epsilon_from_charge(6 * stated_charge(spec.privacy), 1e-5)
    assert ledger.epsilon() <= shown * (1 + 1e-9) <= 8.0 * (1 + 1e-6)


@pytest.mark.parametrize(("mechanism", "mode"), [*PRIVATE, ("none", "local")])
def test_promise_says_unit_noise_and_accuracy(
    bundle: bytes, mechanism: str, mode: str
) -> None:
    section = PrivacySection(mechanism, clip=0.01)
    training = TrainingSection(mode=mode)
    settings = replace(SMALL, privacy=section, training=training, momentum=0.0)

    made = promise(publication(settings, bundle, "task.toml").spec)

    text = "\n".join(made.lines())
    assert mechanism in text
    if mechanism == "none":
        return
    assert ("everything" in text) == mechanism.startswith("device")
    assert f"epsilon {made.epsilon:g}" in text
    assert made.expected in text
    assert made.noise_to_signal > 0
    if mechanism == "record-dpsgd":
        assert made.epsilon_as_planned is not None
        assert 6.5 < made.epsilon_as_planned < 8.0


@pytest.mark.parametrize("codec", CODEC_NAMES)
def test_publication_asks_the_same_of_privacy_whatever_the_codec(
    bundle: bytes, codec: str
) -> None:
    spec = publication(replace(SETTINGS, codec=codec), bundle, "task.toml").spec

    assert spec.privacy == publication(SETTINGS, bundle, "task.toml").spec.privacy


def test_publication_noise_beyond_the_wire_is_refused(bundle: bytes) -> None:
    section = PrivacySection("device-gaussian", clip=100.0, epsilon=1.0)
    settings = replace(SETTINGS, privacy=section)

    with pytest.raises(ConfigError, match=r"privacy.clip.*range"):
        publication(settings, bundle, "task.toml")


def test_publication_damaged_bundle_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError):
        publication(SETTINGS, b"\x90", "task.toml")


@pytest.mark.parametrize("name", [*GRAPHS, THETA])
def test_publication_of_what_no_board_runs_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigError, match=f"task.toml: {name}"):
        publication(SETTINGS, repacked({name: b"garbage"}), "task.toml")


@pytest.mark.parametrize("name", GRAPHS)
def test_publication_of_a_hidden_operator_is_refused_by_name(name: str) -> None:
    packed = with_hidden_operator(name, "RandomNormalLike")

    with pytest.raises(ConfigError, match=f"task.toml: {name}"):
        publication(SETTINGS, packed, "task.toml")


def test_publication_without_noise_bounds_nothing_but_the_grid(bundle: bytes) -> None:
    settings = replace(SETTINGS, privacy=PrivacySection(mechanism="none"))

    spec = publication(settings, bundle, "task.toml").spec

    assert spec.aggregation.norm_max > 2**38
    assert spec.privacy.sigma_micro == 0


def test_publication_rotates_no_weights_that_stay_on_boards() -> None:
    model = build_model("mlp", (4,), 3, np.random.default_rng(1))
    whole = compile_model(model, loss="cross-entropy")
    name = whole.manifest.parameters[0].name
    packed = compile_model(model, loss="cross-entropy", local=[name]).packed

    with pytest.raises(ConfigError, match="codec: a rotation spreads"):
        publication(replace(SETTINGS, codec="rotated1"), packed, "task.toml")
    publication(SETTINGS, packed, "task.toml")
    publication(replace(SETTINGS, codec="rotated1"), whole.packed, "task.toml")


def test_publication_of_a_bundle_that_clips_otherwise_is_refused() -> None:
    model = build_model("softmax", (4,), 3, np.random.default_rng(1))
    packed = compile_model(model, loss="cross-entropy", clipping="automatic").packed

    with pytest.raises(ConfigError, match=r"privacy\.clipping"):
        publication(SETTINGS, packed, "task.toml")

    agreed = replace(SETTINGS, privacy=PrivacySection(clipping="automatic"))
    assert publication(agreed, packed, "task.toml").spec.privacy.mechanism == 1


LABELS = PrivacySection("label-response", epsilon=2.0, clip=0.01)


@pytest.mark.parametrize("mode", ["gradient", "local"])
def test_publication_of_drawn_labels_has_an_epsilon_and_no_noise(
    bundle: bytes, mode: str
) -> None:
    training = TrainingSection(mode=mode)
    settings = replace(SMALL, privacy=LABELS, training=training, momentum=0.0)
    spec = publication(settings, bundle, "task.toml").spec

    assert spec.privacy.epsilon_micro == 2 * 10**6
    assert (spec.privacy.sigma_micro, spec.privacy.delta_e12) == (0, 0)
    assert stated_charge(spec.privacy) == 0
    assert TASK.unpack(TASK.pack(spec)) == spec


def test_promise_of_drawn_labels_says_what_is_hidden_and_what_is_not(
    bundle: bytes,
) -> None:
    made = promise(publication(replace(SMALL, privacy=LABELS), bundle, "task").spec)
    text = "\n".join(made.lines())

    assert (made.epsilon, made.delta, made.noise_multiplier) == (2.0, 0.0, 0.0)
    assert made.unit == "one label"
    assert "label-response hides one label; another of the classes in its place" in text
    assert "epsilon 2 for each label, spent once and whatever the releases" in text
    assert "inputs, and which records there are, count as public" in text
    assert "privacy.label_epsilon of at least 2" in text
    assert made.expected in text


def test_publication_of_drawn_labels_of_a_regression_is_refused() -> None:
    model = build_model("softmax", (4,), 3, np.random.default_rng(1))
    regression = compile_model(model, loss="mse").packed

    with pytest.raises(ConfigError, match="is for classes") as caught:
        publication(replace(SMALL, privacy=LABELS), regression, "task.toml")
    assert caught.value.key == "privacy.mechanism"


def test_publication_of_drawn_labels_corrects_no_smoothed_loss() -> None:
    model = build_model("softmax", (4,), 3, np.random.default_rng(1))
    smoothed = LossSettings(label_smoothing=0.1)
    packed = compile_model(model, loss="cross-entropy", settings=smoothed).packed

    with pytest.raises(ConfigError, match="no class weights, no smoothing"):
        publication(replace(SMALL, privacy=LABELS), packed, "task.toml")
