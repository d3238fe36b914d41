"""A whole check of a coordinator's chain file, block by block."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from coordinator.ledger import verify
from coordinator.ledger.blocks import Tip
from coordinator.ledger.fault import Fault
from coordinator.ledger.rows import Row
from coordinator.ledger.storage import Location
from coordinator.ledger.verify import Ahead, nobody
from protocol.chain import Genesis
from protocol.errors import StorageError
from protocol.statetree import StateTree


class Chain(Protocol):
    """A stored chain, with its rows as they are."""

    genesis: Genesis

    def rows(self) -> Iterator[Row]:
        """All blocks, rising."""

    def state(self) -> StateTree:
        """The stored state."""

    def transaction_index(self) -> dict[bytes, Location]:
        """Where each transaction is said to stand."""


@dataclass(frozen=True)
class Audit:
    """What a check found.

    Attributes:
      tip: The chain as far as it holds.
      transactions: How many stand in it.
      fault: The first thing that is wrong; None if all holds.
    """

    tip: Tip
    transactions: int
    fault: Fault | None


def audit(
    chain: Chain, progress: Callable[[int], None], ahead: Ahead = nobody
) -> Audit:
    """Checks every block, then that state and index are what the blocks give.

    Args:
      chain: The stored chain.
      progress: Told each height that holds.
      ahead: Who checks signatures beforehand.
    """
    tip = verify.start(chain.genesis)
    places: dict[bytes, Location] = {}
    try:
        for found in verify.check_rows(chain.genesis, chain.rows(), ahead):
            if isinstance(found, Fault):
                return Audit(tip, len(places), found)
            tip = found.tip
            for place, identity in enumerate(found.identities):
                places[identity] = Location(tip.height, place)
            progress(tip.height)
        fault = _check_state(chain, tip) or _check_index(chain, tip, places)
    except StorageError as error:
        fault = Fault(tip.height + 1, "row", 0, False, str(error))
    return Audit(tip, len(places), fault)


def _check_state(chain: Chain, tip: Tip) -> Fault | None:
    key = verify.first_difference(tip.tree, chain.state())
    if key is None:
        return None
    detail = f"the stored value of {key!r} is not what the blocks give"
    return Fault(tip.height, "state", 0, False, detail)


def _check_index(
    chain: Chain, tip: Tip, places: Mapping[bytes, Location]
) -> Fault | None:
    stored = chain.transaction_index()
    if stored == places:
        return None
    names = sorted(stored.keys() | places.keys())
    wrong = next(name for name in names if stored.get(name) != places.get(name))
    detail = f"transaction {wrong.hex()} is not indexed where it stands"
    return Fault(tip.height, "transactions index", 0, False, detail)
