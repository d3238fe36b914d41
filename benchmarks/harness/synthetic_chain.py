"""Long chains to benchmark storage with, made by the ledger's core without consensus.

Validators' keys, boards and updates follow from their numbers, so that the same
arguments give the same bytes. Each block holds so many updates; when those of a version
are in, the next block also holds a quorum of attestations.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.harness.board_uploads import PLEDGE, board_keys, task
from starling.coordinator.chain.execution import block_builder
from starling.coordinator.chain.execution.block_builder import ChainHead, ExecutedBlock
from starling.coordinator.chain.mempool import Mempool
from starling.coordinator.chain.storage.chain_store import ChainStore
from starling.coordinator.chain.verification import chain_replay
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.protocol.chain.blocks import (
    TRANSACTIONS_PER_BLOCK_MAX,
    Certificate,
    VoteType,
    vote_bytes,
)
from starling.protocol.chain.genesis import (
    FORMAT_VERSION,
    FaultModel,
    Genesis,
    Validator,
    ValidatorSet,
    quorum,
)
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.ids import BlockHash, H, SealingKey, TaskId, Version
from starling.protocol.learning.task import TASK
from starling.protocol.wire.envelope import ENVELOPE, Envelope, MessageKind, sign
from starling.protocol.wire.message_bodies import (
    ATTEST,
    CONTRIBUTION,
    REGISTER,
    Attest,
    Contribution,
    Register,
)

BUFFER = 8
BOARDS = 9
"""For each update of a block."""
GROUP = 256
"""Blocks put into the store in one transaction."""
BLOCK_MS = 1_000
"""From the time of a block to that of the next one."""


@dataclass(frozen=True)
class SyntheticBlock:
    """A block, what it does, and what makes it final."""

    prepared: ExecutedBlock
    certificate: Certificate


class SyntheticChain:
    """A chain that grows.

    Attributes:
      genesis: What it starts from.
      keys: Of its validators; the last one's place may be given up.
      tip: Its last block.
    """

    def __init__(
        self,
        genesis: Genesis,
        keys: Sequence[SigningKey],
        operator: SigningKey,
        updates: int = 1,
    ) -> None:
        """Starts before the first block.

        Args:
          genesis: Of the chain.
          keys: Of the coordinators, in the order of their set.
          operator: Admits the boards and publishes the task.
          updates: In each block but the first; at most 100.
        """
        self.genesis = genesis
        self.keys = keys
        self._operator = operator
        self.tip: ChainHead = chain_replay.start(self.genesis)
        self._each = updates
        self._buffer = BUFFER * updates
        self._boards = board_keys(updates * BOARDS)
        self._updates = 0
        self._counter = 0
        self._spec = task(8, 8, self._buffer).spec

    def grow(self, count: int) -> Iterator[SyntheticBlock]:
        """The next blocks; the first one of a chain opens task and boards."""
        for _ in range(count):
            yield self.decide(self._transactions())

    def _transactions(self) -> list[Envelope]:
        if self.tip.height == 0:
            return [
                self._sign(self._operator, MessageKind.TASK, TASK.pack(self._spec)),
                *(
                    self._sign(
                        self._operator,
                        MessageKind.REGISTER,
                        REGISTER.pack(Register(key.public)),
                    )
                    for key in self._boards
                ),
            ]
        made, place = divmod(self._updates, self._buffer)
        signed = self._attestations(made) if made and not place else []
        return [*signed, *(self._update(made) for _ in range(self._each))]

    def _attestations(self, version: int) -> list[Envelope]:
        digest = H(b"version", b"%d" % version)
        body = ATTEST.pack(Attest(TaskId(0), Version(version), digest))
        needed = quorum(len(self.keys), FaultModel.BYZANTINE)
        return [self._sign(key, MessageKind.ATTEST, body) for key in self.keys[:needed]]

    def _update(self, base: int) -> Envelope:
        number = self._updates
        self._updates += 1
        body = Contribution(
            TaskId(0), Version(base), self._spec.codec, PLEDGE, 0, 0,
            H(b"blob", b"%d" % number), H(b"commitment", b"%d" % number),
        )  # fmt: skip  # a table
        board = self._boards[number % len(self._boards)]
        return self._sign(board, MessageKind.UPDATE, CONTRIBUTION.pack(body))

    def _sign(self, key: SigningKey, kind: MessageKind, body: bytes) -> Envelope:
        self._counter += 1
        return sign(key, self.tip.chain_id, kind, self._counter, body)

    def decide(self, envelopes: list[Envelope]) -> SyntheticBlock:
        """The next block, of transactions that all are valid."""
        mempool = Mempool()
        for envelope in envelopes:
            identity = envelope.identity(self.tip.chain_id)
            packed = ENVELOPE.pack(envelope)
            mempool = mempool.add(identity, envelope, packed, len(envelopes))
        proposer = self.tip.roster.proposer(0)
        prepared, _ = block_builder.make(
            self.tip, proposer, mempool, TRANSACTIONS_PER_BLOCK_MAX
        )
        assert len(prepared.block.transactions) == len(envelopes)
        header = prepared.block.header
        certificate = self._certify(header.height, header.block_id())
        self.tip = replace(
            self.tip,
            header=header,
            certificate=certificate,
            tree=prepared.execution.tree,
        )
        return SyntheticBlock(prepared, certificate)

    def _certify(self, height: int, block_id: BlockHash) -> Certificate:
        needed = quorum(len(self.keys), FaultModel.BYZANTINE)
        extras = tuple(BLOCK_MS * (1 + height) + voter for voter in range(needed))
        signatures = tuple(
            key.sign(
                vote_bytes(
                    self.tip.chain_id, VoteType.PRECOMMIT, height, 0, block_id, extra
                )
            )
            for key, extra in zip(self.keys[:needed], extras, strict=True)
        )
        return Certificate(height, 0, block_id, (1 << needed) - 1, signatures, extras)


def of_nobody(validators: int) -> SyntheticChain:
    """A chain of coordinators that exist nowhere else; always the same one."""
    keys = [SigningKey(H(b"validator", bytes([n]))) for n in range(validators)]
    keys.sort(key=lambda key: key.public)
    operator = SigningKey(H(b"operator"))
    members = [
        Validator(key.public, SealingKey(bytes(32)), f"c{number}")
        for number, key in enumerate(keys)
    ]
    genesis = Genesis(
        FORMAT_VERSION,
        "benchmark",
        1_000,
        FaultModel.BYZANTINE,
        ValidatorSet(tuple(members)),
        (operator.public,),
        60,
    )
    return SyntheticChain(genesis, keys, operator)


def write(path: Path, chain: SyntheticChain, count: int) -> SqliteStore:
    """Puts a new chain of so many blocks in a file."""
    store = SqliteStore.create(path, chain.genesis)
    left = count
    while left:
        group = list(chain.grow(min(GROUP, left)))
        left -= len(group)
        with store.transaction():
            for one in group:
                put(store, one)
    return store


def put(store: ChainStore, decided: SyntheticBlock) -> None:
    """Puts a decided block in a store; inside a transaction."""
    execution = decided.prepared.execution
    identities = [result.identity for result in execution.results]
    store.put_block(
        decided.prepared.block, decided.certificate, execution.changes, identities
    )
