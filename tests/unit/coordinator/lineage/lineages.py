"""Lineages and evidence to trace, made up."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from starling.coordinator.aggregation.server_step import initial_state
from starling.coordinator.aggregation.strategy import (
    ModelState,
    WeightedUpdate,
    pack_model,
)
from starling.coordinator.aggregation.strategy_registry import aggregator_of
from starling.coordinator.chain.state.task_records import AggregationJob, JobMember
from starling.coordinator.lineage.lineage import FinalVersion
from starling.coordinator.lineage.version_trace import TracedLineage
from starling.protocol.ids import DeviceId, Digest, H, TaskId, Version
from starling.protocol.learning.task import (
    Q15,
    Q16,
    Robust,
    Strategy,
    TaskSpec,
    version_digest,
)
from starling.protocol.learning.vector_codecs import Grid, to_grid
from tests.unit.coordinator.fixtures.small_task import SPEC

D = 12
PLEDGE = 15
Row = Sequence[float] | np.ndarray


def board(number: int) -> DeviceId:
    return DeviceId(bytes([number]) * 16)


def spec(
    strategy: int = Strategy.FEDBUFF,
    robust: int = Robust.NONE,
    momentum_q16: int = Q16 // 4,
) -> TaskSpec:
    policy = replace(
        SPEC.aggregation,
        strategy=strategy,
        robust=robust,
        momentum_q16=momentum_q16,
        learning_rate_q16=Q16 // 2,
    )
    return replace(SPEC, dimension=D, aggregation=policy)


class MadeLineage:
    """Versions made by a task's own strategy from given vectors."""

    def __init__(self, task: TaskSpec, rounds: Sequence[Mapping[int, Row]]) -> None:
        """Makes one version of each round: a mean vector by number of the board."""
        self.spec = task
        self.vectors: dict[Digest, Grid] = {}
        self.start: ModelState = initial_state(to_grid(np.ones(D)))
        aggregator = aggregator_of(task.aggregation, task.privacy, task.codec)
        self.start = aggregator.init(self.start.theta)
        state, versions = self.start, []
        for number, sent in enumerate(rounds, 1):
            members = [self._member(number, who, row) for who, row in sent.items()]
            updates = [
                WeightedUpdate(self(each), Q15, PLEDGE, each.base, each.board)
                for each in members
            ]
            state = aggregator.apply(state, updates, number) if updates else state
            digest = version_digest(pack_model(state).digests())
            job = AggregationJob(TaskId(0), Version(number), number, tuple(members))
            versions.append(
                FinalVersion(Version(number), digest, number, job if members else None)
            )
        self.end = state
        self.versions = tuple(versions)

    def _member(self, number: int, who: int, row: Row) -> JobMember:
        identity = H(b"%d/%d" % (number, who))
        self.vectors[identity] = to_grid(np.asarray(row, np.float64) * PLEDGE)
        base = Version(number - 1)
        return JobMember(identity, board(who), base, Q15, PLEDGE, identity)

    def __call__(self, member: JobMember) -> Grid:
        return self.vectors[member.transaction]

    def traced(self) -> TracedLineage:
        return TracedLineage(self.spec, Version(0), self.start, self.versions, self)
