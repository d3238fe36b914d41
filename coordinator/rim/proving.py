"""Receipts read from a stored chain."""

from coordinator.ledger.receipt import CHANGES_MAX, Entry, Receipt
from coordinator.rim.store import SqliteStore
from coordinator.rim.wholes import final_of
from protocol.errors import OperationError
from protocol.ids import DIGEST_BYTES, Digest
from protocol.light import Handover


def transaction(store: SqliteStore, identity: str) -> Receipt:
    """That a transaction stands in a block.

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
    """That a key of the state has its value under the last header.

    Raises:
      OperationError: If the state has no such key, or there is no block yet.
    """
    tip = store.tip()
    if tip.header is None or tip.certificate is None or tip.tree.get(key) is None:
        raise OperationError(f"{key.decode()} is not in the state, or no longer")
    shown = Entry(tip.header, tip.certificate, tip.tree.prove(key))
    return Receipt(_handovers(store, tip.header.height), None, shown)


def _handovers(store: SqliteStore, height: int) -> tuple[Handover, ...]:
    passed = [one for one in store.epochs() if one.header.height <= height]
    if len(passed) > CHANGES_MAX:
        raise OperationError(f"more than {CHANGES_MAX} changes of the validators")
    return tuple(passed)
