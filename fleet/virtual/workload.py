"""The work that takes time: training on a board, evaluation at the coordinator."""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from starling.agent.training.trainer_messages import TrainingOrder
from starling.coordinator.aggregation.contribution_scores import RootModel
from starling.protocol.learning.vector_codecs import CODECS, GridVector

Result = Callable[[], bytes]
"""Waits for an encoded update and returns it."""
Score = Callable[[], tuple[float | None, float] | None]
"""Waits for accuracy and mean loss; None where nothing was evaluated."""


class Workload(Protocol):
    """Interface of the computation, perhaps on other threads."""

    def examples(self, board: int) -> int:
        """Number of a board's examples; it pledges the next smaller size."""

    def train(self, board: int, order: TrainingOrder, theta: bytes) -> Result:
        """Begins a training.

        Args:
          board: Its number.
          order: What to train.
          theta: (d,) little-endian float32.
        """

    def evaluate(self, inference: bytes) -> Score:
        """Begins an evaluation of (d,) little-endian float32."""

    @property
    def root(self) -> RootModel | None:
        """The model on the coordinators' root set; None where nothing is scored."""


class ZeroWorkload:
    """Boards that send a vector of zeros at once: what is left is Starling's own."""

    def __init__(self, examples: int) -> None:
        """Every board claims so many examples."""
        self._examples = examples
        self._payloads: dict[tuple[int, int], bytes] = {}

    def examples(self, board: int) -> int:
        """See `Workload.examples`."""
        del board
        return self._examples

    def train(self, board: int, order: TrainingOrder, theta: bytes) -> Result:
        """See `Workload.train`."""
        del board, theta
        key = (order.codec, order.dimension)
        if key not in self._payloads:
            zeros = GridVector(np.zeros(order.dimension, np.int64), 0)
            # `bytes(n)` stands for the randomness: zeros round to zeros whatever is
            # drawn.
            self._payloads[key] = CODECS[order.codec].encode(zeros, bytes)
        payload = self._payloads[key]
        return lambda: payload

    def evaluate(self, inference: bytes) -> Score:
        """See `Workload.evaluate`."""
        del inference
        return lambda: None

    @property
    def root(self) -> None:
        """See `Workload.root`."""
        return
