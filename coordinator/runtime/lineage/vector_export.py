"""A copy of a home for an auditor: it can be read, and not run.

    OUT/genesis
    OUT/state/chain.sqlite3    chain, models, and the sealed vectors that are kept
    OUT/content_keys           what opens those vectors, one by one

None of the coordinator's keys is in it. Who has it can read every update that it holds,
as the coordinator could.
"""

from pathlib import Path

from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.lineage.kept_vectors import (
    CONTENT_KEYS_FILE,
    VectorKeys,
    write_content_keys,
)
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.durable.files import storage_errors, write_atomic
from starling.protocol.chain.genesis import GENESIS
from starling.protocol.errors import ConfigError

_READABLE = 0o644


def copy_readable(home: CoordinatorHome, folder: Path) -> int:
    """Writes the copy.

    Args:
      home: Whose chain and vectors are copied; it may run meanwhile.
      folder: Where to; it holds no chain yet.

    Returns:
      How many vectors can be opened in it.

    Raises:
      ConfigError: If there is no chain, or `folder` holds one.
      StorageError: If the disk refuses.
    """
    copy = CoordinatorHome(folder)
    path = copy.state / CHAIN_FILE
    if path.exists():
        raise ConfigError("a chain is there already", file=str(path))
    # Before the copy: a home without keys is refused with nothing written.
    keys = VectorKeys(home)
    store = SqliteStore.read(home.state / CHAIN_FILE)
    try:
        with storage_errors(folder):
            copy.state.mkdir(parents=True, exist_ok=True)
        store.copy_to(path)
        write_atomic(folder / "genesis", GENESIS.pack(store.genesis), _READABLE)
    finally:
        store.close()
    made = SqliteStore.read(path)
    # Of the copy, since the coordinator may take uploads meanwhile.
    opened = [(each.transaction, keys.of(each)) for each in made.uploads()]
    made.close()
    rows = [(identity, key) for identity, key in opened if key is not None]
    write_content_keys(folder / CONTENT_KEYS_FILE, rows)
    return len(rows)
