"""A fleet with four coordinators over one broker: the whole path of an update.

Boards, uploads, gossip, blocks, jobs and attestations pass the same weather, and the
broker may part the coordinators from each other.
"""

from dataclasses import dataclass, field, replace

from starling.agent.step.state import AgentSettings
from starling.broker.link_events import MqttMessage
from starling.coordinator.chain.consensus.round_state import Timeouts
from starling.coordinator.chain.gossip_messages import JOURNAL_ENTRY
from starling.coordinator.chain.node.node import ChainSettings
from starling.coordinator.chain.state import task_records
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.coordinator.step.state import CoordinatorSettings
from starling.coordinator.update.admission_checks import AdmissionContext
from starling.protocol.chain.blocks import Block
from starling.protocol.chain.genesis import (
    FORMAT_VERSION,
    FaultModel,
    Genesis,
    Validator,
    ValidatorSet,
)
from starling.protocol.chain.light_client import pin
from starling.protocol.crypto.keys import OpeningKey, SigningKey
from starling.protocol.ids import BlockHash, ChainId, Digest, TaskId, Version
from starling.protocol.learning.task import TASK, TaskSpec
from starling.protocol.wire.envelope import ENVELOPE, Envelope, MessageKind, sign
from starling.protocol.wire.message_bodies import REGISTER, Register
from tests.sim.simulator.board_node import BoardNode
from tests.sim.simulator.coordinator_node import CoordinatorNode, CrashingStore
from tests.sim.simulator.fleet_world import (
    CAP,
    COORDINATOR,
    OPERATOR,
    PACE,
    TOPICS,
    FleetWorld,
    Plan,
    spec,
)
from tests.sim.simulator.invariants import Invariants, holds, require
from tests.sim.simulator.mqtt_broker import Broker, Link
from tests.sim.simulator.node import SimulatedNode
from tests.sim.simulator.virtual_time import CALM, Timeline

COUNT = 4
KEYS = sorted(
    (SigningKey(bytes([200 + number]) * 32) for number in range(COUNT)),
    key=lambda key: key.public,
)
OPENING = [OpeningKey(bytes([220 + number]) * 32) for number in range(COUNT)]
GENESIS = Genesis(
    FORMAT_VERSION,
    "meadow",
    0,
    FaultModel.BYZANTINE,
    ValidatorSet(
        tuple(
            Validator(key.public, opening.public, f"coordinator{number}")
            for number, (key, opening) in enumerate(zip(KEYS, OPENING, strict=True))
        )
    ),
    (OPERATOR.public,),
    heartbeat_s=4,
)
CHAIN = GENESIS.chain_id()


@dataclass
class CommitteeInvariants(Invariants):
    """What must never happen, whichever coordinator is looked at.

    Attributes:
      coordinators: All of them.
    """

    coordinators: list[CoordinatorNode] = field(default_factory=list)
    _judged: dict[int, BlockHash] = field(default_factory=dict)
    _votes_cast: dict[tuple[int, int, int, int], bytes | None] = field(
        default_factory=dict
    )

    def published(self, who: str, topic: str, payload: bytes) -> None:
        self.coordinator = self.foremost()
        super().published(who, topic, payload)

    def foremost(self) -> CoordinatorNode:
        """Who has the longest chain."""
        return max(self.coordinators, key=lambda each: each.height)

    def votes(self, payload: bytes) -> None:
        vote = JOURNAL_ENTRY.unpack(payload).vote
        if vote is not None:
            key = vote.voter, vote.height, vote.round, vote.vote_type
            require(
                self._votes_cast.setdefault(key, vote.block_id) == vote.block_id,
                f"two votes of {vote.voter} in round {vote.round} of {vote.height}",
            )

    def _receipt(self, update: Digest) -> None:
        task, base = self.sent[update]
        require(
            any(holds(each, update) for each in self.coordinators)
            or self._stale(self.foremost(), task, base),
            "a receipt left before its update was durable",
        )
        self.accepted[update] = task, base

    def _located(self, update: Digest) -> bool:
        return any(each.store.locate(update) is not None for each in self.coordinators)

    def _certified(self, height: int, block: BlockHash) -> None:
        require(
            self.blocks.setdefault(height, block) == block,
            f"two certified blocks at height {height}",
        )

    def stores_block(self, store: SqliteStore, block: Block) -> None:
        """Each coordinator stores each block; what it does counts once."""
        height, identity = block.header.height, block.header.block_id()
        self._certified(height, identity)
        if height not in self._judged:
            self._judged[height] = identity
            super().stores_block(store, block)

    def _keeps(self, store: SqliteStore, update: Digest) -> bool:
        del store
        return any(each.store.upload(update) is not None for each in self.coordinators)

    def coordinator_rests(self, coordinator: CoordinatorNode) -> None:
        for update, (task, base) in list(self.accepted.items()):
            if self._located(update):
                del self.accepted[update]
            elif not any(holds(each, update) for each in self.coordinators):
                stale = self._stale(self.foremost(), task, base)
                require(stale, "a receipt's update is lost")
                del self.accepted[update]


