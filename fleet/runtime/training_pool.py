"""The threads that train and evaluate for virtual boards."""

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from threading import local

import numpy as np
from numpy.typing import NDArray

from starling.agent.privacy.label_ledger import LabelLedger, LabelTerms
from starling.agent.trainer.dataset import BoardDataSet, Complaints
from starling.agent.trainer.engines.engine_registry import open_trainer
from starling.agent.trainer.label_drawing import answer_labels, inputs_digest
from starling.agent.training.local_descent import gradient, personal_steps
from starling.agent.training.local_training import train
from starling.agent.training.personal_layers import merged
from starling.agent.training.trainer_messages import TrainingOrder
from starling.agent.training.training_inputs import Trainer, TrainingInputs
from starling.coordinator.aggregation.contribution_scores import (
    RootGradients,
    RootModel,
    gradients_of,
    strata_of,
)
from starling.engine.opened_bundle import open_packed
from starling.fleet.attacks.attack_schedule import (
    COLLUDING,
    BoardAttack,
    attack_of,
)
from starling.fleet.attacks.falsified_training import collusion, falsified
from starling.fleet.attacks.update_attacks import backdoor_success, stamped
from starling.fleet.datasets.partition import Examples, Indices
from starling.fleet.report.model_evaluation import (
    as_fed,
    metrics_of,
    predictions,
    score,
)
from starling.fleet.report.model_metrics import (
    ModelMetrics,
    PersonalMetrics,
    over_boards,
)
from starling.fleet.runtime.training_material import TrainingMaterial
from starling.fleet.virtual.workload import Result, Score
from starling.protocol.errors import NonFinite
from starling.protocol.learning.metrics import Metrics
from starling.protocol.learning.task import LABEL_RESPONSE
from starling.protocol.model.label_classes import classes_of
from starling.protocol.model.parameter_layout import local_slices

_MICRO_BATCH = 32
_SMALL = 256
"""Parameters up to which a step takes less time than handing the interpreter over."""
_Trained = tuple[bytes, list[NDArray[np.float32]], list[NDArray[np.float32]]]
"""The update, what a board keeps of it, and its own model; the last two if any."""


class _PoolRoot:
    """The model on a root set that all coordinators of a fleet share."""

    def __init__(self, pool: "TrainingPool", examples: Examples) -> None:
        self._pool = pool
        self._examples = examples
        self._known: tuple[bytes, RootGradients] | None = None

    def gradients(self, theta: bytes) -> RootGradients:
        """See `contribution_scores.RootModel`; once for all coordinators."""
        # By value: all coordinators score the same version, and one does the work.
        if self._known is None or self._known[0] != theta:
            self._known = theta, self._gradients(np.frombuffer(theta, "<f4"))
        return self._known[1]

    def _gradients(self, theta: NDArray[np.float32]) -> RootGradients:
        trainer, root = self._pool.trainer(), self._examples

        def gradient_sum(rows: Indices, whose: Indices) -> NDArray[np.float64]:
            x, y = root.x[rows], root.y[whose]
            total = gradient(trainer, theta, x, y, _MICRO_BATCH)
            for places in local_slices(trainer.manifest.parameters):
                total[places] = 0.0
            return total

        return gradients_of(strata_of(root.y, theta.size), gradient_sum)

    def accuracy(self, theta: bytes) -> float:
        """See `contribution_scores.RootModel`."""
        parameters = np.frombuffer(theta, "<f4")
        found, _ = score(self._pool.trainer(), parameters, self._examples)
        assert found is not None, "a plan scores accuracy where targets are labels"
        return found


