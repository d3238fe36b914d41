"""A fleet in one process: boards, a coordinator, a broker, and a seed."""

from dataclasses import dataclass

import numpy as np

from starling.agent.privacy.ledger import PrivacyLedger
from starling.agent.step.state import AgentSettings, WaitTimes
from starling.coordinator.aggregation.server_step import initial_state
from starling.coordinator.aggregation.strategy import pack_model
from starling.coordinator.chain.node.node import ChainSettings
from starling.coordinator.chain.state import task_records
from starling.coordinator.leases.client_selection import by_task
from starling.coordinator.step.state import CoordinatorSettings
from starling.coordinator.update.admission_checks import AdmissionContext
from starling.protocol.chain.credit_policy import FUND, CreditPolicy, Fund
from starling.protocol.chain.genesis import (
    FORMAT_VERSION,
    FaultModel,
    Genesis,
    Validator,
    ValidatorSet,
)
from starling.protocol.chain.light_client import pin
from starling.protocol.crypto.keys import OpeningKey, SigningKey
from starling.protocol.ids import H, TaskId
from starling.protocol.learning.task import (
    E12,
    MICRO,
    Q15,
    Q16,
    Q24,
    TASK,
    AggregationPolicy,
    PrivacyPolicy,
    Strategy,
    TaskSpec,
    TrainingMode,
    TrainingPolicy,
)
from starling.protocol.privacy.gaussian_dp import Budget
from starling.protocol.wire.envelope import ENVELOPE, MessageKind, sign
from starling.protocol.wire.message_bodies import REGISTER, Register
from starling.protocol.wire.topics import Topics
from tests.sim.simulator.board_node import BoardNode
from tests.sim.simulator.coordinator_node import CoordinatorNode, CrashingStore
from tests.sim.simulator.invariants import Invariants
from tests.sim.simulator.mqtt_broker import Broker, Link
from tests.sim.simulator.node import SimulatedNode
from tests.sim.simulator.virtual_time import CALM, Timeline, Weather

KEY = SigningKey(b"k" * 32)
SEALING = OpeningKey(b"s" * 32)
OPERATOR = SigningKey(b"o" * 32)
GENESIS = Genesis(
    FORMAT_VERSION,
    "meadow",
    0,
    FaultModel.BYZANTINE,
    ValidatorSet((Validator(KEY.public, SEALING.public, "one"),)),
    (OPERATOR.public,),
    heartbeat_s=4,
    economy=CreditPolicy(100_000, 20_000, 500, 100),
)
CHAIN = GENESIS.chain_id()
TOPICS = Topics("meadow")
BUNDLE = b"a training bundle"
PLEDGE = 16
CAP = Budget(900.0, 1e-5)
PACE = WaitTimes(
    check_in_s=4.0, fetch_s=2.0, accept_s=4.0, final_s=30.0, rest_s=2.0, most_s=30.0
)
COORDINATOR = CoordinatorSettings(
    ledger=ChainSettings(GENESIS, KEY, block_interval_s=1.0),
    gate=AdmissionContext(CHAIN, SEALING),
    topics=TOPICS,
    selection=by_task,
    selection_seed=b"seed",
    lease_s=15,
    chunks_per_s=20.0,
    chunks_burst=40,
    audit_blocks=20,
)


@dataclass(frozen=True)
class Plan:
    """One run.

    Attributes:
      boards: How many.
      buffer: K, at most half of the boards.
      dimension: d; 17,000 makes models and uploads of two chunks.
      private: Whether boards add noise and pay for it.
      staleness_max: Of the task.
      storm_s: How long the weather lasts.
      weather: Until then.
    """

    boards: int = 4
    buffer: int = 2
    dimension: int = 4
    private: bool = True
    staleness_max: int = 8
    storm_s: float = 0.0
    weather: Weather = CALM


def spec(plan: Plan) -> tuple[TaskSpec, tuple[bytes, ...]]:
    """The task, and what must be stored before it is announced."""
    model = pack_model(initial_state(np.zeros(plan.dimension, np.int64)))
    privacy = PrivacyPolicy(0, Q24, 0, 0, 0, 1)
    if plan.private:
        epsilon, delta = 800 * MICRO, E12 // 10**5
        privacy = PrivacyPolicy(1, Q24, 2 * MICRO, epsilon, delta, 400)
    task = TaskSpec(
        name="small",
        bundle=H(BUNDLE),
        bundle_bytes=len(BUNDLE),
        dimension=plan.dimension,
        codec=0,
        initial=model.digests(),
        training=TrainingPolicy(TrainingMode.GRADIENT, 1, 1, 0),
        privacy=privacy,
        aggregation=AggregationPolicy(
            strategy=Strategy.FEDBUFF,
            buffer=plan.buffer,
            learning_rate_q16=Q16,
            momentum_q16=Q16 // 2,
            average_q16=Q16 // 2,
            staleness_q15=(Q15,) * (plan.staleness_max + 1),
            leases=max(plan.buffer, plan.boards - 1),
            patience=2,
            norm_max=1 << 40,
        ),
        pledges=(PLEDGE,),
        pool=0,
    )
    return task, (BUNDLE, *model.parts())


