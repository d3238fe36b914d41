"""Reads from disk what boards and coordinators hold when a run is over."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from starling.agent.runtime.storage.proof_store import SUFFIX
from starling.coordinator.chain.state import task_records
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.durable.files import read_limited
from starling.fleet.report.receipt_audit import (
    AcknowledgedUpdate,
    ReceiptAudit,
    compare,
)
from starling.fleet.runtime.processes.home_setup import FleetHomes, coordinator_name
from starling.fleet.runtime.processes.status_document import read_status
from starling.protocol.chain.light_client import FINAL, pin
from starling.protocol.ids import BlockHash, Digest


@dataclass(frozen=True)
class StoredChain:
    """A stopped coordinator's chain; see `fleet.report.receipt_audit.ChainLookup`.

    Attributes:
      name: Whose it is.
      height: Of its last block.
      first_body: Lowest height whose transactions are kept.
      store: Where it lies.
      waiting: Ids of the updates that wait for a block.
    """

    name: str
    height: int
    first_body: int
    store: SqliteStore
    waiting: frozenset[Digest]

    def place(self, transaction: Digest) -> tuple[int, int] | None:
        """See `Chain`."""
        found = self.store.locate(transaction)
        return None if found is None else (found.height, found.place)

    def block_id(self, height: int) -> BlockHash | None:
        """See `Chain`."""
        # Headers outlive the bodies of their blocks.
        stored = self.store.header(height)
        return None if stored is None else stored.header.block_id()

    def waits(self, transaction: Digest) -> bool:
        """See `Chain`."""
        return transaction in self.waiting


def compare_receipts(homes: FleetHomes, boards: int, coordinators: int) -> ReceiptAudit:
    """Compares what the boards hold with every coordinator's chain.

    Args:
      homes: Of the fleet, whose processes have ended.
      boards: How many.
      coordinators: How many.

    Raises:
      StorageError: If a file cannot be read.
    """
    proofs: dict[str, bytes] = {}
    for number in range(boards):
        folder = homes.board(number) / "proofs"
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            name = f"board {number:03d}, {path.stem}"
            proofs[name] = read_limited(path, FINAL.bytes_max)
    with _chains(homes, coordinators) as chains:
        acknowledged = _acknowledged(homes, boards, chains)
        genesis = chains[0].store.genesis
        return compare(proofs, acknowledged, chains, pin(genesis))


@contextmanager
def _chains(homes: FleetHomes, coordinators: int) -> Iterator[list[StoredChain]]:
    with ExitStack() as stack:
        chains = []
        for number in range(1, coordinators + 1):
            path = homes.coordinator_at(number) / "state" / CHAIN_FILE
            store = SqliteStore.read(path)
            stack.callback(store.close)
            waiting = [each.update for each in store.uploads_waiting()]
            chain_id = store.genesis.chain_id()
            chains.append(
                StoredChain(
                    coordinator_name(number),
                    store.height(),
                    store.first_body(),
                    store,
                    frozenset(update.identity(chain_id) for update in waiting),
                )
            )
        yield chains


def _acknowledged(
    homes: FleetHomes, boards: int, chains: list[StoredChain]
) -> list[AcknowledgedUpdate]:
    longest = max(chains, key=lambda chain: chain.height)
    tree = longest.store.tip().tree
    head, spec = task_records.head(tree, 0) or 0, task_records.task(tree, 0)
    # What is older is dropped by the rules: that no block has it is no loss.
    oldest = 0 if spec is None else head - spec.aggregation.staleness_max
    found = []
    for number in range(boards):
        status = read_status(homes.board(number) / "status.json") or {}
        for row in status.get("spool", []):
            if row["accepted"]:
                update = Digest(bytes.fromhex(row["update"]))
                found.append(AcknowledgedUpdate(update, row["version"], oldest))
    return found
