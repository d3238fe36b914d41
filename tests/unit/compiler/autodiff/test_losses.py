import pytest

from starling.compiler import compile_model
from starling.compiler.autodiff.losses import find_loss
from starling.compiler.cli import main
from starling.protocol.errors import ConfigError, DecodeError
from starling.protocol.model.training_bundle import LossSettings, manifest_from_json
from tests.unit.compiler.small_models import mlp

MISPLACED = {
    "weights": ("mse", LossSettings(class_weights=(1.0,))),
    "smoothing": ("bce", LossSettings(label_smoothing=0.1)),
    "delta": ("cross-entropy", LossSettings(delta=2.0)),
}


@pytest.mark.parametrize("case", MISPLACED)
def test_setting_of_another_loss_is_refused(case: str) -> None:
    with pytest.raises(ConfigError, match="belongs to"):
        find_loss(*MISPLACED[case])


SENSELESS = {
    "weight below 0": {"class_weights": (1.0, -1.0)},
    "weight no number": {"class_weights": (float("nan"),)},
    "smoothing of 1": {"label_smoothing": 1.0},
    "delta of 0": {"delta": 0.0},
}


@pytest.mark.parametrize("case", SENSELESS)
def test_senseless_setting_is_refused(case: str) -> None:
    with pytest.raises(DecodeError):
        LossSettings(**SENSELESS[case])  # type: ignore[arg-type] # one field a case


def test_wrong_number_of_class_weights_is_refused() -> None:
    settings = LossSettings(class_weights=(1.0, 2.0))

    with pytest.raises(ConfigError, match="2 weights for 3 classes"):
        compile_model(mlp(), loss="cross-entropy", settings=settings)


def test_settings_come_back_from_the_manifest() -> None:
    settings = LossSettings(class_weights=(1.0, 2.0, 0.5), label_smoothing=0.25)

    manifest = compile_model(mlp(), loss="cross-entropy", settings=settings).manifest

    assert manifest_from_json(manifest.to_json()).loss_settings == settings


def test_command_refuses_senseless_smoothing() -> None:
    with pytest.raises(ConfigError, match="smoothing"):
        main(["missing.onnx", "--loss", "cross-entropy", "--label-smoothing", "2"])
