"""Inputs of one update's computation: a loaded bundle, an order and records.

Letters: `n` records, `d` parameters.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from starling.agent.training.trainer_messages import TrainingOrder
from starling.protocol.model.training_bundle import BundleManifest

Real = NDArray[np.float32]


class Trainer(Protocol):
    """A loaded bundle: its graphs as functions.

    Arrays: `theta (d,) float32`, `x (n, *input)`, `y (n, *target)` as the bundle's
    manifest says, after its pre-processing. What is returned is the caller's to keep
    and to change; a step is fastest where theta is the same array as before.
    """

    @property
    def manifest(self) -> BundleManifest:
        """Manifest of the bundle."""

    @property
    def theta(self) -> Real:
        """(d,) float32: the parameters that the bundle came with."""

    def gradient_sum(
        self, theta: Real, x: NDArray[Any], y: NDArray[Any]
    ) -> tuple[Real, Real]:
        """The sum of the gradients (d,), and each record's loss (n,).

        Raises:
          EngineError: If the engine cannot run it.
        """

    def private_gradient_sum(
        self, theta: Real, x: NDArray[Any], y: NDArray[Any], clip: float
    ) -> tuple[Real, Real]:
        """The sum of gradients of norm at most `clip` (d,), and norms before it (n,).

        Raises:
          EngineError: If the engine cannot run it.
        """

    def evaluate(
        self, theta: Real, x: NDArray[Any], y: NDArray[Any]
    ) -> tuple[Real, NDArray[Any]]:
        """Each record's loss (n,) and output (n, ...).

        Raises:
          EngineError: If the engine cannot run it.
        """

    def infer(self, theta: Real, x: NDArray[Any]) -> NDArray[Any]:
        """Each record's output (n, ...), without a target.

        Raises:
          EngineError: If the engine cannot run it.
        """


@dataclass(frozen=True, eq=False)
class TrainingInputs:
    """An order, with the parameters and records to carry it out on.

    Attributes:
      theta: (d,) float32, the base version's parameters.
      x: (n, *input), as the bundle's manifest says.
      y: (n, *target).
      order: What to train.
      micro_batch: Records that are computed together, at most; one alone where the
        noise is for a record.
      trusted: Whether the owner lets the bundle's own graph clip.
      answered: Whether y holds drawn labels, where the task has labels drawn.
      skipped: Numbers of records that count as none: the engine crashed at them.
      mark: Told of each record before anything is computed of it, and None after them.
    """

    theta: Real
    x: NDArray[Any]
    y: NDArray[Any]
    order: TrainingOrder
    micro_batch: int
    trusted: bool = False
    skipped: frozenset[int] = frozenset()
    answered: bool = False
    mark: Callable[[int | None], None] = lambda _record: None
