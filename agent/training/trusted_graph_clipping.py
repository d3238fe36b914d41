"""Clipped sums for owners who trust their compiler: many records to one call.

`private_gradient.onnx` clips by itself. Whether it does cannot be seen on a board, so
that nothing of this runs unless the owner said `trust_bundle`. Then records stand in
fixed slots, every call has the same shape, empty slots hold an all-zero record whose
contribution is subtracted again, and the graph gets a clip that is smaller by what
float32 may add.

Letters: `d` parameters, `n` records, `b` records in a micro-batch.

Source: docs/privacy.md (trust in the bundle).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starling.protocol.errors import NonFinite

Step = Callable[
    [NDArray[Any], NDArray[Any]], tuple[NDArray[np.float32], NDArray[np.float32]]
]
"""Runs the private gradient on `x (b, ...)`, `y (b, ...)`: the sum of the clipped
per-example gradients `(d,) float32` and the norms before clipping `(b,) float32`."""

MICRO_BATCH_MAX = 64
"""Most records of one float32 sum: clipping and summing them adds a share of 2^-10 to
the clip at the most."""
TRUSTED_SHARE = 1.0 - 2.0**-9
"""Share of the clip that the graph is given: what is left covers the margin, and
rounding the sum to the grid."""


def slot_sum(
    step: Step, x: NDArray[Any], y: NDArray[Any], micro_batch: int
) -> NDArray[np.float64]:
    """The sum of clipped per-example gradients, one slot of one micro-batch a record.

    Empty slots of the last micro-batch are filled with an all-zero record, whose
    gradient, known from a micro-batch of nothing else, is taken off again. A record
    with a non-finite gradient counts as an empty slot.

    Args:
      step: The private gradient at the current theta and clip.
      x: (n, ...) records; a record's position decides its slot.
      y: (n, ...) labels.
      micro_batch: b, in [1, 64]; every call of `step` has that many rows.

    Returns:
      (d,) float64; zeros for n = 0.

    Raises:
      NonFinite: If the model itself gives no finite gradient: nothing to do with data.
    """
    assert 1 <= micro_batch <= MICRO_BATCH_MAX, micro_batch
    assert len(x) == len(y)
    slots = np.full(-(-len(x) // micro_batch) * micro_batch, -1, np.int64)
    slots[: len(x)] = np.arange(len(x))

    pad_x = np.zeros((micro_batch, *x.shape[1:]), x.dtype)
    pad_y = np.zeros((micro_batch, *y.shape[1:]), y.dtype)
    pad_sum, _ = step(pad_x, pad_y)
    pad = np.asarray(pad_sum, np.float64) / micro_batch
    if not np.isfinite(pad).all():
        raise NonFinite("the model has no finite gradient at an all-zero record")
    total = np.zeros_like(pad)
    for members in slots.reshape(-1, micro_batch):
        filled = members >= 0
        slots_x, slots_y = pad_x.copy(), pad_y.copy()
        slots_x[filled], slots_y[filled] = x[members[filled]], y[members[filled]]
        gradient, norms = step(slots_x, slots_y)
        unusable = ~np.isfinite(norms) & filled
        if unusable.any():
            # One row that is not finite spoils the sum of its micro-batch, so that it
            # is computed once more with an empty slot in its place.
            slots_x[unusable], slots_y[unusable] = pad_x[0], pad_y[0]
            gradient, _ = step(slots_x, slots_y)
        total += np.asarray(gradient, np.float64) - (~filled | unusable).sum() * pad
    return total
