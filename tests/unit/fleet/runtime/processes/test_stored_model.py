"""What stopped boards keep is read as theirs."""

from pathlib import Path

import numpy as np

from starling.agent.runtime.storage.agent_home import AgentHome
from starling.agent.trainer.personal_layers_file import head_bytes
from starling.fleet.datasets.partition import Examples
from starling.fleet.plan import FleetPlan
from starling.fleet.presets import DataShares
from starling.fleet.runtime.dataset_catalog import FleetDataSet
from starling.fleet.runtime.processes.home_setup import FleetHomes
from starling.fleet.runtime.processes.stored_model import personal_models
from starling.fleet.runtime.training_material import TrainingMaterial
from starling.protocol.model.training_bundle import bundle_digest

BUNDLE = b"a bundle"
SHAPE = (2, 3)
DATA = Examples(np.zeros(SHAPE, np.float32), np.zeros(2, np.int64))
THETA = np.zeros(4, "<f4")


def material(boards: int) -> TrainingMaterial:
    return TrainingMaterial(
        FleetDataSet("small", DATA, DATA, None, 2),
        [DATA] * boards,
        DataShares(SHAPE[1:], 2, 2),
        BUNDLE,
        FleetPlan(devices=boards, buffer=1),
    )


def test_board_s_own_model_is_read_from_its_own_home(tmp_path: Path) -> None:
    homes = FleetHomes(tmp_path)
    for board in (0, 2):
        file = AgentHome(homes.board(board)).personal(bundle_digest(BUNDLE))
        file.parent.mkdir(parents=True)
        file.write_bytes(head_bytes(np.full(4, 1.0 + board, np.float32)))

    found = personal_models(homes, material(3), THETA.tobytes())

    # Board 1 trained none, and has the fleet's.
    assert {board: own.tolist() for board, own in found.items()} == {
        0: [1.0] * 4,
        2: [3.0] * 4,
    }
