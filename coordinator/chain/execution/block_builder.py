"""Making a block, and deciding whether a proposed one is valid.

Validity is a function of the block and the chain before it, never of a clock or of who
proposes it in which round: all correct validators agree on it.
"""

from dataclasses import dataclass
from functools import cached_property

from starling.coordinator.chain.consensus.proposer_order import ProposerSchedule
from starling.coordinator.chain.execution.state_machine import (
    BlockExecution,
    TxResult,
    apply,
    execute,
)
from starling.coordinator.chain.governance.chain_parameters import parameter
from starling.coordinator.chain.governance.proposer_absence import roster_of
from starling.coordinator.chain.mempool import Mempool
from starling.coordinator.chain.state import transaction_codec, validator_records
from starling.coordinator.chain.state.overlay import BlockContext, Changes
from starling.protocol.chain.blocks import (
    BLOCK_BYTES_MAX,
    TIME_MS_MAX,
    Block,
    Certificate,
    Header,
    check_certificate,
)
from starling.protocol.chain.board_statement import BoardRecord
from starling.protocol.chain.genesis import FORMAT_VERSION, FaultModel, Genesis
from starling.protocol.chain.governance import ChainParameter
from starling.protocol.chain.light_client import TrustedState
from starling.protocol.crypto import merkle
from starling.protocol.crypto.state_tree import StateTree
from starling.protocol.errors import (
    HeightGap,
    InvalidBlock,
    ParentMismatch,
    ProofError,
    RootMismatch,
    UnknownProposer,
)
from starling.protocol.ids import BlockHash, ChainId, Digest
from starling.protocol.wire.envelope import Envelope

BODY_BYTES_MAX = BLOCK_BYTES_MAX - 64 * 1024
"""Of the transactions of a block that we make; leaves room for headers and proofs."""


