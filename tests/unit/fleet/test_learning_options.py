"""The compiler's doors are refused by their flag."""

import pytest

from starling.fleet.learning_options import LearningOptions, class_weights
from starling.protocol.errors import ConfigError


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loss": "hinge"}, "--loss: 'hinge' is not one of cross-entropy"),
        ({"optimiser": "lion"}, "--optimiser: 'lion' is not one of sgd"),
        ({"epochs": 0}, r"--epochs: 0 is not in \[1, 1000\]"),
        ({"batch": 70_000}, "--batch: 70000 is not in"),
        ({"local_learning_rate": float("nan")}, "--local-learning-rate: nan"),
        ({"prox": -0.1}, r"--prox: -0.1 is not in \[0, 256\]"),
        ({"personal": 300.0}, r"--personal: 300 is not in \[0, 256\]"),
    ],
)
def test_wishes_out_of_bounds_name_the_flag(
    changes: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        LearningOptions(**changes)  # type: ignore[arg-type]  # a table


def test_class_weights_are_numbers_or_balanced() -> None:
    assert class_weights(None) == ((), False)
    assert class_weights("1,2.5") == ((1.0, 2.5), False)
    assert class_weights("balanced") == ((), True)
    with pytest.raises(ConfigError, match="--class-weights: 'a' is neither"):
        class_weights("a")


@pytest.mark.parametrize(
    ("privacy", "wishes", "refused"),
    [
        ("record", {"epochs": 2, "batch": 8}, "--epochs"),
        ("record", {"personal": 0.1, "epochs": 2, "batch": 8}, ""),
        ("record", {"personal": 0.1, "prox": 0.1}, "--prox"),
        ("record-dpsgd", {"personal": 0.1, "batch": 8}, "--batch"),
    ],
)
def test_steps_are_the_own_model_s_where_updates_are_none(
    privacy: str, wishes: dict[str, object], refused: str
) -> None:
    found = LearningOptions(**wishes)  # type: ignore[arg-type]  # a table

    assert found.about_steps(privacy) == refused
