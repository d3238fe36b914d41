"""Audit of the boards' receipts against every coordinator's chain.

A board holds the proof of each update that is final, and a receipt for each other one
that a coordinator acknowledged. Whatever failed meanwhile, a proof must hold on all
chains, and an acknowledged update must stand in them, wait at a coordinator, or be too
old for any version.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from starling.protocol.chain.light_client import FINAL, FinalityProof, TrustedState
from starling.protocol.errors import ProtocolError
from starling.protocol.ids import BlockHash, ChainId, Digest


class ChainLookup(Protocol):
    """One coordinator's chain, to look something up in."""

    @property
    def name(self) -> str:
        """Name of the update's board."""

    @property
    def height(self) -> int:
        """Of its last block."""

    def place(self, transaction: Digest) -> tuple[int, int] | None:
        """Height and index of a transaction."""

    def block_id(self, height: int) -> BlockHash | None:
        """The block at a height."""

    def waits(self, transaction: Digest) -> bool:
        """True if an update is stored and waits for a block."""


@dataclass(frozen=True)
class AcknowledgedUpdate:
    """An update that a coordinator acknowledged and no proof followed yet.

    Attributes:
      update: Its id.
      base: Its base version.
      oldest: Oldest base that the newest version still takes.
    """

    update: Digest
    base: int
    oldest: int


@dataclass(frozen=True)
class ReceiptAudit:
    """Findings of the audit.

    Attributes:
      held: Proofs and receipts of all boards.
      verified: Of these, that stand on every chain that is long enough.
      waiting: Acknowledged, stored by a coordinator, not in a block yet.
      stale: Acknowledged, and too old by now.
      wrong: What does not hold, a line for each.
      chains: Chains that were compared.
      short: Names of coordinators whose chain ends before some receipt.
      forked: Heights at which two chains hold different blocks.
    """

    held: int
    verified: int
    waiting: int
    stale: int
    wrong: tuple[str, ...]
    chains: int
    short: tuple[str, ...]
    forked: tuple[int, ...]

    @property
    def hold(self) -> bool:
        """True if nothing is wrong."""
        return not self.wrong and not self.forked

    @property
    def text(self) -> str:
        """One line for people."""
        words = f"{self.verified} of {self.held} verify on {self.chains} chains"
        if self.waiting:
            words += f"; {self.waiting} acknowledged and waiting for a block"
        if self.stale:
            words += f"; {self.stale} acknowledged and too old by now"
        if self.short:
            words += f"; ends before the last of them: {', '.join(self.short)}"
        if self.wrong:
            words += f"; {len(self.wrong)} WRONG: {self.wrong[0]}"
        if self.forked:
            words += f"; FORK at height {self.forked[0]}"
        return words


def compare(
    proofs: Mapping[str, bytes],
    acknowledged: Sequence[AcknowledgedUpdate],
    chains: Sequence[ChainLookup],
    trusted: TrustedState,
) -> ReceiptAudit:
    """Looks every proof and receipt up on every chain.

    Args:
      proofs: Packed `FinalityProof`s by a name for people.
      acknowledged: What was acknowledged beside them.
      chains: One of each coordinator.
      trusted: What boards pin.
    """
    wrong: list[str] = []
    short: set[str] = set()
    verified = 0
    for name, packed in sorted(proofs.items()):
        try:
            final = FINAL.unpack(packed)
            final.check(trusted)
            final.transaction.check(trusted.chain_id)
        except ProtocolError as error:
            wrong.append(f"{name}: {error}")
            continue
        missing = [chain for chain in chains if chain.height < final.header.height]
        # One that is behind contradicts nothing, and proves nothing.
        short |= {chain.name for chain in missing}
        others = [chain.name for chain in chains if not _holds(chain, final, trusted)]
        verified += not others
        if others:
            wrong.append(f"{name}: not on the chain of {', '.join(others)}")
    counts = {"chain": 0, "waiting": 0, "stale": 0}
    for each in acknowledged:
        outcome = _outcome(each, chains)
        if outcome in counts:
            counts[outcome] += 1
        else:
            wrong.append(f"update {each.update.hex()[:16]}: acknowledged and {outcome}")
    return ReceiptAudit(
        len(proofs) + len(acknowledged),
        verified + counts["chain"],
        counts["waiting"],
        counts["stale"],
        tuple(wrong),
        len(chains),
        tuple(sorted(short)),
        forks(chains),
    )


def _holds(chain: ChainLookup, final: FinalityProof, trusted: TrustedState) -> bool:
    """True if a chain contains what a proof states, as far as it reaches."""
    if chain.height < final.header.height:
        return True
    identity = _identity(final, trusted.chain_id)
    here = (final.header.height, final.index)
    same = chain.block_id(final.header.height) == final.header.block_id()
    return same and chain.place(identity) == here


def _identity(final: FinalityProof, chain_id: ChainId) -> Digest:
    return final.transaction.identity(chain_id)


def _outcome(each: AcknowledgedUpdate, chains: Iterable[ChainLookup]) -> str:
    known = list(chains)
    if any(chain.place(each.update) is not None for chain in known):
        return "chain"
    if any(chain.waits(each.update) for chain in known):
        return "waiting"
    return "stale" if each.base < each.oldest else "lost"


def forks(chains: Sequence[ChainLookup]) -> tuple[int, ...]:
    """The lowest height at which two chains differ, if there is one.

    A block names its parent's hash: chains that agree at a height agree below it.
    """
    chains = [chain for chain in chains if chain.height]
    low, high = 0, min((chain.height for chain in chains), default=0)
    if not high or _agree(chains, high):
        return ()
    # Agreement goes down the chain, so that halving finds the first difference.
    while high - low > 1:
        middle = (low + high) // 2
        if _agree(chains, middle):
            low = middle
        else:
            high = middle
    return (high,)


def _agree(chains: Sequence[ChainLookup], height: int) -> bool:
    return len({chain.block_id(height) for chain in chains}) == 1
