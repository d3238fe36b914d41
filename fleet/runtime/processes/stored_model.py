"""Models that stopped coordinators and boards keep."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from starling.agent.runtime.storage.agent_home import AgentHome
from starling.agent.trainer.personal_layers_file import personal_model
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.fleet.runtime.processes.home_setup import FleetHomes
from starling.fleet.runtime.training_material import TrainingMaterial
from starling.protocol.errors import ConfigError, StorageError
from starling.protocol.model.training_bundle import bundle_digest

TASK = 0
"""A fleet publishes one."""


def newest_inference(home: Path) -> bytes | None:
    """The parameters that boards use, (d,) little-endian float32.

    Args:
      home: The coordinator's.

    Returns:
      Of the highest version that is kept whole; None if none is, or the chain is
      damaged, which its verification says.
    """
    try:
        store = SqliteStore.read(CoordinatorHome(home).state / CHAIN_FILE)
    except (ConfigError, StorageError):
        return None
    try:
        for row in reversed(store.versions(TASK)):
            model = store.model(TASK, row.version)
            found = None if model is None else store.blob(model.inference)
            if found is not None:
                return found
    except StorageError:
        return None
    finally:
        store.close()
    return None


def personal_models(
    homes: FleetHomes, material: TrainingMaterial, inference: bytes
) -> dict[int, NDArray[np.float32]]:
    """Models that boards trained for themselves, by board, from 0 on.

    Args:
      homes: Of the fleet.
      material: That it started from.
      inference: (d,) little-endian float32; what a board without one has.
    """
    bundle, theta = bundle_digest(material.bundle), np.frombuffer(inference, "<f4")
    found = {}
    for board in range(material.plan.devices):
        file = AgentHome(homes.board(board)).personal(bundle)
        own = personal_model(file, theta)
        if own is not theta:
            found[board] = own
    return found
