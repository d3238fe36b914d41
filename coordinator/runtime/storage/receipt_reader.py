"""Receipts read from a stored chain."""

from pathlib import Path

from starling.coordinator.chain.verification.receipt import (
    CHANGES_MAX,
    RECEIPT,
    Receipt,
    StateEntry,
)
from starling.coordinator.loop.storage.blob_cache import final_of
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.protocol.chain.genesis import Genesis
from starling.protocol.chain.light_client import (
    TrustedState,
    ValidatorSetTransition,
    pin,
    version_key,
)
from starling.protocol.errors import OperationError, ProtocolError, StorageError
from starling.protocol.ids import DIGEST_BYTES, Digest


def transaction(store: SqliteStore, identity: str) -> Receipt:
    """Proof that a transaction is in a block.

    Args:
      store: The chain.
      identity: The transaction's id, in hex.

    Raises:
      OperationError: If it does not, or is no longer kept.
    """
    try:
        digest = bytes.fromhex(identity)
    except ValueError as error:
        raise OperationError(f"not hex: {identity!r}") from error
    final = final_of(store, Digest(digest)) if len(digest) == DIGEST_BYTES else None
    if final is None:
        first = store.first_body()
        kept = f", which keeps them from height {first}" if first > 1 else ""
        raise OperationError(f"no transaction {identity} on this chain{kept}")
    return Receipt(_handovers(store, final.header.height), final, None)


def entry(store: SqliteStore, key: bytes) -> Receipt:
    """Proof that a key of the state has its value under the last header.

    Raises:
      OperationError: If the state has no such key, or there is no block yet.
    """
    tip = store.tip()
    if tip.header is None or tip.certificate is None or tip.tree.get(key) is None:
        raise OperationError(f"{key.decode()} is not in the state, or no longer")
    shown = StateEntry(tip.header, tip.certificate, tip.tree.prove(key))
    return Receipt(_handovers(store, tip.header.height), None, shown)


def version(store: SqliteStore, task: int, number: int) -> Receipt | None:
    """Proof of a version's digest: in the state, or kept since it was the best.

    Returns:
      None if there is neither.

    Raises:
      OperationError: If the validators changed too often.
      StorageError: If what is kept is damaged.
    """
    key = version_key(task, number)
    if store.get(key) is not None:
        return entry(store, key)
    kept = kept_entry(store, task)
    if kept is None or kept.proof.key != key:
        return None
    return Receipt(_handovers(store, kept.header.height), None, kept)


def kept_entry(store: SqliteStore, task: int) -> StateEntry | None:
    """Entry of a task's best version, kept since it was evaluated; None without one.

    Raises:
      StorageError: If it is damaged.
    """
    packed = store.proof(task)
    try:
        return None if packed is None else RECEIPT.unpack(packed).entry
    except ProtocolError as error:
        detail = f"the proof of task {task}'s best version is damaged: {error}"
        raise StorageError(detail) from error


def checkpoint(state: Path, genesis: Genesis) -> TrustedState | None:
    """Trusted state for newcomers, from the last header on.

    Args:
      state: The folder of the chain, which may not be there yet.
      genesis: What it starts from.

    Returns:
      None if there is no block yet: then the genesis says all.

    Raises:
      ProofError, SignatureError: If a stored change does not follow from the genesis.
      StorageError: If what is stored is damaged.
    """
    if not (state / CHAIN_FILE).exists():
        return None
    store = SqliteStore.read(state / CHAIN_FILE)
    # Header and sets of one moment, whatever the coordinator writes meanwhile.
    with store.one_moment():
        ends, last = store.epochs(), store.header(store.height())
    store.close()
    if last is None:
        return None
    # Followed as a newcomer would: a damaged file is not handed on as something to
    # trust.
    return pin(genesis).follow(ends).accept(last.header, last.certificate)


def _handovers(store: SqliteStore, height: int) -> tuple[ValidatorSetTransition, ...]:
    passed = [one for one in store.epochs() if one.header.height <= height]
    if len(passed) > CHANGES_MAX:
        raise OperationError(
            f"the validators changed {len(passed)} times up to height {height}; a "
            f"receipt leads through {CHANGES_MAX} changes at most"
        )
    return tuple(passed)