class PartedBroker(Broker):
    """A broker that can keep what one coordinator says from another one.

    Attributes:
      sides: Groups of coordinators' names that do not hear each other.
    """

    def __init__(self, time: Timeline, names: dict[str, str]) -> None:
        super().__init__(time)
        self.sides: tuple[frozenset[str], ...] = ()
        self._names = names

    def _hold(self, link: Link, message: MqttMessage) -> None:
        speaker = message.topic.split("/")[4]
        heard = link.client.name
        apart = any(
            self._names.get(speaker) in side and heard in others
            for side in self.sides
            for others in self.sides
            if side is not others
        )
        if "/g/" not in message.topic or not apart:
            super()._hold(link, message)


class CommitteeWorld(FleetWorld):
    """Four coordinators and boards, from their first instant."""

    def __init__(self, seed: int, plan: Plan) -> None:
        self.seed = seed
        self.plan = plan
        self.time = Timeline(seed, CALM)
        settings = [self._settings(index) for index in range(COUNT)]
        names = {
            each.name: f"coordinator{index}" for index, each in enumerate(settings)
        }
        self.parted = PartedBroker(self.time, names)
        self.broker = self.parted
        self.law: CommitteeInvariants = CommitteeInvariants(ChainId(CHAIN))
        task, blobs = spec(plan)
        self.coordinators = [
            self._coordinator(index, each, blobs if index == 0 else ())
            for index, each in enumerate(settings)
        ]
        self.law.coordinators = self.coordinators
        self.law.coordinator = self.coordinator = self.coordinators[0]
        self.boards = [self._board(number) for number in range(plan.boards)]
        self.parties: list[SimulatedNode] = [*self.coordinators, *self.boards]
        self._operate(task)
        for party in self.parties:
            self.time.after(self.time.about(0.5), party.boot)

    def _settings(self, index: int) -> CoordinatorSettings:
        ledger = ChainSettings(
            GENESIS,
            KEYS[index],
            block_interval_s=0.3,
            timeouts=Timeouts(1.0, 0.5, 0.3, 8.0),
            patience_s=0.2,
        )
        gate = AdmissionContext(CHAIN, OPENING[index])
        return replace(COORDINATOR, ledger=ledger, gate=gate)

    def _coordinator(
        self, index: int, settings: CoordinatorSettings, blobs: tuple[bytes, ...]
    ) -> CoordinatorNode:
        store = CrashingStore.under(GENESIS, self.law)
        with store.transaction():
            for whole in blobs:
                store.put_blob(whole)
        made = CoordinatorNode(
            self.time, self.broker, self.law, settings, store, f"coordinator{index}"
        )
        made.dimension = self.plan.dimension
        return made

    def _board(self, number: int) -> BoardNode:
        key = SigningKey(bytes([number + 1]) * 32)
        settings = AgentSettings(
            key, TOPICS, TaskId(0), 0, key.public[:16], pace=PACE, upload_window=2
        )
        cap = CAP if self.plan.private else None
        trusted = pin(GENESIS)
        name = f"board{number}"
        return BoardNode(name, self.time, self.broker, self.law, settings, trusted, cap)

    def _operate(self, task: TaskSpec) -> None:
        bodies = [
            (MessageKind.REGISTER, REGISTER.pack(Register(each.settings.key.public)))
            for each in self.boards
        ]
        bodies.append((MessageKind.TASK, TASK.pack(task)))
        for number, (kind, body) in enumerate(bodies, 1):
            envelope: Envelope = sign(OPERATOR, CHAIN, kind, number, body)
            self.coordinators[0].drop(f"{number:03}.tx", ENVELOPE.pack(envelope))

    @property
    def head(self) -> int:
        """The newest version that all of them know to be final; -1 before the task."""
        heads = [task_records.head(each.store, 0) for each in self.coordinators]
        return min(-1 if head is None else head for head in heads)

    def part(self, *sides: tuple[int, ...]) -> None:
        """Keeps groups of coordinators from hearing each other; nothing heals it."""
        self.parted.sides = tuple(
            frozenset(f"coordinator{index}" for index in side) for side in sides
        )

    def same_versions(self) -> dict[int, set[Digest | None]]:
        """The digests of each version that is a base, over all of them."""
        found: dict[int, set[Digest | None]] = {}
        oldest = max(0, self.head - self.plan.staleness_max)
        for version in range(oldest, self.head + 1):
            digests = {
                task_records.version(each.store, 0, Version(version))
                for each in self.coordinators
            }
            found[version] = digests - {None}
        return found
