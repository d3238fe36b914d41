"""Re-checks a stored chain from its genesis.

Every row is decoded, its certificate and transactions are verified, and its state root
is computed again by execution. The check needs nothing but the genesis and the rows.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from coordinator.ledger import blocks
from coordinator.ledger.blocks import Tip
from coordinator.ledger.fault import Fault, locate
from coordinator.ledger.mempool import Mempool
from coordinator.ledger.rows import Row, unpack_body
from coordinator.ledger.state import genesis_tree
from protocol.chain import (
    CERTIFICATE,
    HEADER,
    Block,
    Certificate,
    FaultModel,
    Genesis,
    Header,
    check_certificate,
)
from protocol.errors import HeightGap, ProofError, ProtocolError
from protocol.ids import Digest
from protocol.statetree import StateTree

_NO_MEMPOOL = Mempool()


@dataclass(frozen=True)
class Checked:
    """A block that holds.

    Attributes:
      tip: The chain with it.
      identities: Of its transactions, in order.
    """

    tip: Tip
    identities: tuple[Digest, ...]


def start(genesis: Genesis) -> Tip:
    """The chain before its first block."""
    return Tip(genesis, genesis.chain_id(), None, None, genesis_tree(genesis))


def check_rows(genesis: Genesis, rows: Iterable[Row]) -> Iterator[Checked | Fault]:
    """Checks a whole chain; ends after the first fault."""
    tip = start(genesis)
    for row in rows:
        try:
            checked = _check(tip, row)
        except ProtocolError as error:
            yield locate(tip, row, str(error))
            return
        yield checked
        tip = checked.tip


def _check(tip: Tip, row: Row) -> Checked:
    if row.height != tip.height + 1:
        raise HeightGap(f"height {row.height} follows {tip.height}")
    header = HEADER.unpack(row.header)
    certificate = CERTIFICATE.unpack(row.certificate)
    _check_certificate(tip, header, certificate)
    block = Block(header, unpack_body(row.body))
    prepared = blocks.check(tip, block, _NO_MEMPOOL)
    tree = prepared.execution.tree
    after = replace(tip, header=header, certificate=certificate, tree=tree)
    results = prepared.execution.results
    return Checked(after, tuple(result.identity for result in results))


def _check_certificate(tip: Tip, header: Header, certificate: Certificate) -> None:
    named = (certificate.height, certificate.block_id)
    if named != (header.height, header.block_id()):
        raise ProofError("certificate and header name different blocks")
    fault_model = FaultModel(tip.genesis.fault_model)
    validators = tip.roster.validators
    check_certificate(certificate, tip.chain_id, validators, fault_model)


def first_difference(computed: StateTree, stored: StateTree) -> bytes | None:
    """The first key whose stored value is not the computed one; None if none is."""
    if computed.root() == stored.root():
        return None
    ours, theirs = dict(computed.items()), dict(stored.items())
    keys = sorted(ours.keys() | theirs.keys())
    return next((key for key in keys if ours.get(key) != theirs.get(key)), None)
