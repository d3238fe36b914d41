"""Pinning a recent header, got from somebody whom the operator trusts.

Whoever follows the chain from its genesis believes each set of validators because the
one before it signed for it. Keys that were retired long ago may be anybody's by then,
and a quorum of them could lead a newcomer into another past. A checkpoint of a running
coordinator names a recent header and who decides from it on: a chain that does not lead
through it is not followed.
"""

import argparse
from pathlib import Path

from starling.coordinator.chain.storage.chain_store import ChainStore
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.storage.receipt_reader import checkpoint
from starling.coordinator.runtime.verb_types import AddVerb, Shown
from starling.durable.files import read_limited, write_atomic
from starling.protocol.chain.genesis import Genesis
from starling.protocol.chain.light_client import TRUSTED, TrustedState
from starling.protocol.errors import ConfigError, OperationError, ProtocolError

_READABLE = 0o644


def add_verbs(add: AddVerb) -> None:
    """Adds `checkpoint`."""
    verb = add(
        "checkpoint",
        _checkpoint,
        "write the last header and who decides from it on, for who joins",
    )
    verb.add_argument("--out", type=Path, required=True, help="the checkpoint to write")


def add_pin(verb: argparse.ArgumentParser) -> None:
    """The option of `init` that pins one."""
    verb.add_argument(
        "--trusted",
        type=Path,
        metavar="CHECKPOINT",
        help="of `starling coordinator checkpoint`: the chain must lead through it",
    )


def keep_pinned(home: CoordinatorHome, file: Path | None) -> TrustedState | None:
    """Pins a checkpoint in a folder; it counts from the next start on.

    Returns:
      What is pinned now; None for nothing.

    Raises:
      ConfigError: If the file is none, of another chain, or older than what is pinned.
      StorageError: If the disk refuses.
    """
    before = home.pinned()
    if file is None:
        return before
    pinned = _read(file, home.genesis())
    # An older one would take back trust in what lies between.
    if before is not None and pinned.height < before.height:
        detail = f"of height {pinned.height}; height {before.height} is pinned"
        raise ConfigError(detail, file=str(file))
    write_atomic(home.pinned_file, TRUSTED.pack(pinned), _READABLE)
    return pinned


def shown(pinned: TrustedState) -> str:
    """A pinned header, for people to compare by another way."""
    assert pinned.last is not None, "a checkpoint has a header"
    return f"height {pinned.height}, block {pinned.last.header.block_id().hex()}"


def check_pinned(store: ChainStore, pinned: TrustedState | None, file: str) -> None:
    """Refuses a stored chain that does not lead through what is pinned.

    Raises:
      ConfigError: If it has another block there.
    """
    if pinned is None or pinned.last is None:
        return
    stored = store.header(pinned.height)
    wanted = pinned.last.header.block_id()
    # One that is not there yet is compared when the chain gets there.
    if stored is not None and stored.header.block_id() != wanted:
        raise ConfigError(
            f"the stored chain has another block at height {pinned.height}: it is of "
            "another past. Set state/chain.sqlite3 and its -wal and -shm aside, or "
            "remove this file if it is the checkpoint that is wrong",
            file=file,
        )


def _checkpoint(home: CoordinatorHome, options: argparse.Namespace) -> Shown:
    pinned = checkpoint(home.state, home.genesis())
    if pinned is None or pinned.last is None:
        raise OperationError("no block yet: the genesis says whom to trust")
    write_atomic(options.out, TRUSTED.pack(pinned), _READABLE)
    document = {
        "checkpoint": str(options.out),
        "height": pinned.height,
        "block": pinned.last.header.block_id().hex(),
        "validators": [one.name for one in pinned.validators.members],
    }
    return document, f"{options.out}: {shown(pinned)}"


def _read(file: Path, genesis: Genesis) -> TrustedState:
    try:
        found = TRUSTED.unpack(read_limited(file, TRUSTED.bytes_max))
    except ProtocolError as error:
        raise ConfigError(f"no checkpoint: {error}", file=str(file)) from error
    if found.chain_id != genesis.chain_id():
        raise ConfigError("of another chain", file=str(file))
    if found.last is None:
        raise ConfigError("names no header", file=str(file))
    return found
