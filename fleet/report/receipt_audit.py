"""Audit of the boards' receipts against every coordinator's chain.

A board holds the proof of each update that is final, and a receipt for each other one
that a coordinator acknowledged. Whatever failed meanwhile, a proof must hold on all
chains, and an acknowledged update must stand in them, wait at a coordinator, or be too
old for any version. A chain of which older blocks were dropped is asked for what it
kept: a header is enough for a proof, which has the way to it.
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

    @property
    def first_body(self) -> int:
        """Lowest height whose transactions are kept."""

    def place(self, transaction: Digest) -> tuple[int, int] | None:
        """Height and index of a transaction, of those that are kept."""

    def block_id(self, height: int) -> BlockHash | None:
        """The block at a height; None where not even its header is kept."""

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
      unchecked: Of these, that some chain cannot tell of: it kept too little.
      waiting: Acknowledged, stored by a coordinator, not in a block yet.
      stale: Acknowledged, and too old by now.
      wrong: What does not hold, a line for each.
      chains: Chains that were compared.
      short: Names of coordinators whose chain ends before some receipt.
      forked: Heights at which two chains hold different blocks.
    """

    held: int
    verified: int
    unchecked: int
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
        if self.unchecked:
            words += f"; {self.unchecked} not checkable, of blocks that were dropped"
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
    verified = unchecked = 0
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
        unknown = any(_dropped(chain, final.header.height) for chain in chains)
        unchecked += not others and unknown
        verified += not others and not unknown
        if others:
            wrong.append(f"{name}: not on the chain of {', '.join(others)}")
    counts = {"chain": 0, "waiting": 0, "stale": 0, "unchecked": 0}
    for each in acknowledged:
        outcome = _outcome(each, chains)
        if outcome in counts:
            counts[outcome] += 1
        else:
            wrong.append(f"update {each.update.hex()[:16]}: acknowledged and {outcome}")
    return ReceiptAudit(
        len(proofs) + len(acknowledged),
        verified + counts["chain"],
        unchecked + counts["unchecked"],
        counts["waiting"],
        counts["stale"],
        tuple(wrong),
        len(chains),
        tuple(sorted(short)),
        forks(chains),
    )


def _holds(chain: ChainLookup, final: FinalityProof, trusted: TrustedState) -> bool:
    """True if a chain contains what a proof states, as far as it reaches."""
    height = final.header.height
    if chain.height < height or _dropped(chain, height):
        return True
    if chain.block_id(height) != final.header.block_id():
        return False
    # The proof itself has the way from its transaction to the header.
    if height < chain.first_body:
        return True
    return chain.place(_identity(final, trusted.chain_id)) == (height, final.index)


def _dropped(chain: ChainLookup, height: int) -> bool:
    """True if a chain has come past a height, and kept nothing of its block."""
    return height < chain.first_body and chain.block_id(height) is None


def _identity(final: FinalityProof, chain_id: ChainId) -> Digest:
    return final.transaction.identity(chain_id)


def _outcome(each: AcknowledgedUpdate, chains: Iterable[ChainLookup]) -> str:
    known = list(chains)
    if any(chain.place(each.update) is not None for chain in known):
        return "chain"
    if any(chain.waits(each.update) for chain in known):
        return "waiting"
    if each.base < each.oldest:
        return "stale"
    # It may stand in a block that all of them dropped.
    return "unchecked" if all(chain.first_body > 1 for chain in known) else "lost"


def forks(chains: Sequence[ChainLookup]) -> tuple[int, ...]:
    """The lowest height at which two chains are seen to differ, if there is one.

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
    known = {chain.block_id(height) for chain in chains}
    # One that began from a snapshot has no earlier headers, and contradicts none.
    return len(known - {None}) <= 1
