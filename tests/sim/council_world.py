"""A fleet with four coordinators over one broker: the whole path of an update.

Boards, uploads, gossip, blocks, jobs and attestations pass the same weather, and the
broker may part the coordinators from each other.
"""

from dataclasses import dataclass, field, replace

from agent.state import Settings
from broker.events import Message
from coordinator.admission import Gate
from coordinator.ledger import views
from coordinator.ledger.node import LedgerSettings
from coordinator.ledger.rounds import Timeouts
from coordinator.ledger.storage import Store
from coordinator.ledger.wire import JOURNAL_ENTRY
from coordinator.state import Settings as OfficeSettings
from protocol.chain import Block
from protocol.envelope import ENVELOPE, Envelope, Kind, sign
from protocol.genesis import (
    FORMAT_VERSION,
    FaultModel,
    Genesis,
    Validator,
    ValidatorSet,
)
from protocol.ids import BlockHash, ChainId, Digest, TaskId, Version
from protocol.keys import OpeningKey, SigningKey
from protocol.light import pin
from protocol.messages import REGISTER, Register
from protocol.task import TASK, TaskSpec
from tests.sim.board import Board
from tests.sim.council_office import CouncilOffice
from tests.sim.law import Law, holds, require
from tests.sim.office import Chest, Office
from tests.sim.party import Party
from tests.sim.post import Broker, Link
from tests.sim.timeline import CALM, Timeline
from tests.sim.world import CAP, OFFICE, OPERATOR, PACE, TOPICS, Plan, World, spec

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
            Validator(key.public, opening.public, f"office{number}")
            for number, (key, opening) in enumerate(zip(KEYS, OPENING, strict=True))
        )
    ),
    (OPERATOR.public,),
    heartbeat_s=4,
)
CHAIN = GENESIS.chain_id()


@dataclass
class CouncilLaw(Law):
    """What must never happen, whichever coordinator is looked at.

    Attributes:
      offices: All of them.
    """

    offices: list[CouncilOffice] = field(default_factory=list)
    _judged: dict[int, BlockHash] = field(default_factory=dict)
    _ballots: dict[tuple[int, int, int, int], bytes | None] = field(
        default_factory=dict
    )

    def published(self, who: str, topic: str, payload: bytes) -> None:
        self.office = self.foremost()
        super().published(who, topic, payload)

    def foremost(self) -> CouncilOffice:
        """Who has the longest chain."""
        return max(self.offices, key=lambda each: each.height)

    def votes(self, payload: bytes) -> None:
        vote = JOURNAL_ENTRY.unpack(payload).vote
        if vote is not None:
            key = vote.voter, vote.height, vote.round, vote.vote_type
            require(
                self._ballots.setdefault(key, vote.block_id) == vote.block_id,
                f"two votes of {vote.voter} in round {vote.round} of {vote.height}",
            )

    def _receipt(self, update: Digest) -> None:
        task, base = self.sent[update]
        require(
            any(holds(each, update) for each in self.offices)
            or self._stale(self.foremost(), task, base),
            "a receipt left before its update was durable",
        )
        self.accepted[update] = task, base

    def _located(self, update: Digest) -> bool:
        return any(each.store.locate(update) is not None for each in self.offices)

    def _certified(self, height: int, block: BlockHash) -> None:
        require(
            self.blocks.setdefault(height, block) == block,
            f"two certified blocks at height {height}",
        )

    def stores_block(self, store: Store, block: Block) -> None:
        """Each coordinator stores each block; what it does counts once."""
        height, identity = block.header.height, block.header.block_id()
        self._certified(height, identity)
        if height not in self._judged:
            self._judged[height] = identity
            super().stores_block(store, block)

    def _keeps(self, store: Store, update: Digest) -> bool:
        del store
        return any(each.store.upload(update) is not None for each in self.offices)

    def office_rests(self, office: Office) -> None:
        for update, (task, base) in list(self.accepted.items()):
            if self._located(update):
                del self.accepted[update]
            elif not any(holds(each, update) for each in self.offices):
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

    def _hold(self, link: Link, message: Message) -> None:
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


