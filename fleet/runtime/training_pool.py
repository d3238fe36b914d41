"""Setting up what a fleet trains, and the threads that train for virtual boards."""

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import local

import numpy as np
from numpy.typing import NDArray

from starling.agent.trainer.engines.engine_registry import open_trainer
from starling.agent.training.local_training import Trainer, train
from starling.agent.training.personal_layers import merged
from starling.agent.training.trainer_messages import TrainingOrder
from starling.agent.training.training_inputs import TrainingInputs
from starling.compiler import compile_model
from starling.fleet.attacks.attack_schedule import (
    COLLUDING,
    BoardAttack,
    attack_of,
)
from starling.fleet.attacks.falsified_training import collusion, falsified
from starling.fleet.attacks.update_attacks import backdoor_success, stamped
from starling.fleet.datasets.partition import Examples, deal
from starling.fleet.plan import FleetPlan
from starling.fleet.presets import DataShares, model_name
from starling.fleet.reference_models import MODEL_SUFFIX, build_model
from starling.fleet.report.model_metrics import ModelMetrics, over_boards
from starling.fleet.runtime.dataset_catalog import FleetDataSet, open_data_set
from starling.fleet.virtual.workload import Result, Score
from starling.protocol.errors import ConfigError, NonFinite
from starling.protocol.learning.metrics import Metrics, measured
from starling.protocol.model.parameter_layout import local_slices

_MICRO_BATCH = 32
_Trained = tuple[bytes, list[NDArray[np.float32]]]
_EVALUATION_BATCH = 500


@dataclass(frozen=True)
class TrainingMaterial:
    """Everything that a fleet starts from; a function of the plan.

    Attributes:
      data: The data set.
      boards: Each board's examples.
      shares: What they hold.
      bundle: The packed training bundle.
    """

    data: FleetDataSet
    boards: list[Examples]
    shares: DataShares
    bundle: bytes


def prepare(plan: FleetPlan) -> TrainingMaterial:
    """Reads the data, deals them out, builds and compiles the model.

    Raises:
      ConfigError: Naming the flag or file at fault.
    """
    rng = np.random.default_rng(plan.seed)
    data = open_data_set(plan.data, rng)
    boards = deal(data.training, plan.devices, plan.split, rng)
    sizes = [len(board) for board in boards]
    shares = DataShares(data.training.x.shape[1:], min(sizes), max(sizes))
    bundle = _bundle(plan, shares, data.classes, rng)
    return TrainingMaterial(data, boards, shares, bundle)


def _bundle(
    plan: FleetPlan, shares: DataShares, classes: int, rng: np.random.Generator
) -> bytes:
    """Makes a model or reads one, and compiles it.

    Raises:
      ConfigError: If the model does not fit the data, or its file cannot be read.
    """
    if plan.model is None or not plan.model.endswith(MODEL_SUFFIX):
        model = build_model(model_name(plan, shares), shares.shape, classes, rng)
        return compile_model(model, loss="cross-entropy").packed
    bundle = compile_model(Path(plan.model), loss="cross-entropy")
    ports = bundle.manifest
    if ports.input.shape != shares.shape or ports.output.shape[-1] < classes:
        raise ConfigError(
            f"takes {ports.input.shape} and gives {ports.output.shape[-1]} scores; the "
            f"data are {shares.shape} of {classes} classes",
            file=plan.model,
            key="--model",
        )
    return bundle.packed


def score(
    trainer: Trainer, theta: NDArray[np.float32], examples: Examples
) -> tuple[float, float]:
    """Accuracy and mean loss of a classifier.

    Args:
      trainer: The bundle.
      theta: (d,).
      examples: At least one.
    """
    correct, loss_sum = 0, 0.0
    for start in range(0, len(examples), _EVALUATION_BATCH):
        rows = slice(start, start + _EVALUATION_BATCH)
        y = examples.y[rows]
        loss, output = trainer.evaluate(theta, examples.x[rows], y)
        correct += int((output.argmax(axis=1) == y).sum())
        loss_sum += float(loss.sum(dtype=np.float64))
    return correct / len(examples), loss_sum / len(examples)


def metrics_of(
    trainer: Trainer, theta: NDArray[np.float32], examples: Examples
) -> Metrics:
    """The metrics that fit the bundle's loss.

    Args:
      trainer: The bundle.
      theta: (d,).
      examples: At least one.

    Raises:
      NonFinite: If the model returns what is no finite number.
    """
    rows = [
        slice(start, start + _EVALUATION_BATCH)
        for start in range(0, len(examples), _EVALUATION_BATCH)
    ]
    found = [trainer.evaluate(theta, examples.x[row], examples.y[row]) for row in rows]
    losses, outputs = [np.concatenate(parts) for parts in zip(*found, strict=True)]
    return measured(trainer.manifest.loss, outputs, examples.y, losses)


