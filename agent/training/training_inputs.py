"""Inputs of one update's computation.

Letters: `n` records, `d` parameters.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starling.agent.training.trainer_messages import TrainingOrder

Real = NDArray[np.float32]


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
    mark: Callable[[int | None], None] = lambda _record: None
