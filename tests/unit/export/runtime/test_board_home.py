"""A board's home: the model in use with its proof, and the board's own parameters."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from starling.agent.runtime.storage import trusted_state_file as file
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.agent.runtime.storage.trusted_state_file import PROOF_FILE
from starling.agent.trainer.personal_layers_file import head_bytes
from starling.compiler import compile_model
from starling.engine.opened_bundle import open_packed
from starling.export.model_card import EXACT_NOTE, model_card
from starling.export.onnx_model import parameter_names
from starling.export.provenance import ProvenModel, metadata
from starling.export.runtime.board_home import BoardModels
from starling.fleet.reference_models import build_model
from starling.protocol.errors import (
    ConfigError,
    OperationError,
    ProtocolError,
    StorageError,
)
from starling.protocol.learning.local_optimiser import PersonalPolicy
from starling.protocol.model.parameter_layout import local_slices

BUNDLE = compile_model(
    build_model("mlp", (64,), 10, np.random.default_rng(1)),
    loss="cross-entropy",
    local=["linear.*"],
)


def test_board_proves_what_the_coordinator_proves(
    board: Path, model: ProvenModel
) -> None:
    source = BoardModels(board)

    found = source.proven(source.rows(0)[-1])

    assert found.theta.tobytes() == model.theta.tobytes()
    assert found.spec == model.spec
    assert found.signers == model.signers
    assert source.contributors(source.rows(0)[-1]) == {}


def test_board_that_did_not_fetch_the_newest_still_has_what_it_uses(
    board: Path,
) -> None:
    # A manifest that came since proves another version.
    home = AgentHome(board)
    (home.state / "progress").write_bytes(b"damaged")

    source = BoardModels(board)

    assert [row.kept for row in source.rows(0)] == [True]
    assert source.proven(source.rows(0)[0]).signers == ("coordinator 1",)


def test_board_without_the_parameters_says_so(board: Path) -> None:
    source = BoardModels(board)
    row = source.rows(0)[0]
    for blob in (board / "models").glob("?" * 64):
        blob.unlink()

    assert not source.rows(0)[0].kept
    with pytest.raises(OperationError, match="has not fetched"):
        source.proven(row)


def test_board_whose_parameters_changed_is_not_believed(
    board: Path, model: ProvenModel
) -> None:
    file = board / "models" / model.claim.digests.inference.hex()
    file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
    source = BoardModels(board)

    with pytest.raises(ProtocolError, match="parameters are not the chain's"):
        source.proven(source.rows(0)[0])


def test_board_that_heard_nothing_says_so(board: Path) -> None:
    (board / "state" / "progress").unlink()
    (board / "models" / PROOF_FILE).unlink()

    with pytest.raises(OperationError, match="not been shown a version"):
        BoardModels(board)


def test_board_that_is_not_admitted_says_so(board: Path) -> None:
    (board / "admission.json").unlink()

    with pytest.raises(ConfigError, match="starling agent enrol"):
        BoardModels(board)


def test_board_takes_part_in_one_task(board: Path) -> None:
    with pytest.raises(ConfigError, match="takes part in task 0"):
        BoardModels(board).rows(3)


def test_board_without_own_parameters_has_no_personal_model(board: Path) -> None:
    source = BoardModels(board)

    with pytest.raises(OperationError, match="no parameter of this task stays"):
        source.personal(source.proven(source.rows(0)[0]))


def test_manifest_that_is_none_is_damage(board: Path) -> None:
    for path in (board / "state" / "progress", board / "models" / PROOF_FILE):
        pinned = AgentHome(board).admission()
        assert pinned is not None
        stored = file.read_progress(path, pinned.pinned)
        file.write_progress(path, file.StoredTrust(stored.trusted, b"no manifest"))

    with pytest.raises(StorageError, match="damaged"):
        BoardModels(board)


@pytest.fixture
def personal(model: ProvenModel) -> ProvenModel:
    """The proven model, as if its bundle had a head."""
    return replace(model, opened=open_packed(BUNDLE.packed), theta=BUNDLE.theta)


def test_own_parameters_stand_in_the_places_of_the_fleets(
    board: Path, personal: ProvenModel
) -> None:
    places = local_slices(BUNDLE.manifest.parameters)
    own = np.full(sum(p.stop - p.start for p in places), 0.25, np.float32)
    AgentHome(board).head(personal.spec.bundle).write_bytes(own.tobytes())

    found = BoardModels(board).personal(personal)

    assert found.claim.own is not None
    kept = np.ones(len(found.theta), bool)
    for place in places:
        assert (found.theta[place] == 0.25).all()
        kept[place] = False
    assert (found.theta[kept] == personal.theta[kept]).all()


def test_board_that_trained_no_head_yet_says_so(
    board: Path, personal: ProvenModel
) -> None:
    with pytest.raises(OperationError, match="has not trained its own linear"):
        BoardModels(board).personal(personal)


@pytest.fixture
def ditto(model: ProvenModel) -> ProvenModel:
    """The proven model, as if its task let boards train their own."""
    return replace(model, spec=replace(model.spec, personal=PersonalPolicy(1, 1)))


def test_board_s_own_model_is_told_from_the_fleet_s_and_has_no_epsilon(
    board: Path, ditto: ProvenModel
) -> None:
    own = ditto.theta + np.float32(1.0)
    AgentHome(board).personal(ditto.spec.bundle).write_bytes(head_bytes(own))

    found = BoardModels(board).personal(ditto)

    assert found.is_boards_own
    assert found.theta.tolist() == own.tolist()
    told = metadata(found, parameter_names(found.opened))
    assert (told["starling.personal"], told["starling.privacy"]) == ("true", "null")
    assert told["starling.parameters_digest"] == ditto.claim.digests.inference.hex()
    card = model_card(found, {}, None)
    assert "**One board's own model**, which no chain proves." in card
    assert EXACT_NOTE in card
    assert "with epsilon" not in card


def test_board_that_trained_no_own_model_yet_says_so(
    board: Path, ditto: ProvenModel
) -> None:
    with pytest.raises(OperationError, match="has not trained a model of its own yet"):
        BoardModels(board).personal(ditto)
