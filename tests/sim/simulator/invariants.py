"""What must never happen, checked at every effect and after every event.

The law sees what durable stores hold and what leaves a party; it knows nothing of the
cores' states but the few fields that claim to mirror a disk.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starling.agent.privacy.ledger import PrivacyLedger
from starling.agent.step.effects import AdoptModel, SpoolEntry
from starling.agent.training.trainer_messages import TrainingOrder
from starling.coordinator.chain.gossip_messages import JOURNAL_ENTRY
from starling.coordinator.chain.state import board_records, task_records
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.protocol.chain.blocks import Block
from starling.protocol.chain.board_statement import STATEMENT
from starling.protocol.chain.light_client import FINAL, MANIFEST
from starling.protocol.errors import ProtocolError
from starling.protocol.ids import (
    BlockHash,
    ChainId,
    Digest,
    H,
    TaskId,
    Version,
    device_id,
)
from starling.protocol.learning.task import ModelDigests, version_digest
from starling.protocol.privacy.gaussian_dp import charge_max
from starling.protocol.wire.envelope import ENVELOPE, MessageKind
from starling.protocol.wire.message_bodies import ACCEPTED, CONTRIBUTION
from tests.unit.coordinator.fixtures.state_invariants import check_supply

if TYPE_CHECKING:
    from tests.sim.simulator.board_node import BoardNode
    from tests.sim.simulator.coordinator_node import CoordinatorNode


class InvariantViolated(AssertionError):
    """An invariant does not hold."""


def require(holds: bool, what: str) -> None:
    """Says what is broken, unless it holds."""
    if not holds:
        raise InvariantViolated(what)


def holds(coordinator: CoordinatorNode, update: Digest) -> bool:
    """Whether an update is durable: as an upload, or in a block."""
    store = coordinator.store
    return store.upload(update) is not None or store.locate(update) is not None


Slot = tuple[str, TaskId, Version]
"""A board's name and the base version that it may use once."""


