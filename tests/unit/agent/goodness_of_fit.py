"""What the tests of samplers share: a seeded stream, and the test of a law."""

from collections.abc import Callable

import numpy as np
from nacl.utils import randombytes_deterministic
from numpy.typing import NDArray
from scipy.stats import chi2

from starling.protocol.ids import H

Draw = Callable[[int], bytes]
Weight = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""An unnormalised probability of each integer."""


def stream(seed: int) -> Draw:
    """ChaCha20 under a seed."""
    calls = iter(range(1 << 30))

    def draw(size: int) -> bytes:
        key = H(seed.to_bytes(8, "little"), next(calls).to_bytes(8, "little"))
        return randombytes_deterministic(size, key)

    return draw


def chi_square(sample: NDArray[np.int64], weight: Weight, edge: int) -> float:
    """The chi-square test's p-value against a law, pooled beyond the edge."""
    support = np.arange(-20 * edge, 20 * edge + 1)
    law = weight(support.astype(np.float64))
    binned = np.clip(support, -edge, edge) + edge
    expected = np.bincount(binned, law / law.sum()) * sample.size
    seen = np.bincount(np.clip(sample, -edge, edge) + edge, minlength=2 * edge + 1)
    statistic = float(((seen - expected) ** 2 / expected).sum())
    return float(chi2.sf(statistic, expected.size - 1))
