"""What one update is computed from.

Letters: `n` records, `d` parameters.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.orders import TrainingOrder

Real = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Work:
    """An order, with the parameters and records to carry it out on.

    Attributes:
      theta: (d,) float32, the base version's parameters.
      x: (n, *input), as the bundle's manifest says.
      y: (n, *target).
      order: What to train.
      micro_batch: Records that are computed together, at most; one alone where the
        noise is for a record.
      trusted: Whether the owner lets the bundle's own graph clip.
    """

    theta: Real
    x: NDArray[Any]
    y: NDArray[Any]
    order: TrainingOrder
    micro_batch: int
    trusted: bool = False
