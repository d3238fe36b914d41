"""Receipts: what a chain says of something, provable with the genesis file alone.

A receipt holds the changes of the validator set that lead from the genesis to the
header that it stands under. A transaction is proven by its place in a block; versions,
scores and payments by their entry in the state.
"""

from typing import Annotated

from starling.protocol.chain.blocks import Certificate, Header
from starling.protocol.chain.genesis import Genesis
from starling.protocol.chain.light_client import (
    FINAL,
    HANDOVER,
    FinalityProof,
    TrustedState,
    ValidatorSetTransition,
    pin,
)
from starling.protocol.crypto.state_tree import StateProof
from starling.protocol.errors import DecodeError, ProofError
from starling.protocol.schema.msgpack_codec import Structure, many, structure

CHANGES_MAX = 1 << 16
"""Of the validator set, at about 0.9 KB each with four validators; a receipt is a file,
and leads through all of them."""


class StateEntry(Structure, frozen=True):
    """An entry of the state under a certified header."""

    header: Header
    certificate: Certificate
    proof: StateProof

    def check(self, trusted: TrustedState) -> TrustedState:
        """Believes the entry, or says why not.

        Raises:
          ProofError, SignatureError: If it is not proven.
        """
        after = trusted.accept(self.header, self.certificate)
        if self.proof.root() != self.header.state_root:
            raise ProofError("the path does not lead to the header's state root")
        return after


class Receipt(Structure, frozen=True):
    """One of the two, and what leads to its validators.

    Attributes:
      handovers: All changes of the validator set up to the header, rising.
      final: A transaction in a block.
      entry: An entry of the state.
    """

    handovers: Annotated[tuple[ValidatorSetTransition, ...], many(CHANGES_MAX)]
    final: FinalityProof | None
    entry: StateEntry | None

    def __post_init__(self) -> None:
        """Refuses both and neither."""
        if (self.final is None) == (self.entry is None):
            raise DecodeError("a receipt is of a transaction or of an entry")

    @property
    def header(self) -> Header:
        """The header that it stands under."""
        shown = self.final or self.entry
        assert shown is not None
        return shown.header

    def check(self, genesis: Genesis) -> None:
        """Believes the receipt, or says why not.

        Raises:
          ProofError, SignatureError: If it is not proven from this genesis.
        """
        trusted = pin(genesis).follow(self.handovers)
        if self.final is not None:
            self.final.check(trusted)
            # The block shows that a quorum took it; this shows who signed it.
            self.final.transaction.check(genesis.chain_id())
        if self.entry is not None:
            self.entry.check(trusted)


_FIELDS_OF_FINAL = b"\x96"
"""msgpack's header of an array of six: a receipt has three fields."""
RECEIPT = structure(Receipt, FINAL.bytes_max + CHANGES_MAX * HANDOVER.bytes_max)


def read(packed: bytes) -> Receipt:
    """Reads a receipt, or the bare `FinalityProof` that a board keeps of its update.

    Raises:
      DecodeError, LimitError: If it is neither.
    """
    if packed.startswith(_FIELDS_OF_FINAL):
        return Receipt((), FINAL.unpack(packed), None)
    return RECEIPT.unpack(packed)
