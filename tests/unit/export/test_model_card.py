"""A model card tells what is known, and nothing that is not."""

from dataclasses import replace

import numpy as np
import pytest

from starling.export.model_card import TrialOnData, model_card
from starling.export.provenance import ProvenModel
from starling.protocol.learning.metrics import (
    Metrics,
    class_metrics,
    label_metrics,
    regression_metrics,
)


def _sections(card: str) -> list[str]:
    return [line[3:] for line in card.splitlines() if line.startswith("## ")]


def test_card_states_privacy_contributors_and_proof(model: ProvenModel) -> None:
    card = model_card(model, {"aaa": 3, "bbb": 5}, None)

    assert _sections(card) == [
        "What goes in and comes out",
        "Data",
        "Metrics",
        "Privacy",
        "Contributors",
        "Proof",
    ]
    assert "record-gaussian hides one record (add or remove) with epsilon 8 at" in card
    assert "no board had paid more than" in card
    assert (
        "The blocks that are kept here hold 8 updates of 2 boards that were made from "
        "earlier versions; one that came late may be in a later version than this:"
    ) in card
    assert card.index("| bbb | 5 |") < card.index("| aaa | 3 |")
    assert "a certificate of coordinator 1 (1 of 1 decide)" in card
    assert model.claim.digests.inference.hex() in card
    assert "held-out examples: accuracy" in card


def test_card_without_privacy_says_so_in_bold(model: ProvenModel) -> None:
    plain = replace(model.spec, privacy=replace(model.spec.privacy, mechanism=0))

    assert "**None.**" in model_card(replace(model, spec=plain), {}, None)


def test_card_of_a_board_does_not_name_others(model: ProvenModel) -> None:
    row = replace(model.claim.row, accuracy=None, loss=None, epsilon=None)
    own = replace(model.claim, row=row, own=model.theta)

    card = model_card(replace(model, claim=own), {}, None)

    assert "Whose they were is not known here" in card
    assert "own parameters of one board" in card
    assert "Nothing was measured." in card


@pytest.mark.parametrize(
    ("metrics", "rows"),
    [
        (
            class_metrics(np.eye(2), np.array([0, 0])),
            ["| accuracy | 50.00% |", "| recall of 1 | no example |"],
        ),
        (
            label_metrics(np.array([[1.0, -1.0]]), np.array([[1.0, 1.0]])),
            ["| all answers right | 0.00% |", "| recall of 0 | 100.00% |"],
        ),
        (
            regression_metrics(np.array([[1.0], [2.0]]), np.array([[1.0], [4.0]])),
            ["| MAE | 1 |", "| RMSE | 1.414 |", "| R² | 0.1111 |"],
        ),
    ],
    ids=["classes", "labels", "numbers"],
)
def test_card_shows_the_metrics_of_data(
    model: ProvenModel, metrics: Metrics, rows: list[str]
) -> None:
    card = model_card(model, {}, TrialOnData("test.npz", metrics, 0.5))

    assert f"On {metrics.examples} examples of test.npz:" in card
    for row in rows:
        assert row in card


def test_names_of_others_cannot_leave_their_place(model: ProvenModel) -> None:
    spec = replace(model.spec, name="nice\n# forged | `x`")

    card = model_card(replace(model, spec=spec), {}, None)

    assert card.startswith("# nice \\# forged \\| \\`x\\`, version")
