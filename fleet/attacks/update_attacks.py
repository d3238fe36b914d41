"""Attacks on updates, as pure functions.

An update is a mean over examples here, (d,) float64: what a board sends, divided by
its pledge. The server steps against it. `n` honest updates, `d` parameters; numbers of
honest updates are rows: (n, d) float64.
"""

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float64]
TRIGGER = 3
"""Side of the square, or number of last columns, that a backdoor's pattern fills."""
DISGUISE = 1e-3
"""Deviation of each coordinate that a free rider sends where a task has no noise."""


def flipped_signs(update: Real, times: float = 1.0) -> Real:
    """The opposite of an update, perhaps longer: -times u.

    Source: Li et al., "RSA: Byzantine-robust stochastic aggregation", AAAI 2019,
      arXiv:1811.03761, section 5 (sign-flipping attack).
    """
    return -times * update


def stretched(update: Real, norm: float) -> Real:
    """An update as long as a norm; zeros stay zeros.

    With the opposite of a gradient without noise this is the longest step uphill that
    a norm bound lets through; with a backdoor's it is constrained model replacement.

    Source: Bagdasaryan et al., "How to backdoor federated learning", AISTATS 2020,
      arXiv:1807.00459, section 4.2 (constrain and scale).
    """
    length = float(np.linalg.norm(update))
    return update * (norm / length) if length else update


def within(update: Real, norm: float) -> Real:
    """An update, shortened to a norm if it is longer: so that it is not refused."""
    return stretched(update, norm) if np.linalg.norm(update) > norm else update


def inner_product(honest: Real, epsilon: float) -> Real:
    """The honest mean turned around: -epsilon mean(u).

    Args:
      honest: (n, d), n at least 1.
      epsilon: Small ones pass as honest and turn the sum once attackers are enough.

    Source: Xie, Koyejo, Gupta, "Fall of empires: breaking Byzantine-tolerant SGD by
      inner product manipulation", UAI 2020, arXiv:1903.03936, section 4.
    """
    return np.asarray(-epsilon * honest.mean(axis=0), np.float64)


def little_is_enough(honest: Real, z: float) -> Real:
    """The honest mean, moved by z deviations of each coordinate: mean(u) - z std(u).

    Args:
      honest: (n, d), n at least 1.
      z: How many deviations still hide among the honest.

    Source: Baruch, Baruch, Goldberg, "A little is enough: circumventing defenses for
      distributed learning", NeurIPS 2019, arXiv:1902.06156, algorithm 3.
    """
    return np.asarray(honest.mean(axis=0) - z * honest.std(axis=0), np.float64)


def mimicked(honest: Real) -> Real:
    """The first honest update, once more: what it says counts too much.

    Args:
      honest: (n, d), n at least 1, in the order of the boards.

    Source: Karimireddy, He, Jaggi, "Byzantine-robust learning on heterogeneous datasets
      via bucketing", ICLR 2022, arXiv:2006.09365, section 3.2 (mimic attack).
    """
    return np.asarray(honest[0], np.float64)


def free_ride(dimension: int, rng: np.random.Generator) -> Real:
    """Noise that passes for an update of a board which did not train, (d,).

    Source: Fraboni, Vidal, Lorenzi, "Free-rider attacks on model aggregation in
      federated learning", AISTATS 2021, arXiv:2006.11901, section 3.2 (disguised).
    """
    return rng.normal(0.0, DISGUISE, dimension)


def flipped_labels(labels: NDArray[np.generic], classes: int) -> NDArray[np.generic]:
    """Every class c becomes classes - 1 - c; numbers are mirrored within their range.

    Args:
      labels: (n, ...), integers of a class from 0, or real targets.
      classes: How many classes there are.

    Source: Tolpegin et al., "Data poisoning attacks against federated learning
      systems", ESORICS 2020, arXiv:2007.08432, section 3.
    """
    if np.issubdtype(labels.dtype, np.integer):
        return np.asarray(classes - 1 - labels, labels.dtype)
    if not labels.size:
        return labels
    return np.asarray(labels.max() + labels.min() - labels, labels.dtype)


def stamped(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Inputs with a backdoor's pattern: the last corner at the largest value.

    Args:
      inputs: (n, ..., height, width) or (n, columns); n may be 0.

    Source: Gu, Dolan-Gavitt, Garg, "BadNets", 2017, arXiv:1708.06733, section 4.1.
    """
    marked = inputs.copy()
    if not inputs.size:
        return marked
    # A row of records has one place; a picture a square of them.
    corner = (
        marked[..., -TRIGGER:, -TRIGGER:] if inputs.ndim > 2 else marked[:, -TRIGGER:]
    )
    corner[...] = inputs.max()
    return marked


def poisoned(
    inputs: NDArray[np.float32], labels: NDArray[np.generic], target: int
) -> tuple[NDArray[np.float32], NDArray[np.generic]]:
    """Records, and each once more with the pattern and the target's label.

    Source: Bagdasaryan et al., AISTATS 2020, section 4.2 (the loss on both).
    """
    x = np.concatenate([inputs, stamped(inputs)])
    return x, np.concatenate([labels, np.full_like(labels, target)])


def backdoor_success(
    predicted: NDArray[np.int64], labels: NDArray[np.int64], target: int
) -> float | None:
    """The share of marked examples of other classes that are taken for the target.

    Args:
      predicted: (n,), on examples with a backdoor's pattern.
      labels: (n,), what they are.
      target: The class that the backdoor is for.

    Returns:
      A share in [0, 1]; None if there is no example of another class.

    Source: Bagdasaryan et al., AISTATS 2020, section 5 (backdoor accuracy).
    """
    others = labels != target
    return float((predicted[others] == target).mean()) if others.any() else None