class CouncilWorld(World):
    """Four coordinators and boards, from their first instant."""

    def __init__(self, seed: int, plan: Plan) -> None:
        self.seed = seed
        self.plan = plan
        self.time = Timeline(seed, CALM)
        settings = [self._settings(index) for index in range(COUNT)]
        names = {each.name: f"office{index}" for index, each in enumerate(settings)}
        self.parted = PartedBroker(self.time, names)
        self.broker = self.parted
        self.law: CouncilLaw = CouncilLaw(ChainId(CHAIN))
        task, wholes = spec(plan)
        self.offices = [
            self._office(index, each, wholes if index == 0 else ())
            for index, each in enumerate(settings)
        ]
        self.law.offices = self.offices
        self.law.office = self.office = self.offices[0]
        self.boards = [self._board(number) for number in range(plan.boards)]
        self.parties: list[Party] = [*self.offices, *self.boards]
        self._operate(task)
        for party in self.parties:
            self.time.after(self.time.about(0.5), party.boot)

    def _settings(self, index: int) -> OfficeSettings:
        ledger = LedgerSettings(
            GENESIS,
            KEYS[index],
            block_interval_s=0.3,
            timeouts=Timeouts(1.0, 0.5, 0.3, 8.0),
            patience_s=0.2,
        )
        gate = Gate(CHAIN, OPENING[index])
        return replace(OFFICE, ledger=ledger, gate=gate)

    def _office(
        self, index: int, settings: OfficeSettings, wholes: tuple[bytes, ...]
    ) -> CouncilOffice:
        store = Chest(GENESIS, self.law)
        with store.transaction():
            for whole in wholes:
                store.put_blob(whole)
        made = CouncilOffice(index, self.time, self.broker, self.law, settings, store)
        made.dimension = self.plan.dimension
        return made

    def _board(self, number: int) -> Board:
        key = SigningKey(bytes([number + 1]) * 32)
        settings = Settings(
            key, TOPICS, TaskId(0), 0, key.public[:16], pace=PACE, upload_window=2
        )
        cap = CAP if self.plan.private else None
        trusted = pin(GENESIS)
        name = f"board{number}"
        return Board(name, self.time, self.broker, self.law, settings, trusted, cap)

    def _operate(self, task: TaskSpec) -> None:
        bodies = [
            (Kind.REGISTER, REGISTER.pack(Register(each.settings.key.public)))
            for each in self.boards
        ]
        bodies.append((Kind.TASK, TASK.pack(task)))
        for number, (kind, body) in enumerate(bodies, 1):
            envelope: Envelope = sign(OPERATOR, CHAIN, kind, number, body)
            self.offices[0].drop(f"{number:03}.tx", ENVELOPE.pack(envelope))

    @property
    def head(self) -> int:
        """The newest version that all of them know to be final; -1 before the task."""
        heads = [views.head(each.store.tip().tree, 0) for each in self.offices]
        return min(-1 if head is None else head for head in heads)

    def part(self, *sides: tuple[int, ...]) -> None:
        """Keeps groups of coordinators from hearing each other; nothing heals it."""
        self.parted.sides = tuple(
            frozenset(f"office{index}" for index in side) for side in sides
        )

    def same_versions(self) -> dict[int, set[Digest | None]]:
        """The digests of each version that is a base, over all of them."""
        found: dict[int, set[Digest | None]] = {}
        oldest = max(0, self.head - self.plan.staleness_max)
        for version in range(oldest, self.head + 1):
            trees = [each.store.tip().tree for each in self.offices]
            digests = {views.version(tree, 0, Version(version)) for tree in trees}
            found[version] = digests - {None}
        return found
