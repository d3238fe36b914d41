"""Which bundles can have their labels drawn."""

from dataclasses import replace

import pytest

from starling.protocol.errors import ConfigError
from starling.protocol.model.label_classes import classes_of, why_no_labels
from starling.protocol.model.training_bundle import (
    MANIFEST,
    LossSettings,
    TensorSpec,
    manifest_from_json,
)
from tests.contract.trainer.test_engines import CLASSES, FILES

PLAIN = manifest_from_json(FILES[MANIFEST])


def test_plain_classifier_has_its_classes() -> None:
    assert why_no_labels(PLAIN) == ""
    assert classes_of(PLAIN) == CLASSES


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"loss": "mse"}, "loss is mse"),
        ({"loss": "bce"}, "loss is bce"),
        ({"target": TensorSpec((4,), "int64")}, "takes several"),
        ({"output": TensorSpec((1,), "float32")}, "2 to 65536"),
        ({"output": TensorSpec((65537,), "float32")}, "2 to 65536"),
        ({"loss_settings": LossSettings(label_smoothing=0.1)}, "no smoothing"),
        ({"loss_settings": LossSettings((1.0, 1.0, 2.0))}, "no class weights"),
    ],
)
def test_bundle_whose_labels_cannot_be_drawn_says_why(
    change: dict[str, object], why: str
) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        classes_of(replace(PLAIN, **change))  # type: ignore[arg-type] # names of real fields

    assert caught.value.key == "privacy.mechanism"
