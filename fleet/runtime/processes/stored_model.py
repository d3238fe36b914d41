"""The newest model that a stopped coordinator keeps."""

from pathlib import Path

from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.protocol.errors import ConfigError, StorageError

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
