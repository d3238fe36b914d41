"""Advice to the owner whose update without noise leaves its range."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def largest_column(inputs: NDArray[Any]) -> str:
    """Names the input column with the largest value, and what others reach.

    Args:
      inputs: (n, ...) numbers, perhaps not finite.

    Returns:
      Words for a message; columns count from 1 in the order of a flattened record.
      Empty for no records, or none of numbers.
    """
    if not inputs.size or not np.issubdtype(inputs.dtype, np.number):
        return ""
    flat = np.abs(inputs.reshape(len(inputs), -1).astype(np.float64))
    reach = np.where(np.isfinite(flat), flat, np.inf).max(axis=0)
    column = int(reach.argmax())
    usual = float(np.median(reach))
    return (
        f"column {column + 1} of {len(reach)} of its data reaches {reach[column]:.4g}, "
        f"half of them no more than {usual:.4g}"
    )


def way_out(inputs: NDArray[Any]) -> str:
    """Advice on what can be done about it, with `largest_column`."""
    where = largest_column(inputs)
    ways = "scale the data to about 1, or lower the local learning rate"
    return f"{where}; {ways}" if where else ways
