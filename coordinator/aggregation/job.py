"""From a job of the chain to the bytes of the next version.

Every coordinator runs this on the same blobs and must get the same bytes.
"""

from collections.abc import Callable

from coordinator.admission import open_update
from coordinator.aggregation.registry import AGGREGATORS
from coordinator.aggregation.strategy import (
    ModelState,
    PackedModel,
    WeightedUpdate,
    pack_model,
)
from coordinator.ledger.views import Job, Member
from protocol.envelope import Envelope
from protocol.keys import OpeningKey
from protocol.task import TaskSpec

Fetch = Callable[[Member], tuple[Envelope, bytes]]
"""Gives a member's signed update and its sealed blob."""


def recompute(
    key: OpeningKey, spec: TaskSpec, job: Job, before: ModelState, fetch: Fetch
) -> PackedModel:
    """Computes the version that a job asks for.

    Args:
      key: Opens the blobs.
      spec: The task.
      job: Which updates count, and with what weight.
      before: The version that the job builds on.
      fetch: From the store; raises `StorageError` for a blob that is not there.

    Raises:
      AggregationError: If the updates have no weight.
      ProtocolError: If a blob does not open; it was opened at admission before.
    """

    def opened(member: Member) -> WeightedUpdate:
        update, blob = fetch(member)
        vector = open_update(key, update, blob, spec)
        return WeightedUpdate(vector, member.weight_q15, member.pledge)

    aggregator = AGGREGATORS[spec.aggregation.strategy](spec.aggregation)
    return pack_model(aggregator.apply(before, map(opened, job.members)))
