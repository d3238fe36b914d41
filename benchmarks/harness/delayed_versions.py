"""Versions from updates whose lateness is chosen: no clock, no chain, no luck.

Boards train with the engine of a board and encode as a board does; the coordinator's
own strategy makes the versions. Only who is late, and by how much, is dictated.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from starling.agent.training.trainer_messages import TrainingOrder
from starling.coordinator.aggregation.strategy import (
    ModelState,
    WeightedUpdate,
    pack_model,
    unpack_model,
)
from starling.coordinator.aggregation.strategy_registry import aggregator_of
from starling.coordinator.task_file.task_settings import publication
from starling.fleet import FleetPlan
from starling.fleet.presets import task_settings
from starling.fleet.runtime.training_material import prepare
from starling.fleet.runtime.training_pool import TrainingPool
from starling.protocol.ids import H, TaskId, Version
from starling.protocol.learning.task import TaskSpec
from starling.protocol.learning.vector_codecs import CODECS

BasesOf = Callable[[int], int]
"""From the number of a version to the base of all its updates."""
FLOOR = 40
"""The version from which a fall counts."""
REACHED = 0.94


def pure_delay(tau: int) -> BasesOf:
    """Every update is `tau` versions old."""
    return lambda version: max(0, version - 1 - tau)


def cohorts(size: int) -> BasesOf:
    """Boards go in herds: `size` versions in a row come from one base."""
    return lambda version: (version - 1) // size * size


@dataclass(frozen=True)
class LateRun:
    """Accuracy on held-out examples, version by version from the first."""

    accuracies: tuple[float, ...]

    @property
    def last(self) -> float:
        """Of the last version."""
        return self.accuracies[-1]

    @property
    def least(self) -> float:
        """The lowest from version `FLOOR` on."""
        return min(self.accuracies[FLOOR - 1 :])

    @property
    def fall(self) -> float:
        """The most by which a version from `FLOOR` on is below the best before it."""
        best, most = 0.0, 0.0
        for version, accuracy in enumerate(self.accuracies, 1):
            if version >= FLOOR:
                most = max(most, best - accuracy)
            best = max(best, accuracy)
        return most

    @property
    def reached(self) -> int | None:
        """The first version with `REACHED`; None if there is none."""
        numbered = enumerate(self.accuracies, 1)
        return next((number for number, each in numbered if each >= REACHED), None)


def late_run(
    plan: FleetPlan, bases: BasesOf, keep: Callable[[bytes], None] = lambda _: None
) -> LateRun:
    """Makes `plan.until_version` versions of `plan.buffer` updates each.

    Args:
      plan: What is trained, by whom, and by which rule; its seed decides who is next.
      bases: How late updates are.
      keep: Called with the parameters of each version as boards get them.

    Raises:
      ConfigError: If the plan makes no valid task.
    """
    material = prepare(plan)
    plan = material.plan
    settings = task_settings(plan, material.shares)
    task = publication(settings, material.bundle, "task")
    workers = TrainingPool(material, plan.seed, 1)
    try:
        initial = task.model
        state = unpack_model(initial.theta, initial.momentum, initial.average)
        found = _versions(plan, task.spec, workers, state, bases, keep)
        return LateRun(tuple(found))
    finally:
        workers.close()


def _versions(
    plan: FleetPlan,
    spec: TaskSpec,
    workers: TrainingPool,
    state: ModelState,
    bases: BasesOf,
    keep: Callable[[bytes], None],
) -> Iterator[float]:
    aggregator = aggregator_of(spec.aggregation, spec.privacy, spec.codec)
    rng = np.random.default_rng((plan.seed, 2))
    models = {0: pack_model(state).training}
    deck: list[int] = []
    for version in range(1, plan.until_version + 1):
        base = bases(version)
        if base == version - 1 or len(deck) < plan.buffer:
            deck = rng.permutation(plan.devices).tolist()
        boards, deck = deck[: plan.buffer], deck[plan.buffer :]
        weight_q15 = spec.aggregation.staleness_q15[version - 1 - base]
        late = [
            _update(spec, workers, board, base, models[base], weight_q15)
            for board in boards
        ]
        state = aggregator.apply(state, late, version)
        made = pack_model(state)
        models[version] = made.training
        keep(made.training)
        scored = workers.evaluate(made.inference)()
        assert scored is not None
        yield scored[0] or 0.0


def _update(
    spec: TaskSpec,
    workers: TrainingPool,
    board: int,
    base: int,
    theta: bytes,
    weight_q15: int,
) -> WeightedUpdate:
    order = TrainingOrder(
        TaskId(0),
        Version(base),
        spec.bundle,
        H(theta),
        spec.dimension,
        spec.codec,
        spec.pledge_for(workers.examples(board)),
        spec.training,
        spec.privacy,
        1,
    )
    payload = workers.train(board, order, theta)()
    vector = CODECS[spec.codec].decode(payload, spec.dimension)
    return WeightedUpdate(vector, weight_q15, order.pledge, base, bytes([board]) * 16)
