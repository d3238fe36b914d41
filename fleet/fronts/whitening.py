"""A public preconditioner: features centred and gently whitened.

Gradients of a head on raw features have steep and flat directions; noise is alike in
all, and clipping too. With `S` the covariance of public features, `x` becomes
`(S + rho tr(S)/d)^-p (x - mean)`, of the leading directions only.

Letters: `n` pictures, `d` features, `k` kept directions.

Source: Kessy, Lewin, Strimmer 2018, arXiv:1512.00809 (whitening, p = 1/2); Ledoit and
Wolf 2004 (the part of the identity).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from starling.fleet.onnx_layers import ModelLayers


@dataclass(frozen=True)
class Whitening:
    """A linear map of features.

    Attributes:
      mean: (d,) float64.
      directions: (d, k) float64.
    """

    mean: NDArray[np.float64]
    directions: NDArray[np.float64]


def whitening_of(
    features: NDArray[np.float32], keep: int, power: float, ridge: float
) -> Whitening:
    """Measures the map.

    Args:
      features: (n, d), public.
      keep: k, at most d.
      power: p, in (0, 1/2].
      ridge: rho, positive.

    Returns:
      Directions by falling variance, each with its largest entry positive, so that they
      do not depend on the solver's choice of signs.
    """
    mean = features.mean(0, dtype=np.float64)
    centred = features - mean
    covariance = centred.T @ centred / len(features)
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1][:keep], vectors[:, ::-1][:, :keep]
    largest = vectors[np.abs(vectors).argmax(0), np.arange(keep)]
    vectors = vectors * np.sign(largest)
    # Small variances are mostly chance: unbounded, their directions would carry the
    # noise.
    floor = ridge * np.trace(covariance) / len(covariance)
    return Whitening(mean, vectors * (np.maximum(values, 0.0) + floor) ** -power)


def add_whitening(layers: ModelLayers, features: str, found: Whitening) -> str:
    """Adds the map; (n, d) becomes (n, k)."""
    directions = layers.weight("front.directions", found.directions)
    offset = layers.weight("front.offset", -found.mean @ found.directions)
    return layers.node("Gemm", [features, directions, offset])