class TrainingPool:
    """Threads that train and evaluate; see `fleet.virtual.workload.Workload`.

    Attributes:
      personal: By board, from 0 on: its own model, once it has one.
    """

    def __init__(
        self,
        material: TrainingMaterial,
        seed: int,
        threads: int | None,
        attacks: Sequence[BoardAttack] = (),
        known: int = 1,
    ) -> None:
        """Starts the threads.

        Args:
          material: What is trained.
          seed: Of local batches, noise and rounding: virtual boards are to repeat,
            and have nothing to hide.
          threads: How many; by default all cores, and one for the smallest models.
          attacks: What boards falsify.
          known: Of how many honest updates, the latest begun, colluders know.
        """
        data, manifest = material.data, open_packed(material.bundle).manifest
        self._held_out = as_fed(data.held_out, manifest)
        self._test = None if data.test is None else as_fed(data.test, manifest)
        root = material.root
        self._root = None if root is None else _PoolRoot(self, as_fed(root, manifest))
        self._boards = [as_fed(board, manifest) for board in material.boards]
        self._bundle = material.bundle
        self._seed = seed
        self._loaded = local()
        # What each board keeps to itself, of bundles that have such parameters.
        self._own: dict[int, NDArray[np.float32]] = {}
        self._own_tests = [as_fed(test, manifest) for test in material.own_tests]
        self.personal: dict[int, NDArray[np.float32]] = {}
        self._manifest = manifest
        # Labels as they were drawn, once, by board and epsilon.
        self._answered: dict[tuple[int, int], Examples] = {}
        self._attacks = tuple(attacks)
        self._known: deque[tuple[int, Future[_Trained], TrainingOrder]] = deque(
            maxlen=known
        )
        self._pool = ThreadPoolExecutor(threads or _threads_for(manifest.dimension))

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown(cancel_futures=True)

    def examples(self, board: int) -> int:
        """See `Workload.examples`."""
        return len(self._boards[board])

    def train(self, board: int, order: TrainingOrder, theta: bytes) -> Result:
        """See `Workload.train`."""
        before, mine = self._own.get(board), self.personal.get(board)
        attack = attack_of(self._attacks, board + 1, order.base)
        colludes = attack is not None and attack.kind in COLLUDING
        carried_out = train if attack is None else partial(falsified, attack)

        data, answered = self._data(board, order), _draws_labels(order)

        def carry_out() -> _Trained:
            # Of its own for each training: a run repeats whichever thread is quicker.
            rng = np.random.default_rng((self._seed, board, order.base))
            trainer = self.trainer()
            places = local_slices(trainer.manifest.parameters)
            parameters = merged(np.frombuffer(theta, "<f4"), before, places)
            work = TrainingInputs(
                parameters, data.x, data.y, order, _MICRO_BATCH, answered=answered
            )
            kept: list[NDArray[np.float32]] = []
            payload = carried_out(trainer, work, rng.bytes, rng, keep=kept.append)
            exact = self._boards[board]
            # A model that is never sent learns the exact labels, also where an answer
            # is drawn.
            own = replace(work, x=exact.x, y=exact.y)
            return payload, kept, _personal(trainer, own, mine, rng)

        done = self._pool.submit(carry_out)
        if attack is None and self._attacks:
            self._known.append((board, done, order))

        def result() -> bytes:
            payload, kept, personal = done.result()
            if attack is not None and colludes:
                rng = np.random.default_rng((self._seed, board, order.base, 1))
                honest = self._honest()
                payload = collusion(attack, order, payload, honest, rng.bytes)
            # Only now is it certain that the board paid for what it keeps.
            self._own.update((board, after) for after in kept)
            self.personal.update((board, after) for after in personal)
            return payload

        return result

    def _data(self, board: int, order: TrainingOrder) -> Examples:
        """The board's examples, or what was drawn for their labels."""
        exact = self._boards[board]
        if not _draws_labels(order):
            return exact
        epsilon_micro = order.privacy.epsilon_micro
        key = board, epsilon_micro
        if key not in self._answered:
            terms = LabelTerms(
                inputs_digest(self._manifest),
                classes_of(self._manifest),
                epsilon_micro,
                epsilon_micro,
            )
            found = answer_labels(
                BoardDataSet(exact.x, exact.y, Complaints()),
                self._manifest,
                LabelLedger(),
                terms,
                np.random.default_rng((self._seed, *key)).bytes,
            )
            self._answered[key] = Examples(found.data.x, found.data.y)
        return self._answered[key]

    def _honest(self) -> list[tuple[bytes, TrainingOrder]]:
        """Updates that colluders know, in the order of the boards."""
        # Not in the order in which they began, so that a mimic's victim stays the same
        # board.
        begun = sorted(self._known, key=lambda each: each[0])
        return [(done.result()[0], order) for _, done, order in begun]

    def evaluate(self, inference: bytes) -> Score:
        """See `Workload.evaluate`."""
        return self._score(inference, self._held_out)

    @property
    def root(self) -> RootModel | None:
        """See `Workload.root`."""
        return self._root

    def metrics(self, inference: bytes) -> ModelMetrics | None:
        """Metrics of a version, overall and for each board, and of boards' own models.

        Args:
          inference: (d,) little-endian float32.

        Returns:
          None if it returns what is no finite number.
        """

        def work(examples: Examples) -> Metrics:
            theta = np.frombuffer(inference, "<f4")
            return metrics_of(self.trainer(), theta, examples)

        try:
            boards = over_boards(self._pool.map(work, self._boards))
            test = None if self._test is None else work(self._test)
            personal = self._personal_metrics(np.frombuffer(inference, "<f4"))
            held_out = work(self._held_out)
            return ModelMetrics(held_out, test, boards, personal, self._labels())
        except NonFinite:
            return None

    def _labels(self) -> tuple[str, ...]:
        """Names of the classes, or of what is answered by yes or no."""
        classes, table = tuple(self._manifest.classes), self._manifest.table
        if classes or table is None:
            return classes
        return tuple([target.name for target in table.targets])

    def _personal_metrics(self, theta: NDArray[np.float32]) -> PersonalMetrics | None:
        """Boards' own models against the fleet's, on what each board kept aside."""
        tests = [
            (mine, self._own_tests[board])
            for board, mine in sorted(self.personal.items())
            if len(self._own_tests[board])
        ]
        if not tests:
            return None

        def work(mine: NDArray[np.float32], test: Examples) -> Metrics:
            return metrics_of(self.trainer(), mine, test)

        own = over_boards(self._pool.map(lambda each: work(*each), tests))
        fleets = over_boards(self._pool.map(lambda each: work(theta, each[1]), tests))
        return PersonalMetrics(own, fleets)

    def backdoor_success(self, inference: bytes, target: int) -> float | None:
        """Share of stamped examples that a backdoor turns to its target.

        Args:
          inference: (d,) little-endian float32.
          target: The class that the backdoor is for.

        Returns:
          A share of the test examples, or of the held-out ones where there are none.
        """
        examples = self._held_out if self._test is None else self._test

        def work() -> float | None:
            theta = np.frombuffer(inference, "<f4")
            marked = Examples(stamped(examples.x), examples.y)
            predicted = predictions(self.trainer(), theta, marked)
            return backdoor_success(predicted, examples.y, target)

        return self._pool.submit(work).result()

    def _score(
        self, inference: bytes, examples: Examples
    ) -> Callable[[], tuple[float | None, float]]:
        def work() -> tuple[float | None, float]:
            return score(self.trainer(), np.frombuffer(inference, "<f4"), examples)

        return self._pool.submit(work).result

    def trainer(self) -> Trainer:
        """The bundle, loaded for this thread."""
        # One session per thread, so that none waits for another's memory arena.
        if not hasattr(self._loaded, "trainer"):
            self._loaded.trainer = open_trainer(self._bundle)
        trainer: Trainer = self._loaded.trainer
        return trainer


def _threads_for(dimension: int) -> int:
    return 1 if dimension < _SMALL else os.cpu_count() or 1


def _draws_labels(order: TrainingOrder) -> bool:
    return order.privacy.mechanism == LABEL_RESPONSE


def _personal(
    trainer: Trainer,
    work: TrainingInputs,
    mine: NDArray[np.float32] | None,
    rng: np.random.Generator,
) -> list[NDArray[np.float32]]:
    """The board's own model after an update; none if there is none, or it diverges."""
    if not work.order.personal.epochs:
        return []
    try:
        start = work.theta if mine is None else mine
        return [personal_steps(trainer, work, start, rng)]
    except NonFinite:
        return []
