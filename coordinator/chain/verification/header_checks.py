"""A chain's headers and certificates, checked without the state.

Each header names its parent and the hash of the next validator set, so that a chain of
them is as certain as its first one. Transactions that are there are checked as far as
that goes without executing them: their root and their signatures.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from starling.coordinator.chain.storage.block_rows import BlockRow, unpack_body
from starling.coordinator.chain.verification.block_damage import BlockDamage
from starling.protocol.chain.blocks import (
    CERTIFICATE,
    HEADER,
    Certificate,
    Header,
    check_certificate,
)
from starling.protocol.chain.genesis import FaultModel, Genesis, ValidatorSet
from starling.protocol.crypto import merkle
from starling.protocol.errors import (
    HeightGap,
    InvalidBlock,
    ParentMismatch,
    ProofError,
    ProtocolError,
    RootMismatch,
)
from starling.protocol.ids import ChainId, Digest
from starling.protocol.wire.envelope import ENVELOPE


@dataclass(frozen=True)
class CheckedHeader:
    """A header that holds.

    Attributes:
      header: The header.
      certificate: Its certificate.
      identities: Of the block's transactions, if they are there.
    """

    header: Header
    certificate: Certificate
    identities: tuple[Digest, ...]


def check(
    genesis: Genesis,
    rows: Iterable[BlockRow],
    validators: Callable[[Digest], ValidatorSet | None],
) -> Iterator[CheckedHeader | BlockDamage]:
    """Checks rows as far as that goes without the state; ends after the first fault.

    Args:
      genesis: What the chain starts from.
      rows: Rising. If the first one is not at height 1, the genesis's validators must
        have certified it.
      validators: Sets by their hash.
    """
    chain_id, fault_model = genesis.chain_id(), FaultModel(genesis.fault_model)
    before: Header | None = None
    for row in rows:
        try:
            header = HEADER.unpack(row.header)
            certificate = CERTIFICATE.unpack(row.certificate)
            named = (certificate.height, certificate.block_id)
            if named != (header.height, header.block_id()):
                raise ProofError("certificate and header name different blocks")
            _check_place(genesis, chain_id, before, row.height, header)
            known = validators(header.validators)
            if known is None:
                raise ProofError("certified by a validator set that is not kept")
            check_certificate(certificate, chain_id, known, fault_model)
            identities = _transactions(chain_id, header, row.body)
        except ProtocolError as error:
            yield BlockDamage(row.height, "header", 0, False, str(error))
            return
        yield CheckedHeader(header, certificate, identities)
        before = header


def _check_place(
    genesis: Genesis,
    chain_id: ChainId,
    before: Header | None,
    height: int,
    header: Header,
) -> None:
    if header.chain_id != chain_id:
        raise InvalidBlock("chain_id is another chain's")
    expected = genesis.validators.digest()
    parent: bytes = chain_id
    following = 1
    if before is not None:
        expected, parent = before.next_validators, before.block_id()
        following = before.height + 1
    elif header.height > 1:
        # A chain that was begun from a snapshot has no parent to compare with.
        parent, following = header.parent, header.height
    if header.height != height or height != following:
        raise HeightGap(f"height {header.height}, stored as {height}")
    if header.parent != parent:
        raise ParentMismatch("parent is not the block before")
    if header.validators != expected:
        raise RootMismatch("validators differ from the set of this height")


def _transactions(chain_id: ChainId, header: Header, body: bytes) -> tuple[Digest, ...]:
    if not body:
        return ()
    entries = unpack_body(body)
    if merkle.root(entries) != header.tx_root:
        raise RootMismatch("tx_root differs from the block's transactions")
    envelopes = [ENVELOPE.unpack(packed) for packed in entries]
    for envelope in envelopes:
        envelope.check(chain_id)
    return tuple(envelope.identity(chain_id) for envelope in envelopes)
