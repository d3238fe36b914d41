"""Re-checks a stored chain from its genesis.

Every row is decoded, its certificate and transactions are verified, and its state root
is computed again by execution. The check needs nothing but the genesis and the rows.
Signatures need no state, so that others may check those of later rows beforehand.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from starling.coordinator.chain.execution import block_builder
from starling.coordinator.chain.execution.block_builder import ChainHead
from starling.coordinator.chain.execution.state_machine import genesis_tree
from starling.coordinator.chain.mempool import Mempool
from starling.coordinator.chain.storage.block_rows import BlockRow, unpack_body
from starling.coordinator.chain.verification.block_damage import BlockDamage, locate
from starling.protocol.chain.blocks import (
    CERTIFICATE,
    HEADER,
    Block,
    Certificate,
    Header,
    check_certificate,
)
from starling.protocol.chain.genesis import FaultModel, Genesis, ValidatorSet
from starling.protocol.crypto.state_tree import StateTree
from starling.protocol.errors import HeightGap, ProofError, ProtocolError
from starling.protocol.ids import ChainId, Digest
from starling.protocol.wire.envelope import ENVELOPE

_NO_MEMPOOL = Mempool()


@dataclass(frozen=True)
class SignatureChecks:
    """Signatures of a row that were checked beforehand.

    Attributes:
      validators: Hash of the set under which its certificate holds; None for none.
      transactions: Whether all signatures of its transactions hold.
    """

    validators: Digest | None = None
    transactions: bool = False


NOTHING = SignatureChecks()
Current = Callable[[], ValidatorSet]
"""The set that certifies the block after the last one that was checked."""
Ahead = Callable[
    [Iterator[BlockRow], Current], Iterator[tuple[BlockRow, SignatureChecks]]
]
"""Somebody who reads rows ahead of the check, and vouches for signatures."""


def nobody(
    rows: Iterator[BlockRow], current: Current
) -> Iterator[tuple[BlockRow, SignatureChecks]]:
    """Vouches for nothing."""
    del current
    return ((row, NOTHING) for row in rows)


def vouch(
    chain_id: ChainId, validators: ValidatorSet, fault_model: FaultModel, row: BlockRow
) -> SignatureChecks:
    """Checks the signatures of a row, for a check of everything else to come.

    Args:
      chain_id: The chain.
      validators: The set that probably certified it.
      fault_model: The genesis's.
      row: The row; for a damaged one nothing is vouched.
    """
    try:
        certificate = CERTIFICATE.unpack(row.certificate)
        check_certificate(certificate, chain_id, validators, fault_model)
        for packed in unpack_body(row.body):
            ENVELOPE.unpack(packed).check(chain_id)
    except ProtocolError:
        return NOTHING
    return SignatureChecks(validators.digest(), True)


@dataclass(frozen=True)
class CheckedBlock:
    """A block that holds.

    Attributes:
      tip: The chain with it.
      identities: Of its transactions, in order.
      changes: Of the state's keys; None removes one.
    """

    tip: ChainHead
    identities: tuple[Digest, ...]
    changes: Mapping[bytes, bytes | None]


def start(genesis: Genesis) -> ChainHead:
    """The chain before its first block."""
    return ChainHead(genesis, genesis.chain_id(), None, None, genesis_tree(genesis))


def check_rows(
    genesis: Genesis,
    rows: Iterable[BlockRow],
    ahead: Ahead = nobody,
    begin: ChainHead | None = None,
) -> Iterator[CheckedBlock | BlockDamage]:
    """Checks a chain; ends after the first fault.

    Args:
      genesis: What it starts from.
      rows: All blocks, rising.
      ahead: Who checks signatures beforehand.
      begin: What the first row follows; by default the genesis.
    """
    tip = begin or start(genesis)

    def current() -> ValidatorSet:
        # The set as it is when asked: `tip` moves while others read ahead.
        return tip.roster.validators

    for row, vouched in ahead(iter(rows), current):
        try:
            checked = _check(tip, row, vouched)
        except ProtocolError as error:
            yield locate(tip, row, str(error))
            return
        yield checked
        # Only a block that holds is built upon.
        tip = checked.tip


def _check(tip: ChainHead, row: BlockRow, vouched: SignatureChecks) -> CheckedBlock:
    if row.height != tip.height + 1:
        raise HeightGap(f"height {row.height} follows {tip.height}")
    header = HEADER.unpack(row.header)
    certificate = CERTIFICATE.unpack(row.certificate)
    _check_certificate(tip, header, certificate, vouched)
    block = Block(header, unpack_body(row.body))
    # Nothing waits in this check, so that no signature is taken for known.
    prepared = block_builder.check(tip, block, _NO_MEMPOOL, vouched.transactions)
    tree = prepared.execution.tree
    after = replace(tip, header=header, certificate=certificate, tree=tree)
    identities = tuple(result.identity for result in prepared.execution.results)
    return CheckedBlock(after, identities, prepared.execution.changes)


def _check_certificate(
    tip: ChainHead, header: Header, certificate: Certificate, vouched: SignatureChecks
) -> None:
    named = (certificate.height, certificate.block_id)
    if named != (header.height, header.block_id()):
        raise ProofError("certificate and header name different blocks")
    validators = tip.roster.validators
    # The set changed between reading ahead and here: the vouching was for another one.
    if vouched.validators != validators.digest():
        fault_model = FaultModel(tip.genesis.fault_model)
        check_certificate(certificate, tip.chain_id, validators, fault_model)


def first_difference(computed: StateTree, stored: StateTree) -> bytes | None:
    """The first key whose stored value is not the computed one; None if none is."""
    # Equal roots spare looking at every key.
    if computed.root() == stored.root():
        return None
    ours, theirs = dict(computed.items()), dict(stored.items())
    keys = sorted(ours.keys() | theirs.keys())
    return next((key for key in keys if ours.get(key) != theirs.get(key)), None)
