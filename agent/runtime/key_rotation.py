"""Changing a board's key: `prepare` draws it, `finish` goes over to it.

In between an operator hands the transaction in. The board goes on with its present key
until then; what waits in the spool under that key is taken no more afterwards.
"""

import os
from pathlib import Path

from starling.agent.runtime.storage.agent_home import AgentHome
from starling.durable.files import (
    erasing,
    read_configured,
    require_private,
    storage_errors,
    sync_folder,
    write_atomic,
)
from starling.protocol.chain.key_rotation import rotate
from starling.protocol.crypto.keys import SEED_BYTES, SigningKey
from starling.protocol.errors import ConfigError
from starling.protocol.wire.envelope import ENVELOPE

NEXT_FILE = "device.seed.next"


def prepare(home: AgentHome, out: Path) -> None:
    """Draws the next key, unless it is drawn, and writes the transaction for it.

    Raises:
      ConfigError: If the board is not enrolled, or updates still wait for their proof.
      StorageError: If the disk refuses.
    """
    admission = home.admission()
    if admission is None:
        raise ConfigError(
            f"missing: not enrolled; run: starling agent enrol --home {home.path}",
            file=str(home.admission_file),
        )
    if home.spool.exists() and any(home.spool.iterdir()):
        raise ConfigError(
            "updates wait for their proof, and only the present key vouches for them: "
            "let the agent run until they are final",
            file=str(home.spool),
        )
    file = _next(home)
    if not file.exists():
        write_atomic(file, os.urandom(SEED_BYTES))
    # Read back from disk: the transaction must name the key that a power cut would
    # leave.
    present, following = home.signing_key(), _read(file)
    chain_id = admission.genesis.chain_id()
    # Each key is left once, so that its first counter is never used again.
    envelope = rotate(home.identity(), present, following, chain_id, 1)
    write_atomic(out, ENVELOPE.pack(envelope), 0o644)


def finish(home: AgentHome) -> None:
    """Goes over to the key that was drawn; again after a power cut.

    Raises:
      ConfigError: If none was drawn.
      StorageError: If the disk refuses.
    """
    file = _next(home)
    if not file.exists():
        raise ConfigError("missing; run: starling agent rotate --out", file=str(file))
    seed = _read(file).seed
    # First the id, which the next key could not give back.
    write_atomic(home.identity_file, home.identity())
    # Whoever has the former seed could sign as this board until the chain takes the
    # change.
    with erasing(home.seed_file):
        write_atomic(home.seed_file, seed)
    with erasing(file), storage_errors(file):
        file.unlink()
        sync_folder(file.parent)


def _next(home: AgentHome) -> Path:
    return home.path / "keys" / NEXT_FILE


def _read(file: Path) -> SigningKey:
    require_private(file)
    seed = read_configured(file, SEED_BYTES) or b""
    if len(seed) != SEED_BYTES:
        raise ConfigError("is no key of 32 bytes", file=str(file))
    return SigningKey(seed)
