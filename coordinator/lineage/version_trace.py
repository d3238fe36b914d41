"""Trace of a version: its lineage made again, its boards weighed, suspects left out.

What is said rests on three things: the chain, which says what each version was made of
and what it hashes to; the vectors, which the digests prove to be those; and, where
somebody has examples, losses on them. Whoever has the same three gets the same result.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np

from starling.coordinator.aggregation.strategy import ModelState
from starling.coordinator.lineage.contribution_evidence import (
    ContributionEvidence,
    Directions,
    Loss,
    Measure,
    evidence_of,
)
from starling.coordinator.lineage.lineage import FinalVersion
from starling.coordinator.lineage.lineage_replay import (
    OpenVector,
    check_exact,
    replay,
    replayed_state,
)
from starling.coordinator.lineage.suspects import BoardEvidence, weighed
from starling.protocol.ids import DeviceId, Version
from starling.protocol.learning.task import TaskSpec
from starling.protocol.learning.vector_codecs import from_grid


@dataclass(frozen=True)
class TracedLineage:
    """Start of a trace: a known state and what came after it.

    Attributes:
      spec: The task.
      first: The version whose state is known.
      start: That state.
      versions: The versions after it up to the traced one, rising without gaps.
      open_vector: Gives their vectors.
    """

    spec: TaskSpec
    first: Version
    start: ModelState
    versions: tuple[FinalVersion, ...]
    open_vector: OpenVector

    def model(self, without: AbstractSet[DeviceId] = frozenset()) -> ModelState:
        """The traced version, made again, perhaps without some boards' updates.

        Raises:
          MissingVector: If a vector is not kept.
        """
        vectors = self.open_vector
        return replayed_state(self.spec, self.start, self.versions, vectors, without)


@dataclass(frozen=True)
class VersionLoss:
    """The traced version's losses with some boards left out of its lineage.

    Attributes:
      without: The boards that were left out; none for the version as it is.
      losses: By measure, on its examples; of the average that boards use.
    """

    without: tuple[DeviceId, ...]
    losses: Mapping[Measure, float]


@dataclass(frozen=True)
class VersionTrace:
    """Result of a trace.

    Attributes:
      first: The version that the lineage was made again from.
      last: The traced version.
      updates: How many there were in between.
      boards: All boards, the most suspected first.
      evidence: Of all updates.
      as_it_is: Losses of the traced version; nothing without examples.
      alone: Without each suspect alone, in the order of `boards`.
      together: Without all suspects; None if there are none.
    """

    first: Version
    last: Version
    updates: int
    boards: tuple[BoardEvidence, ...]
    evidence: tuple[ContributionEvidence, ...]
    as_it_is: VersionLoss
    alone: tuple[VersionLoss, ...]
    together: VersionLoss | None

    @property
    def suspects(self) -> tuple[BoardEvidence, ...]:
        """Boards with anything beyond its limit."""
        return tuple(each for each in self.boards if each.suspected)


def traced(
    lineage: TracedLineage,
    losses: Mapping[Measure, Loss],
    named: Sequence[DeviceId] = (),
) -> VersionTrace:
    """Traces a version.

    Args:
      lineage: Its lineage.
      losses: For harm and for blame, where there are examples.
      named: Boards to leave out in place of those that the evidence names.

    Raises:
      OperationError: If a version is not what the chain says of it.
      MissingVector: If a vector is not kept.
    """
    evidence: list[ContributionEvidence] = []
    former: Directions | None = None
    policy, vectors = lineage.spec.aggregation, lineage.open_vector
    for step in replay(lineage.spec, lineage.start, lineage.versions, vectors):
        # Before anything is said of it: evidence from other vectors would accuse the
        # wrong boards.
        check_exact(step)
        found, former = evidence_of(step, policy, losses, former)
        evidence.extend(found)
    boards = weighed(evidence)
    last = lineage.versions[-1].version if lineage.versions else lineage.first
    suspects = tuple(named) or tuple(each.board for each in boards if each.suspected)
    members = [version.job.members for version in lineage.versions if version.job]
    return VersionTrace(
        lineage.first,
        last,
        sum(len(each) for each in members),
        boards,
        tuple(evidence),
        _ablated(lineage, (), losses),
        tuple(_ablated(lineage, (board,), losses) for board in suspects),
        _ablated(lineage, suspects, losses) if suspects else None,
    )


def _ablated(
    lineage: TracedLineage,
    without: tuple[DeviceId, ...],
    losses: Mapping[Measure, Loss],
) -> VersionLoss:
    if not losses:
        return VersionLoss(without, {})
    average = from_grid(lineage.model(frozenset(without)).average).astype(np.float64)
    return VersionLoss(without, {each: loss(average) for each, loss in losses.items()})