def predictions(
    trainer: Trainer, theta: NDArray[np.float32], examples: Examples
) -> NDArray[np.int64]:
    """The class of each example, (n,).

    Args:
      trainer: The bundle.
      theta: (d,).
      examples: At least one.
    """
    found = []
    for start in range(0, len(examples), _EVALUATION_BATCH):
        rows = slice(start, start + _EVALUATION_BATCH)
        _, output = trainer.evaluate(theta, examples.x[rows], examples.y[rows])
        found.append(output.argmax(axis=1))
    return np.concatenate(found)


class TrainingPool:
    """Threads that train and evaluate; see `fleet.virtual.workload.Workload`."""

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
          threads: How many; all cores by default.
          attacks: What boards falsify.
          known: Of how many honest updates, the latest begun, colluders know.
        """
        self._material = material
        self._seed = seed
        self._loaded = local()
        # What each board keeps to itself, of bundles that have such parameters.
        self._own: dict[int, NDArray[np.float32]] = {}
        self._attacks = tuple(attacks)
        self._known: deque[tuple[int, Future[_Trained], TrainingOrder]] = deque(
            maxlen=known
        )
        self._pool = ThreadPoolExecutor(threads or os.cpu_count() or 1)

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown(cancel_futures=True)

    def examples(self, board: int) -> int:
        """See `Workload.examples`."""
        return len(self._material.boards[board])

    def train(self, board: int, order: TrainingOrder, theta: bytes) -> Result:
        """See `Workload.train`."""
        before = self._own.get(board)
        attack = attack_of(self._attacks, board + 1, order.base)
        colludes = attack is not None and attack.kind in COLLUDING
        carried_out = train if attack is None else partial(falsified, attack)

        def carry_out() -> _Trained:
            data = self._material.boards[board]
            rng = np.random.default_rng((self._seed, board, order.base))
            trainer = self._trainer()
            places = local_slices(trainer.manifest.parameters)
            parameters = merged(np.frombuffer(theta, "<f4"), before, places)
            work = TrainingInputs(parameters, data.x, data.y, order, _MICRO_BATCH)
            kept: list[NDArray[np.float32]] = []
            payload = carried_out(trainer, work, rng.bytes, rng, keep=kept.append)
            return payload, kept

        done = self._pool.submit(carry_out)
        if attack is None and self._attacks:
            self._known.append((board, done, order))

        def result() -> bytes:
            payload, kept = done.result()
            if attack is not None and colludes:
                rng = np.random.default_rng((self._seed, board, order.base, 1))
                honest = self._honest()
                payload = collusion(attack, order, payload, honest, rng.bytes)
            # Only now is it certain that the board paid for what it keeps.
            self._own.update((board, after) for after in kept)
            return payload

        return result

    def _honest(self) -> list[tuple[bytes, TrainingOrder]]:
        """Updates that colluders know, in the order of the boards."""
        begun = sorted(self._known, key=lambda each: each[0])
        return [(done.result()[0], order) for _, done, order in begun]

    def evaluate(self, inference: bytes) -> Score:
        """See `Workload.evaluate`."""
        return self._score(inference, self._material.data.held_out)

    def metrics(self, inference: bytes) -> ModelMetrics | None:
        """Metrics of a version, overall and for each board.

        Args:
          inference: (d,) little-endian float32.

        Returns:
          None if it returns what is no finite number.
        """
        data = self._material.data

        def work(examples: Examples) -> Metrics:
            theta = np.frombuffer(inference, "<f4")
            return metrics_of(self._trainer(), theta, examples)

        try:
            boards = over_boards(self._pool.map(work, self._material.boards))
            test = None if data.test is None else work(data.test)
            return ModelMetrics(work(data.held_out), test, boards)
        except NonFinite:
            return None

    def backdoor_success(self, inference: bytes, target: int) -> float | None:
        """Share of stamped examples that a backdoor turns to its target.

        Args:
          inference: (d,) little-endian float32.
          target: The class that the backdoor is for.

        Returns:
          A share of the test examples, or of the held-out ones where there are none.
        """
        data = self._material.data
        examples = data.held_out if data.test is None else data.test

        def work() -> float | None:
            theta = np.frombuffer(inference, "<f4")
            marked = Examples(stamped(examples.x), examples.y)
            predicted = predictions(self._trainer(), theta, marked)
            return backdoor_success(predicted, examples.y, target)

        return self._pool.submit(work).result()

    def _score(
        self, inference: bytes, examples: Examples
    ) -> Callable[[], tuple[float, float]]:
        def work() -> tuple[float, float]:
            return score(self._trainer(), np.frombuffer(inference, "<f4"), examples)

        return self._pool.submit(work).result

    def _trainer(self) -> Trainer:
        # One session per thread, so that none waits for another's memory arena.
        if not hasattr(self._loaded, "trainer"):
            self._loaded.trainer = open_trainer(self._material.bundle)
        trainer: Trainer = self._loaded.trainer
        return trainer