@dataclass(frozen=True)
class ChainHead:
    """The last block of a chain and the state after it.

    Attributes:
      genesis: What the chain started from.
      chain_id: Its hash.
      header: Of the last block; None before the first.
      certificate: Its certificate.
      tree: The state after it.
      pinned: A later header, and whom to trust from it on, that the operator got from
        elsewhere: the chain must lead through it. None if there is none.
    """

    genesis: Genesis
    chain_id: ChainId
    header: Header | None
    certificate: Certificate | None
    tree: StateTree
    pinned: TrustedState | None = None

    @property
    def height(self) -> int:
        """Of the last block, 0 before the first."""
        return self.header.height if self.header is not None else 0

    @cached_property
    def roster(self) -> ProposerSchedule:
        """Validators that decide the next block, in their order as proposers."""
        return roster_of(self.tree, self.genesis, self.height + 1)

    def next_validators(self) -> Digest:
        """Hash of the validator set of the block after the one to come."""
        return validator_records.validators(
            self.tree, self.genesis, self.height + 2
        ).digest()

    def parameter(self, wanted: ChainParameter) -> int:
        """Its value for the block to come."""
        return parameter(self.tree, self.genesis, wanted, self.height + 1)

    def context(self, proposer: int, time_ms: int) -> BlockContext:
        """Of the block to come, made by this validator and of this time."""
        height = self.height + 1
        return BlockContext(self.genesis, self.chain_id, height, proposer, time_ms)

    def parent(self) -> BlockHash:
        """Hash that the next block names as its parent."""
        if self.header is None:
            # So that no first block fits two chains.
            return BlockHash(self.chain_id)
        return self.header.block_id()

    def time_ms(self, certificate: Certificate | None) -> int:
        """Time at which the last block was decided, by one of its certificates.

        The median of a quorum lies among the clocks of the honest, as more of the
        votes are theirs than liars'. It never goes back.
        """
        if self.header is None or certificate is None:
            # The genesis has no votes; its own date is the first.
            return min(TIME_MS_MAX, self.genesis.created_ms)
        times = sorted(certificate.extras)
        # Of an even number the upper one, as all must choose the same.
        median_ms = min(TIME_MS_MAX, times[len(times) // 2])
        return max(self.header.time_ms, median_ms)

    def is_jailed(self, board: BoardRecord) -> bool:
        """True if the next block refuses a board's messages for its conviction."""
        if not board.jailed:
            return False
        return board.is_jailed(self.height + 1, self.time_ms(self.certificate))


class StateMismatch(RootMismatch):
    """A block after which we have another state than its header says.

    Attributes:
      computed: Root of the state that we get.
      first_key: The first key that the block changes here; empty if it changes none.
    """

    def __init__(self, computed: Digest, changes: Changes) -> None:
        """Keeps what names the difference."""
        super().__init__("state_root differs from the state that we compute")
        self.computed = computed
        self.first_key = min(changes, default=b"")


@dataclass(frozen=True)
class ExecutedBlock:
    """A valid block and what it does."""

    block: Block
    execution: BlockExecution


def make(
    tip: ChainHead, proposer: int, mempool: Mempool, transactions_max: int
) -> tuple[ExecutedBlock, tuple[TxResult, ...]]:
    """Makes the next block of what waits.

    Returns:
      The block, and the results of what the chain refuses as it stands. What only the
      transactions before it in this block exclude waits on: another block may win.
    """
    # The chain's parameter binds everybody; the own setting may only be lower.
    most = min(transactions_max, tip.parameter(ChainParameter.TRANSACTIONS_MAX))
    waiting = mempool.oldest(most, BODY_BYTES_MAX)
    envelopes = [entry.envelope for entry in waiting]
    time_ms = tip.time_ms(tip.certificate)
    context = tip.context(proposer, time_ms)
    # In the order of arrival, each on what those before it have left.
    execution = execute(tip.tree, context, envelopes)
    packed = [
        entry.packed
        for entry, result in zip(waiting, execution.results, strict=True)
        if result.code == 0
    ]
    void = tuple(
        # Refused by the state as it is, and not merely by what precedes it here.
        alone
        for entry, result in zip(waiting, execution.results, strict=True)
        if result.code != 0
        and (alone := apply(tip.tree, context, entry.envelope)[1]).code != 0
    )
    header = Header(
        FORMAT_VERSION,
        tip.chain_id,
        tip.height + 1,
        time_ms,
        tip.parent(),
        merkle.root(packed),
        execution.tree.root(),
        tip.roster.validators.digest(),
        tip.next_validators(),
        proposer,
    )
    return ExecutedBlock(Block(header, tuple(packed)), execution), void


def applies(tip: ChainHead, proposer: int, mempool: Mempool) -> bool:
    """True if anything that waits could be first in the next block."""
    # All of them and not one block's: what comes first may be void.
    waiting = mempool.oldest(mempool.size, BODY_BYTES_MAX)
    context = tip.context(proposer, tip.time_ms(tip.certificate))
    return any(apply(tip.tree, context, one.envelope)[1].code == 0 for one in waiting)


def check(
    tip: ChainHead, block: Block, mempool: Mempool, signed: bool = False
) -> ExecutedBlock:
    """Decides whether a block may follow the tip.

    Args:
      tip: The chain before it.
      block: The proposed block.
      mempool: Spares the signatures of what waits there with the same bytes.
      signed: Whether the signatures of its transactions were checked already.

    Raises:
      InvalidBlock: Naming the field.
      ProtocolError: If a transaction is malformed or its signature does not verify.
    """
    _check_header(tip, block)
    most = tip.parameter(ChainParameter.TRANSACTIONS_MAX)
    if len(block.transactions) > most:
        raise InvalidBlock(f"{len(block.transactions)} transactions, {most} allowed")
    envelopes = [transaction_codec.unpack(packed) for packed in block.transactions]
    # A chain that is replayed has its signatures checked in other processes.
    unchecked = () if signed else zip(envelopes, block.transactions, strict=True)
    for envelope, packed in unchecked:
        _check_signature(tip.chain_id, envelope, packed, mempool)
    header = block.header
    context = tip.context(header.proposer, header.time_ms)
    execution = execute(tip.tree, context, envelopes)
    for index, result in enumerate(execution.results):
        if result.code != 0:
            # A valid block holds no refused transaction, so that its index in a block
            # proves that it applied.
            raise InvalidBlock(f"transaction {index} is refused: {result.detail}")
    root = execution.tree.root()
    if root != header.state_root:
        raise StateMismatch(root, execution.changes)
    return ExecutedBlock(block, execution)


def check_time(tip: ChainHead, header: Header, certificate: Certificate | None) -> None:
    """Decides whether a fresh block is dated by the votes for its parent.

    Which quorum's, is for its proposer to choose; any will do.

    Args:
      tip: The chain before it.
      header: Of the valid block.
      certificate: What its proposer shows of the block before.

    Raises:
      ProofError: If it is no certificate of the block before, or gives another time.
      SignatureError: If one of its votes does not verify.
    """
    if tip.header is None:
        if certificate is not None:
            raise ProofError("a certificate of what is before the first block")
    elif certificate is None:
        raise ProofError("a fresh block without its parent's certificate")
    elif certificate != tip.certificate:
        # Another quorum than the one that was seen here: its votes are unknown.
        named = (certificate.height, certificate.block_id)
        if named != (tip.height, tip.parent()):
            raise ProofError("the certificate is not the parent's")
        validators = validator_records.validators(tip.tree, tip.genesis, tip.height)
        fault_model = FaultModel(tip.genesis.fault_model)
        check_certificate(certificate, tip.chain_id, validators, fault_model)
    if header.time_ms != tip.time_ms(certificate):
        raise ProofError("time_ms is not the median of the votes for the parent")


def _check_signature(
    chain_id: ChainId, envelope: Envelope, packed: bytes, mempool: Mempool
) -> None:
    # An id leaves the signature out, so that only equal bytes were verified.
    waiting = mempool.get(envelope.identity(chain_id)) if mempool.size else None
    if waiting is None or waiting.packed != packed:
        envelope.check(chain_id)


def _check_header(tip: ChainHead, block: Block) -> None:
    header = block.header
    if header.chain_id != tip.chain_id:
        raise InvalidBlock("chain_id is another chain's")
    if header.height != tip.height + 1:
        raise HeightGap(f"height {header.height} after {tip.height}")
    if header.parent != tip.parent():
        raise ParentMismatch("parent is not the block before")
    # Only this much is asked of a block's time here; `check_time` asks the rest of
    # fresh ones.
    if tip.header is not None and header.time_ms < tip.header.time_ms:
        raise InvalidBlock("time_ms goes back")
    if header.validators != tip.roster.validators.digest():
        raise RootMismatch("validators differ from the set of this height")
    if header.next_validators != tip.next_validators():
        raise RootMismatch("next_validators differ from the set of the next height")
    if header.proposer >= len(tip.roster.order):
        raise UnknownProposer(f"proposer {header.proposer} is not in the set")
    _check_pinned(tip, header)
    if header.tx_root != block.tx_root():
        raise RootMismatch("tx_root differs from the block's transactions")


def _check_pinned(tip: ChainHead, header: Header) -> None:
    """Refuses another past than the one that leads through the pinned header.

    Keys that were retired since can certify one; nobody can make it end there.
    """
    last = None if tip.pinned is None else tip.pinned.last
    if last is None or header.height != last.header.height:
        return
    if header.block_id() != last.header.block_id():
        raise InvalidBlock(
            f"height {header.height} is not the block that is pinned: another past"
        )