class FleetWorld:
    """A fleet, from its first instant.

    Attributes:
      time: Clock, chance and trace.
      law: What must hold.
    """

    def __init__(self, seed: int, plan: Plan) -> None:
        self.seed = seed
        self.plan = plan
        self.time = Timeline(seed, CALM)
        self.broker = Broker(self.time)
        self.law = Invariants(CHAIN)
        task, blobs = spec(plan)
        store = CrashingStore.under(GENESIS, self.law)
        with store.transaction():
            for whole in blobs:
                store.put_blob(whole)
        self.coordinator = CoordinatorNode(
            self.time, self.broker, self.law, COORDINATOR, store
        )
        self.coordinator.dimension = plan.dimension
        self.law.coordinator = self.coordinator
        self.boards = [self._board(number) for number in range(plan.boards)]
        self.parties: list[SimulatedNode] = [self.coordinator, *self.boards]
        self._operate(task)
        for party in self.parties:
            self.time.after(self.time.about(0.5), party.boot)

    def _board(self, number: int) -> BoardNode:
        key = SigningKey(bytes([number + 1]) * 32)
        settings = AgentSettings(
            key, TOPICS, TaskId(0), 0, key.public[:16], pace=PACE, upload_window=2
        )
        cap = CAP if self.plan.private else None
        return BoardNode(
            f"board{number}",
            self.time,
            self.broker,
            self.law,
            settings,
            pin(GENESIS),
            cap,
        )

    def _operate(self, task: TaskSpec) -> None:
        bodies = [
            (MessageKind.REGISTER, REGISTER.pack(Register(each.settings.key.public)))
            for each in self.boards
        ]
        bodies.append((MessageKind.TASK, TASK.pack(task)))
        bodies.append((MessageKind.FUND, FUND.pack(Fund(TaskId(0), 500))))
        for number, (kind, body) in enumerate(bodies, 1):
            envelope = sign(OPERATOR, CHAIN, kind, number, body)
            self.coordinator.drop(f"{number:03}.tx", ENVELOPE.pack(envelope))

    @property
    def head(self) -> int:
        """The newest version that is durably final; -1 before the task."""
        found = task_records.head(self.coordinator.store, 0)
        return -1 if found is None else found

    def storm(self) -> None:
        """Lets the weather do what it wants for as long as the plan says."""
        weather = self.plan.weather
        self.time.weather = weather
        end_s = self.time.now_s + self.plan.storm_s
        for party in self.parties:
            self._flap(party.link, end_s)
        self._restart_broker(end_s)
        self.time.run(end_s, lambda: False)
        self.time.weather = CALM

    def _flap(self, link: Link, end_s: float) -> None:
        mean_s = self.plan.weather.flap_s
        if not mean_s:
            return

        def flap() -> None:
            if self.time.now_s < end_s:
                self.time.note(link.client.name, "loses its connection")
                link.lose()
                self.time.after(self.time.about(mean_s), flap)

        self.time.after(self.time.about(mean_s), flap)

    def _restart_broker(self, end_s: float) -> None:
        mean_s = self.plan.weather.broker_s
        if not mean_s:
            return

        def restart() -> None:
            if self.time.now_s < end_s:
                self.broker.restart(forget=self.time.rng.random() < 0.5)
                self.time.after(self.time.about(mean_s), restart)

        self.time.after(self.time.about(mean_s), restart)

    def reach(self, version: int, within_s: float) -> bool:
        """Waits for a version; returns whether it came in time."""
        until_s = self.time.now_s + within_s
        return self.time.run(until_s, lambda: self.head >= version)

    def lose_updates(self, boards: int, within_s: float) -> None:
        """Cuts the power of so many boards after the charge for version 0.

        Before the spool, that is; they come back at once.
        """
        losers = self.boards[:boards]
        for board in losers:
            board.loses = True

        def paid() -> bool:
            return all(
                (CHAIN, 0, 0)
                in PrivacyLedger.load(board.cap, board.disk.journal).charges
                for board in losers
            )

        self.time.run(self.time.now_s + within_s, paid)
        self.time.run(self.time.now_s + within_s / 10, lambda: False)
        for board in losers:
            board.loses = False

    def settle(self, within_s: float) -> bool:
        """Waits until every update that left a board stands in the chain, or is stale.

        Returns:
          Whether that came in time.
        """

        open_updates = dict(self.law.sent)

        def settled() -> bool:
            oldest = self.head - self.plan.staleness_max
            for update, (_, base) in list(open_updates.items()):
                if base < oldest or self.coordinator.store.locate(update) is not None:
                    del open_updates[update]
            return not open_updates

        return self.time.run(self.time.now_s + within_s, settled)