@dataclass
class Invariants:
    """Everything that was seen, as far as a later event could contradict it.

    Attributes:
      chain: Which chain all parties are on.
      sent: Updates that left a board.
      accepted: Those with a receipt that left the coordinator, until they are final.
      applied: Transaction by board, task and base version, from blocks.
      used: The same, from jobs that made a version.
      blocks: Block by height.
      models: What the coordinator computed, by version.
    """

    chain: ChainId
    coordinator: CoordinatorNode | None = None
    accepted: dict[Digest, tuple[TaskId, Version]] = field(default_factory=dict)
    sent: dict[Digest, tuple[TaskId, Version]] = field(default_factory=dict)
    applied: dict[tuple[bytes, int, int], Digest] = field(default_factory=dict)
    used: dict[tuple[bytes, int, int], Version] = field(default_factory=dict)
    blocks: dict[int, BlockHash] = field(default_factory=dict)
    models: dict[int, ModelDigests] = field(default_factory=dict)
    _counters: dict[tuple[bytes, int, int], Digest] = field(default_factory=dict)
    _signed: dict[Slot, Digest] = field(default_factory=dict)
    _noise: set[Slot] = field(default_factory=set)
    _attempts: set[tuple[Slot, bool]] = field(default_factory=set)
    _finals: dict[bytes, Digest] = field(default_factory=dict)
    _manifests: dict[bytes, Version] = field(default_factory=dict)
    _shown: set[tuple[str, Digest]] = field(default_factory=set)
    _versions: dict[str, int] = field(default_factory=dict)
    _votes: dict[tuple[int, int, int], bytes | None] = field(default_factory=dict)
    _paid: dict[str, int] = field(default_factory=dict)

    def published(self, who: str, topic: str, payload: bytes) -> None:
        """A message leaves a party; chunks are seen by `sends`."""
        branch, leaf = topic.split("/")[3], topic.rsplit("/", 1)[1]
        if branch == "g":
            # Gossip has counters and signatures of its own; votes are seen by `votes`.
            return
        if leaf == "manifest":
            self._manifest(payload)
        if leaf not in ("say", "state", "down"):
            return
        envelope = ENVELOPE.unpack(payload)
        identity = envelope.identity(self.chain)
        key = envelope.sender, envelope.kind, envelope.counter
        known = self._counters.setdefault(key, identity)
        require(
            known == identity,
            f"{who} used counter {envelope.counter} of kind {envelope.kind} twice",
        )
        if envelope.kind == MessageKind.ACCEPTED:
            self._receipt(ACCEPTED.unpack(envelope.body).update)
        elif envelope.kind == MessageKind.STATEMENT:
            header = STATEMENT.unpack(envelope.body).header
            self._certified(header.height, header.block_id())
        elif envelope.kind == MessageKind.FINAL:
            final = FINAL.unpack(envelope.body)
            self._certified(final.header.height, final.header.block_id())
            update = final.transaction.identity(self.chain)
            require(self._located(update), "a proof left before its block was durable")
            self._finals[envelope.body] = update

    def delivered(self, who: str, payload: bytes) -> None:
        """A message reaches a board: what it proves, whoever says it, is shown."""
        if payload in self._manifests:
            shown = max(self._versions.get(who, 0), self._manifests[payload])
            self._versions[who] = shown
        try:
            update = self._finals.get(ENVELOPE.unpack(payload).body)
        except ProtocolError:
            return
        if update is not None:
            self._shown.add((who, update))

    def _receipt(self, update: Digest) -> None:
        assert self.coordinator is not None
        task, base = self.sent[update]
        # What a version of the same batch made stale is as good as final for its board.
        require(
            holds(self.coordinator, update)
            or self._stale(self.coordinator, task, base),
            "a receipt left before its update was durable",
        )
        self.accepted[update] = task, base

    def _located(self, update: Digest) -> bool:
        assert self.coordinator is not None
        return self.coordinator.store.locate(update) is not None

    def _manifest(self, payload: bytes) -> None:
        manifest = MANIFEST.unpack(payload)
        self._certified(manifest.header.height, manifest.header.block_id())
        self._manifests[payload] = manifest.version

    def _certified(self, height: int, block: BlockHash) -> None:
        assert self.coordinator is not None
        require(
            self.blocks.setdefault(height, block) == block,
            f"two certified blocks at height {height}",
        )
        stored = self.coordinator.store.block(height)
        require(
            stored is not None and stored.block.header.block_id() == block,
            f"block {height} left before it was durable",
        )

    def stores_model(self, version: Version | int, model: ModelDigests) -> None:
        """The coordinator keeps what it computed."""
        require(
            self.models.setdefault(version, model) == model,
            f"version {version} was computed twice with different bytes",
        )

    def votes(self, payload: bytes) -> None:
        """The coordinator writes a vote down, and may show it from now on."""
        vote = JOURNAL_ENTRY.unpack(payload).vote
        if vote is not None:
            key = vote.height, vote.round, vote.vote_type
            require(
                self._votes.setdefault(key, vote.block_id) == vote.block_id,
                f"two votes in round {vote.round} of height {vote.height}",
            )

    def stores_block(self, store: SqliteStore, block: Block) -> None:
        """A block becomes durable."""
        header = block.header
        self._certified(header.height, header.block_id())
        for packed in block.transactions:
            envelope = ENVELOPE.unpack(packed)
            if envelope.kind != MessageKind.UPDATE:
                continue
            body = CONTRIBUTION.unpack(envelope.body)
            identity = envelope.identity(self.chain)
            key = device_id(envelope.sender), int(body.task), int(body.version)
            require(key not in self.applied, "an update stands in the chain twice")
            require(
                self._keeps(store, identity),
                "a block holds an update whose vector is lost",
            )
            self.applied[key] = identity
        check_supply(store, store.genesis.economy.supply)
        for number in range(task_records.task_count(store)):
            job = task_records.open_job(store, number)
            for member in job.members if job else ():
                assert job is not None
                key = member.board, number, int(member.base)
                require(
                    self.used.setdefault(key, job.version) == job.version,
                    "an update was applied to two versions",
                )

    def _keeps(self, store: SqliteStore, update: Digest) -> bool:
        return store.upload(update) is not None

    def coordinator_rests(self, coordinator: CoordinatorNode) -> None:
        """The coordinator waits: what it gave receipts for is still there."""
        for update, (task, base) in list(self.accepted.items()):
            if self._located(update):
                del self.accepted[update]
            elif not holds(coordinator, update):
                require(
                    self._stale(coordinator, task, base), "a receipt's update is lost"
                )
                del self.accepted[update]
            else:
                assert coordinator.state is not None
                require(
                    coordinator.state.ledger.mempool.get(update) is not None,
                    "a receipt's update waits for no block",
                )

    def _stale(self, coordinator: CoordinatorNode, task: TaskId, base: Version) -> bool:
        store = coordinator.store
        spec, head = task_records.task(store, task), task_records.head(store, task)
        assert spec is not None
        assert head is not None
        return head - base > spec.aggregation.staleness_max

    def draws_noise(
        self, board: BoardNode, order: TrainingOrder, *, empty: bool
    ) -> None:
        """A trainer is let go; once on data, and once on none if that one failed."""
        slot = board.name, order.task, order.base
        paid = PrivacyLedger.load(board.cap, board.disk.journal).charges
        require(
            (self.chain, order.task, order.base) in paid,
            "noise was drawn before its charge was durable",
        )
        require(
            (slot, empty) not in self._attempts, "noise was drawn twice for one charge"
        )
        require(
            not empty or (slot, False) in self._attempts,
            "noise took the place of an update that nobody tried to make",
        )
        self._attempts.add((slot, empty))
        self._noise.add(slot)

    def spools(self, board: BoardNode, entry: SpoolEntry) -> None:
        """A board has signed an update."""
        slot = board.name, entry.task, entry.base
        require(slot in self._noise, "an update was signed that no training made")
        require(
            (entry.task, entry.base) not in board.disk.uploads,
            "a spooled update was replaced",
        )

    def sends(self, board: BoardNode, entry: SpoolEntry) -> None:
        """A chunk of an update leaves a board."""
        stored = board.disk.uploads.get((entry.task, entry.base))
        require(
            stored is not None and stored[0] == entry and H(stored[1]) == entry.digest,
            "an update left before it was spooled",
        )
        slot = board.name, entry.task, entry.base
        require(
            self._signed.setdefault(slot, entry.update) == entry.update,
            "one base version was signed twice",
        )
        self.sent[entry.update] = entry.task, entry.base

    def lets_go(self, board: BoardNode, entry: SpoolEntry) -> None:
        """A board is about to delete a spooled update."""
        version = self._versions.get(board.name, 0)
        require(
            (board.name, entry.update) in self._shown
            or version - entry.base > entry.staleness_max,
            "a spooled update was deleted without proof",
        )

    def adopts(self, board: BoardNode, effect: AdoptModel) -> None:
        """A board takes a model into use."""
        assert self.coordinator is not None
        store = self.coordinator.store
        head = task_records.head(store, 0)
        spec = task_records.task(store, 0)
        assert spec is not None
        assert head is not None
        require(effect.version <= head, "a model is in use that is not final")
        model = spec.initial if effect.version == 0 else self.models[effect.version]
        digest = task_records.version(store, 0, effect.version)
        require(
            digest in (None, version_digest(model)),
            "a model is in use that the chain does not know",
        )
        content = board.disk.blobs.get(effect.inference)
        require(
            (effect.bundle, effect.inference) == (spec.bundle, model.inference)
            and content is not None
            and H(content) == effect.inference,
            "a model is in use without its proof",
        )

    def board_rests(self, board: BoardNode) -> None:
        """A board waits: its ledger is what its disk says, and never shrinks."""
        assert board.state is not None
        entries = len(board.disk.journal)
        before = self._paid.get(board.name, 0)
        require(entries >= before, "the privacy journal lost an entry")
        self._paid[board.name] = entries
        require(
            entries == board.state.ledger.length,
            "the privacy ledger differs from its journal",
        )

    def restored(self, board: BoardNode) -> None:
        """Somebody put a board's disk back: its counters and its journal are old."""
        self._paid.pop(board.name, None)
        sender = board.settings.key.public
        for key in [key for key in self._counters if key[0] == sender]:
            del self._counters[key]

    def at_the_end(
        self,
        coordinator: CoordinatorNode,
        boards: list[BoardNode],
        before: Collection[Digest],
    ) -> None:
        """All is calm: receipts given long before were kept, every charge stands."""
        self.coordinator_rests(coordinator)
        left = [
            update
            for update, (task, base) in self.accepted.items()
            if update in before and not self._stale(coordinator, task, base)
        ]
        require(not left, "a receipt's update never came into the chain")
        for board in boards:
            ledger = PrivacyLedger.load(board.cap, board.disk.journal)
            record = board_records.board(coordinator.store, board.settings.key.identity)
            require(
                record is not None
                and max(record.charge, record.paid) <= ledger.stated(self.chain),
                "the chain knows of charges that the board never paid",
            )
            require(
                board.cap is None
                or record is None
                or record.charge <= charge_max(board.cap),
                "the chain knows of more than the owner allows",
            )
